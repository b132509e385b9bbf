"""What a plan holds of secrets: it uses them, and writes none of them down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.errors import PlanError
from pytest_mooncake.journal import Journal, read
from pytest_mooncake.plan.models import Plan, StackPlan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.plan.secrets.credentials import credentials_of, redactor_of
from pytest_mooncake.plan.secrets.masking import is_secret_name

TOKEN = "hf_aVerySecretToken99"


def plan_of(directory: Path, engine: str) -> Plan:
    (directory / "s.yaml").write_text(f"kind: local\nengine: {engine}\n", encoding="utf-8")
    return resolve(Options(stack="s.yaml"), directory)


def test_the_engine_gets_its_variables_and_no_record_their_values(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"{{extra_env: {{HF_TOKEN: {TOKEN}, OMP_NUM_THREADS: '3'}}}}")
    assert plan.stack.engine.extra_env == {"HF_TOKEN": TOKEN, "OMP_NUM_THREADS": "3"}
    shown = plan.model_dump(mode="json")["stack"]["engine"]["extra_env"]
    assert shown == {"HF_TOKEN": "***", "OMP_NUM_THREADS": "***"}, "names stay, so that one sees what was set"
    assert TOKEN not in plan.model_dump_json() + repr(plan) + str(plan.model_dump())


def test_arguments_that_hold_secrets_are_recorded_without_them(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, f"{{extra_args: [--api-key, {TOKEN}, '--hf-token={TOKEN}', --max-num-batched-tokens, '64']}}"
    )
    assert plan.stack.engine.extra_args[1] == TOKEN
    shown = plan.model_dump(mode="json")["stack"]["engine"]["extra_args"]
    assert list(shown) == ["--api-key", "***", "--hf-token=***", "--max-num-batched-tokens", "64"]
    assert TOKEN not in repr(plan)


def test_a_recorded_plan_is_read_back_with_the_names(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"{{extra_env: {{HF_TOKEN: {TOKEN}}}}}")
    with Journal(tmp_path / "run", plan, redactor_of(plan, {})) as journal:
        journal.event("casualties", sentences=[f"vllm-0 died; it said: token {TOKEN} is not valid"])
    assert read_back(tmp_path / "run").stack.engine.extra_env == {"HF_TOKEN": "***"}
    written = b"".join(path.read_bytes() for path in (tmp_path / "run").iterdir())
    assert TOKEN.encode() not in written
    assert b"token *** is not valid" in written


def read_back(directory: Path) -> Plan:
    return read(directory).plan


@pytest.mark.parametrize("value", ["12345678", "[a, b]", "null", "{x: 12345678}"])
def test_a_value_that_is_no_text_is_refused_without_being_shown(value: str, tmp_path: Path) -> None:
    with pytest.raises(
        PlanError, match=r"s\.yaml:2: .*the value of 'HF_TOKEN' is no text: put it into quotes"
    ) as refused:
        plan_of(tmp_path, f"{{extra_env: {{HF_TOKEN: {value}}}}}")
    assert "12345678" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "secret"),
    [("HF_TOKEN", True), ("OPENAI_API_KEY", True), ("--password", True), ("X.secret", True), ("KEYBOARD", False)],
)
def test_a_name_tells_whether_it_holds_a_secret(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


def test_headers_show_their_names_only() -> None:
    found = credentials_of(attached(api_key_env="KEY"), {"KEY": TOKEN})
    assert repr(found.headers) == "{'Authorization': '***'}"
    assert found.headers == {"Authorization": f"Bearer {TOKEN}"}


def attached(**fields: Any) -> StackPlan:
    return StackPlan.model_validate({"name": "a", "kind": "attached", "urls": ("http://a:1",), **fields})


def test_a_secret_too_short_to_be_told_from_text_is_said_so() -> None:
    stack = attached(api_key_env="KEY", header_env="EXTRA")
    notes = credentials_of(stack, {"KEY": "abc", "EXTRA": "X: longer-than-that"}).notes
    assert len(notes) == 1
    assert notes[0].startswith("$KEY holds fewer than 4 characters")
    assert credentials_of(stack, {"KEY": "abcd", "EXTRA": "X: longer-than-that"}).notes == ()


def test_the_secrets_of_a_run_are_those_of_all_its_endpoints(tmp_path: Path) -> None:
    plan = resolve(Options(url=("http://a:1",), versus="http://b:1", api_key_env="KEY"), tmp_path)
    assert redactor_of(plan, {"KEY": TOKEN}).redacted(f"no {TOKEN}") == "no ***"
    assert redactor_of(plan, {}).redacted("a variable that is not set is no secret").endswith("no secret")
