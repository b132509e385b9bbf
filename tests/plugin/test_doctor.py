"""`pytest-mooncake doctor`: findings from files and from what runs, and what cannot be looked at."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pytest_mooncake.cli import app
from pytest_mooncake.errors import MooncakeError, PlanError, UsageError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.run.preflight import findings
from pytest_mooncake.stack import persistent
from pytest_mooncake.stack.simulated import provision_simulated

runner = CliRunner()
TRANSFER = """--kv-transfer-config '{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}'"""
SOUND = f"""\
export PYTHONHASHSEED=0 PROMETHEUS_MULTIPROC_DIR=/run/prom
vllm serve m --no-enable-prefix-caching --enable-prompt-tokens-details \\
  {TRANSFER.replace('"kv_both"', '"kv_both","kv_load_failure_policy":"fail"')}
"""
LMCACHE = """\
chunk_size: 256
local_cpu: false
remote_url: "mooncakestore://master:50051/"
extra_config:
  local_hostname: worker
  metadata_server: P2PHANDSHAKE
  protocol: tcp
  master_server_address: master:50051
  mooncake_master_server_addr: master:50051
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vllm.sh").write_text(SOUND, encoding="utf-8")
    (tmp_path / "lmcache.yaml").write_text(LMCACHE, encoding="utf-8")
    return tmp_path


def doctor(*arguments: str) -> Result:
    return runner.invoke(app.app, ["doctor", *arguments])


def refusal(*arguments: str) -> MooncakeError:
    error = doctor(*arguments).exception
    assert isinstance(error, MooncakeError)
    assert "\n" not in str(error)
    return error


@pytest.mark.usefixtures("files")
def test_a_sound_configuration_has_no_findings_and_exit_code_0() -> None:
    result = doctor("--vllm-args", "vllm.sh", "--lmcache-yaml", "lmcache.yaml", "--version", "lmcache=0.5.6")
    assert result.output.splitlines()[-1].startswith("0 errors, 0 warnings, 0 notes; of ")
    assert result.exit_code == 0


def test_the_specifications_own_configuration_is_refused_with_what_why_and_fix(files: Path) -> None:
    (files / "vllm.sh").write_text(f"vllm serve m {TRANSFER}", encoding="utf-8")
    (files / "lmcache.yaml").write_text("remote_url: mooncakestore://master:50052/\n", encoding="utf-8")
    result = doctor("--vllm-args", "vllm.sh", "--lmcache-yaml", "lmcache.yaml", "--version", "vllm=0.6.0")
    assert result.exit_code == 1
    assert "E02 error: engine 0: LMCacheConnectorV1 with vLLM 0.6.0" in result.output
    assert (
        "W09 warning: engine 0: remote_url names port 50052, which is a client's and not the master's" in result.output
    )
    assert result.output.count("    why  ") == result.output.count("    fix  ") > 3


def test_two_engines_with_different_seeds_never_find_each_others_chunks(files: Path) -> None:
    (files / "other.sh").write_text(SOUND.replace("PYTHONHASHSEED=0", "PYTHONHASHSEED=1"), encoding="utf-8")
    result = doctor("--vllm-args", "vllm.sh", "--vllm-args", "other.sh", "--lmcache-yaml", "lmcache.yaml")
    assert result.exit_code == 1
    assert "E15 error: PYTHONHASHSEED is not one number everywhere (engine 0: 0, engine 1: 1)" in result.output


def test_a_mooncake_file_beside_extra_config_and_a_masters_flags_are_read(files: Path) -> None:
    told = '{"protocol": "tcp", "metadata_server": "http://m:8080/metadata", "master_server_address": "m:50051"}'
    (files / "mooncake.json").write_text(told, encoding="utf-8")
    (files / "master.sh").write_text("mooncake_master --rpc_port=50051", encoding="utf-8")
    result = doctor(
        *("--vllm-args", "vllm.sh", "--lmcache-yaml", "lmcache.yaml"),
        *("--mooncake-json", "mooncake.json", "--master-flags", "master.sh"),
    )
    assert "E08 error: engine 0: MOONCAKE_CONFIG_PATH is set and extra_config holds" in result.output
    assert "E24 error: metadata_server is http://m:8080/metadata, and nobody serves it" in result.output


@pytest.mark.usefixtures("files")
def test_files_that_do_not_go_together_or_cannot_be_read_are_refused() -> None:
    twice = ("--lmcache-yaml", "lmcache.yaml") * 2
    assert isinstance(refusal(*twice, *("--vllm-args", "vllm.sh") * 3), UsageError)
    assert isinstance(refusal("--vllm-args", "absent.sh"), PlanError)
    assert "expected PART=VERSION" in str(refusal("--vllm-args", "vllm.sh", "--version", "numpy=2"))


def test_without_files_address_or_kept_stack_it_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistent, "status", lambda: None)
    assert "nothing to look at: give --url" in str(refusal())


def test_a_running_stack_is_asked(tmp_path: Path) -> None:
    plan = StackPlan(name="simulated", kind="simulated")
    with provision_simulated(plan, log_dir=tmp_path, progress=lambda _line: None) as view:
        result = doctor("--url", view.engines[0].url)
        assert result.exit_code == 0
        assert "0 errors" in result.output
        run = resolve(Options(stack="simulated"), tmp_path)
        assert asyncio.run(findings(run, view, {})) == ()
