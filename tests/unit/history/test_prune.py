"""Old runs may go; those that others are measured by stay."""

from __future__ import annotations

from datetime import date

import pytest

from pytest_mooncake.history.prune import superfluous
from tests.support.made_runs import ACCEPTED, FINGERPRINT, made_run

OTHER = "e" * 24
RUNS = (
    *(made_run(f"run-{day}", started_at=f"2026-01-0{day}T23:30:00-02:00") for day in range(1, 6)),
    made_run("elsewhere", fingerprint=OTHER, started_at="2026-01-09T00:00:00+00:00"),
)


def test_the_newest_of_each_fingerprint_stay() -> None:
    assert [run.id for run in superfluous(RUNS, (), keep=2)] == ["run-1", "run-2", "run-3"]


def test_a_day_counts_in_utc() -> None:
    assert [run.id for run in superfluous(RUNS, (), before=date(2026, 1, 3))] == ["run-1"]


@pytest.mark.parametrize("by", [{"keep": 1}, {"before": date(2027, 1, 1)}])
def test_the_release_accepted_last_stays(by: dict[str, object]) -> None:
    found = [run.id for run in superfluous(RUNS, (ACCEPTED,), **by)]  # type: ignore[arg-type]
    assert ACCEPTED.run_ids == ("run-1",)
    assert "run-1" not in found
    assert "run-2" in found


def test_a_time_without_zone_is_taken_as_it_is() -> None:
    bare = made_run("bare", started_at="2026-01-01T00:00:00", fingerprint=FINGERPRINT)
    assert superfluous((bare,), (), before=date(2026, 1, 2)) == (bare,)
