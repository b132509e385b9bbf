"""Permission follows what is done to whom: the same plan is let through or refused, whoever said what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.models import Plan, StackPlan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.permissions import check_permissions, has_own_store
from pytest_mooncake.plan.resolve import resolve

ATTACHED = "kind: attached\nurls: [http://prod:8000]\nmaster_url: http://prod-master:9003\n"
JOINED = "kind: local\nstore_url: mooncakestore://prod-master:50051\n"
FORMS: dict[str, dict[str, Any]] = {
    "an endpoint by option": {"url": ("http://prod:8000",), "master": "http://prod-master:9003"},
    "an endpoint by file": {"stack": "attached.yaml"},
    "a store by option": {"url": ("mooncakestore://prod-master:50051",)},
    "a store by file": {"stack": "joined.yaml"},
}
SOMEBODY_ELSES = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def planned(tmp_path: Path, **options: Any) -> Plan:
    (tmp_path / "attached.yaml").write_text(ATTACHED, encoding="utf-8")
    (tmp_path / "joined.yaml").write_text(JOINED, encoding="utf-8")
    return resolve(Options(**options), tmp_path)


def stack_of(tmp_path: Path, text: str) -> StackPlan:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    return planned(tmp_path, stack="mine.yaml").stack


@SOMEBODY_ELSES
@pytest.mark.parametrize("times", [None, "0", "1"])
def test_a_store_of_somebody_elses_is_filled_only_where_that_was_said_twice(
    tmp_path: Path, form: dict[str, Any], times: str | None
) -> None:
    assert not has_own_store(planned(tmp_path, **form).stack)
    with pytest.raises(UsageError, match="give --mooncake-allow-clear twice"):
        planned(tmp_path, **form, steady=True, allow_clear=times)
    assert planned(tmp_path, **form, steady=True, allow_clear="2").steady


@pytest.mark.parametrize("stack", ["local", "simulated"])
def test_a_store_of_its_own_may_be_filled(tmp_path: Path, stack: str) -> None:
    plan = planned(tmp_path, stack=stack, steady=True)
    assert plan.steady
    assert has_own_store(plan.stack)


@SOMEBODY_ELSES
def test_what_runs_is_not_kept_nor_started_several_times(tmp_path: Path, form: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--mooncake-keep-stack"):
        planned(tmp_path, **form, keep_stack=True)
    with pytest.raises(UsageError, match="--mooncake-sessions 2 starts the stack several times: leave out"):
        planned(tmp_path, **form, sessions="2")


@pytest.mark.parametrize("form", ["an endpoint by option", "an endpoint by file"])
def test_no_engine_is_started_beside_an_endpoint(tmp_path: Path, form: str) -> None:
    with pytest.raises(UsageError, match="--mooncake-cold-tax starts an engine without the connector"):
        planned(tmp_path, **FORMS[form], cold_tax=True)


def test_a_plan_from_elsewhere_is_held_to_the_same(tmp_path: Path) -> None:
    plan = planned(tmp_path, stack="attached.yaml")
    check_permissions(plan)
    with pytest.raises(UsageError, match="--mooncake-steady fills the store"):
        check_permissions(plan.model_copy(update={"steady": True}))


def test_a_store_that_a_file_names_is_joined_as_one_that_an_option_names(tmp_path: Path) -> None:
    by_file, by_option = (planned(tmp_path, **FORMS[f"a store by {form}"]).stack for form in ("file", "option"))
    assert (by_file.store_url, by_file.isolate) == (by_option.store_url, by_option.isolate)
    assert by_file.isolate == "never", "from a network namespace of its own it would not be reached"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: attached\n", "kind attached needs urls"),
        ("kind: attached\nurls: [localhost:8000]\n", "stack 'mine': urls localhost:8000: not an address"),
        ("kind: attached\nurls: [http://user:secret@h]\n", "a URL with a password in it"),
        ("kind: attached\nurls: [http://h]\nmaster_url: h\n", "master_url h: not an address"),
        ("kind: local\nmetadata_url: h\n", "metadata_url h: not an address"),
        ("kind: local\nstore_url: http://h:1\n", "store_url mooncakestore://…: expected mooncakestore://host:port"),
        ("kind: local\nstore_url: 'mooncakestore://[h'\n", "expected mooncakestore://host:port"),
        ("kind: local\nstore_url: mooncakestore://u:p@h:1\n", "expected mooncakestore://host:port"),
        ("kind: simulated\nstore_url: mooncakestore://h:1\n", "only a local stack's engines can join"),
        ("kind: attached\nurls: [http://h]\nstore_url: mooncakestore://h:1\n", "only a local stack's engines"),
    ],
)
def test_a_file_is_held_to_what_options_are(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        stack_of(tmp_path, text)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)
