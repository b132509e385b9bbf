"""What the local stacks are started with passes the preflight that a run begins with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.run import preflight
from pytest_mooncake.stack.local import components
from pytest_mooncake.stack.preflight import Subject, lint
from pytest_mooncake.stack.preflight.sources.commands import flags_of
from tests.support.local_site import make_site


@pytest.mark.parametrize("name", ["local", "local-mooncakestore"])
def test_a_local_stack_has_no_findings(name: str, tmp_path: Path) -> None:
    plan = resolve(Options(stack=name), tmp_path).stack
    site = make_site(plan)
    command = components.engine(plan, site, 0, fork=False)
    (tmp_path / "lmcache.yaml").write_text(yaml.safe_dump(components.lmcache_settings(plan, site, 0)))
    (tmp_path / "mooncake.json").write_text(json.dumps(components.mooncake_settings(plan, site)))
    env = dict(command.env)
    for variable, file in (("LMCACHE_CONFIG_FILE", "lmcache.yaml"), ("MOONCAKE_CONFIG_PATH", "mooncake.json")):
        if variable in env:
            env[variable] = str(tmp_path / file)
    engine = preflight._engine("vllm-0", list(command.argv), env)
    subject = Subject(
        engines=(engine,),
        versions={"vllm": "0.32.0", "lmcache": "0.5.6", "mooncake": "0.3.13.post1", "mooncake-master": "0.3.13.post1"},
        master_flags=flags_of(components.master(plan, site).argv[1:]),
        master_address=site.master_address,
        metadata_reachable=True,
        pool_runs=True,
    )
    assert [(finding.id, finding.what) for finding in lint(subject)] == []
