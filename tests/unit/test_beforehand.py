"""What cannot be had is refused before a stack is started for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mooncake.beforehand import refuse_the_impossible
from pytest_mooncake.errors import MooncakeError, PlanError, UsageError, WorkloadError
from pytest_mooncake.options import Options
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.resolve import resolve

SMALL_STORE = "kind: simulated\nstore:\n  nodes: 2\n  segment_bytes: 8388608\n"


def plan_of(tmp_path: Path, **options: object) -> Plan:
    (tmp_path / "small.yaml").write_text(SMALL_STORE, encoding="utf-8")
    (tmp_path / "bad.jsonl").write_text("no trace\n", encoding="utf-8")
    options = {key: v.format(here=tmp_path) if isinstance(v, str) else v for key, v in options.items()}
    return resolve(Options(**options), tmp_path)  # type: ignore[arg-type] # options are what varies


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"workload": "kb-qa", "requests": "2"}, WorkloadError, "give --mooncake-requests"),
        ({"prompt_tokens": "40000"}, WorkloadError, "but the model takes 32768"),
        ({"workload": "trace:{here}/bad.jsonl"}, PlanError, "bad.jsonl:1: not JSON"),
        ({"steady": True}, UsageError, "holds 65,536 chunks, a round works on 1,920"),
    ],
)
def test_what_cannot_be_made_is_refused(
    tmp_path: Path, options: dict[str, object], error: type[MooncakeError], message: str
) -> None:
    with pytest.raises(error, match=message):
        refuse_the_impossible(plan_of(tmp_path, **options))


def test_what_can_be_made_is_let_through(tmp_path: Path) -> None:
    refuse_the_impossible(plan_of(tmp_path))
    refuse_the_impossible(plan_of(tmp_path, stack="small.yaml", steady=True))


def test_an_endpoint_that_runs_is_asked_itself(tmp_path: Path) -> None:
    refuse_the_impossible(plan_of(tmp_path, url=("http://127.0.0.1:1",), workload="kb-qa", requests="2"))


def test_only_a_running_store_tells_how_much_it_holds(tmp_path: Path) -> None:
    store = ("mooncakestore://127.0.0.1:50051",)
    refuse_the_impossible(plan_of(tmp_path, url=store, steady=True, allow_clear="2"))
