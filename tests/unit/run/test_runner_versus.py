"""What goes wrong with the old endpoint: before the run it is told at once, after the run it costs the run nothing."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_mooncake.errors import EndpointError, StackError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.records import StackView
from pytest_mooncake.run import runner
from pytest_mooncake.run.progress import Silent
from pytest_mooncake.stack import attach as attach_module
from tests.support import runs

OLD = StackPlan(name="versus", kind="attached", urls=("http://127.0.0.1:1",))


class Notes:
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, object]] = {}

    def note(self, event: str, **values: object) -> None:
        self.kept[event] = values


def looked_at(monkeypatch: pytest.MonkeyPatch, found: StackView) -> StackView | None:
    async def attach(_plan: StackPlan, **_: Any) -> StackView:
        return found

    monkeypatch.setattr(attach_module, "attach", attach)
    return runner._versus_view(runs.plan(versus=OLD), runs.view(), Silent())


def test_an_old_endpoint_of_the_same_model_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked_at(monkeypatch, runs.view(name="old")) == runs.view(name="old")
    assert runner._versus_view(runs.plan(), runs.view(), Silent()) is None


def test_an_old_endpoint_of_another_model_is_refused_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StackError, match=r"--mooncake-versus serves 'another'.* only one model can be compared"):
        looked_at(monkeypatch, runs.view(model="another"))


def turns(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException | None, stopped: str | None = None
) -> dict[str, dict[str, object]]:
    async def visits(*_: object, **__: object) -> str | None:
        if raised is not None:
            raise raised
        return stopped

    monkeypatch.setattr(runner, "measure_visits", visits)
    notes = Notes()
    views = (runs.view(), runs.view(name="old"))
    runner._measure_versus(runs.plan(versus=OLD), views, notes, Silent(), first=9)  # type: ignore[arg-type] # what is used
    return notes.kept


def test_turns_that_end_well_leave_the_old_endpoint_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    assert turns(monkeypatch, None) == {"versus": {"view": runs.view(name="old")}, "versus_end": {"error": None}}


def test_turns_that_stop_at_a_failed_request_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = turns(monkeypatch, None, stopped="2 of the requests of visit 2, to the new endpoint, failed (HTTP 500)")
    assert kept["versus_end"] == {"error": "2 of the requests of visit 2, to the new endpoint, failed (HTTP 500)"}


@pytest.mark.parametrize(
    ("raised", "told"),
    [(EndpointError("it is gone"), "it is gone"), (TimeoutError(), "run time limit reached")],
)
def test_an_old_endpoint_that_goes_away_costs_the_run_nothing(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, told: str
) -> None:
    assert turns(monkeypatch, raised)["versus_end"] == {"error": told}
