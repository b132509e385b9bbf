"""Where a local stack would be started: every path and port chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.stack.local.components import Ports, Site
from pytest_mooncake.stack.local.requirements import Parts


def make_plan(**fields: Any) -> StackPlan:
    return StackPlan.model_validate({"name": "local", "kind": "local", **fields})


def make_site(plan: StackPlan, environ: dict[str, str] | None = None) -> Site:
    parts = Parts(
        python=Path("/venv/bin/python"),
        master=Path("/mooncake/mooncake_master"),
        node=Path("/mooncake/mooncake_client"),
        versions={"vllm": "0.32.0", "lmcache": "0.5.6", "mooncake": "0.3.13", "torch": "2.13.0"},
        preload=(Path("/lib/tcmalloc.so"), Path("/venv/lib/libiomp5.so")),
    )
    free = tuple(range(20000, 20000 + Ports.count(plan)))
    return Site(
        parts=parts,
        run_dir=Path("/tmp/run"),
        log_dir=Path("/logs"),
        cache_dir=Path("/cache"),
        model=Path("/cache/models/abc"),
        ports=Ports.assign(plan, free),
        environ=environ or {},
    )
