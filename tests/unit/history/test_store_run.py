"""What a history keeps of a run, and what happens when it cannot be kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from pytest_mooncake.analysis.regression.fingerprint import fingerprint_of
from pytest_mooncake.errors import HistoryError, UsageError
from pytest_mooncake.history import DEFAULT_URL
from pytest_mooncake.history.store import open_history
from pytest_mooncake.history.store_run import Stored, history_url, refuse_unreachable, store_run, stored_run
from pytest_mooncake.journal import Recorded
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.records import Claim, Judgement, Trial, Verdict
from tests.support.judged_chains import VIEW, chain

URL = "sqlite:///history.sqlite"
CLAIMS = (
    Claim(
        id="ttft_mean",
        title="mean TTFT",
        gating=True,
        verdict=Verdict.PASS,
        reason="",
        target_ratio=0.4,
        estimate_ratio=0.25,
        ci_ratio=(0.2, 0.3),
    ),
    Claim(id="tail", title="tail", gating=False, verdict=Verdict.INCONCLUSIVE, reason="", estimate_ratio=float("nan")),
    Claim(
        id="warm_hit_share",
        title="hits",
        gating=True,
        verdict=Verdict.PASS,
        reason="",
        details={"shares": (1.0, None, 0.5)},
    ),
)
TRIALS = (
    Trial(index=0, segment=1, cold=1, warm=2, cold_after=3, valid=True),
    Trial(index=1, segment=1, cold=3, warm=4, cold_after=5, valid=False),
)
JUDGEMENT = Judgement(verdict=Verdict.PASS, reasons=(), claims=CLAIMS, evidence=(), trials=TRIALS)


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    environment = {"started_at": "2026-11-24T10:00:00+00:00", "cpu": "EPYC", "pytest_mooncake": "1.0"}
    plan = resolve(Options(label="v1"), tmp_path)
    return Recorded(directory=tmp_path, plan=plan, view=VIEW, rounds=chain(2), environment=environment)


def test_figures_of_the_valid_rounds_and_ratios_of_the_claims_are_kept(recorded: Recorded) -> None:
    run = stored_run(recorded, VIEW, JUDGEMENT)
    assert run.metrics["cold.ttft_mean_ms"] == 100.0
    assert run.metrics["warm.tpot_mean_ms"] == 10.0
    assert run.metrics["warm.request_throughput"] == pytest.approx(1 / 0.11)
    assert run.metrics["warm.hit_share"] == 0.75
    assert run.metrics["ratio.ttft_mean"] == 0.25
    assert run.metrics["cold.requests"] == 2  # the left-out round and those of the invalid trial are none of the run's
    assert [(one.round, one.kind) for one in run.rounds] == [(1, "cold"), (2, "warm"), (3, "cold")]
    assert run.rounds[1].figures["ttft_p90_ms"] == 100.0


def test_what_was_not_measured_is_absent_and_never_zero(recorded: Recorded) -> None:
    run = stored_run(recorded, VIEW, replace(JUDGEMENT, claims=CLAIMS[:2]))
    assert "warm.hit_share" not in run.metrics
    assert "ratio.tail" not in run.metrics
    assert [(one.claim_id, one.low_ratio) for one in run.claims] == [("ttft_mean", 0.2), ("tail", None)]
    assert run.claims[1].estimate_ratio is None  # it was not a number


def test_a_run_without_a_valid_trial_has_no_figures(recorded: Recorded) -> None:
    run = stored_run(recorded, VIEW, replace(JUDGEMENT, verdict=Verdict.INVALID, trials=TRIALS[1:]))
    assert (run.verdict, run.metrics, run.rounds) == ("INVALID", {}, ())


def test_a_run_is_known_by_its_label_its_fingerprint_and_its_versions(recorded: Recorded) -> None:
    run = stored_run(recorded, VIEW, JUDGEMENT)
    assert (run.id, run.label, run.verdict) == (recorded.plan.run_id, "v1", "PASS")
    assert run.started_at == "2026-11-24T10:00:00+00:00"
    assert run.fingerprint == fingerprint_of(run.parts)
    assert run.release["pytest-mooncake"] == "1.0"


@pytest.mark.parametrize(
    ("options", "url"),
    [
        (Options(), None),
        (Options(history=URL), URL),
        (Options(baseline="v1"), DEFAULT_URL),
        (Options(history=URL, baseline="v1"), URL),
    ],
)
def test_a_history_is_written_only_when_it_or_a_baseline_is_named(options: Options, url: str | None) -> None:
    assert history_url(options) == url


def test_a_run_is_stored_once_beside_where_pytest_was_called(recorded: Recorded, tmp_path: Path) -> None:
    first, again = (store_run(Options(history=URL), tmp_path, recorded, VIEW, JUDGEMENT) for _ in range(2))
    with open_history(URL, base=tmp_path, must_exist=True) as history:
        (kept,) = history.runs()
    made = stored_run(recorded, VIEW, JUDGEMENT)
    assert kept == replace(made, claims=tuple(sorted(made.claims, key=lambda one: one.claim_id)))
    assert first == again == Stored((f"history: sqlite:///{tmp_path}/history.sqlite, the first run of its kind",))


@pytest.mark.parametrize(
    ("lang", "said"), [("en", "2 comparable runs with this one"), ("zh", "可比运行 2 次（含本次）")]
)
def test_how_many_runs_may_be_compared_is_told(recorded: Recorded, tmp_path: Path, lang: str, said: str) -> None:
    store_run(Options(history=URL), tmp_path, recorded, VIEW, JUDGEMENT)
    later = replace(recorded, plan=recorded.plan.model_copy(update={"run_id": "later", "lang": lang}))
    (line,) = store_run(Options(history=URL), tmp_path, later, VIEW, JUDGEMENT).lines
    assert line.endswith(said)


def test_without_a_history_nothing_is_written(recorded: Recorded, tmp_path: Path) -> None:
    refuse_unreachable(Options(), tmp_path)
    assert store_run(Options(), tmp_path, recorded, VIEW, JUDGEMENT) == Stored()
    assert list(tmp_path.iterdir()) == []


def test_a_history_that_fails_afterwards_is_a_line_and_no_error(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "history.sqlite").write_text("not a database at all " * 50)
    with pytest.raises(HistoryError, match="file is not a database"):
        refuse_unreachable(Options(history=URL), tmp_path)
    (line,) = store_run(Options(history=URL), tmp_path, recorded, VIEW, JUDGEMENT).complaints
    assert line.startswith("the run is not in the history: history sqlite:///")
    assert "\n" not in line


def test_a_history_that_may_only_be_read_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_history(URL, base=tmp_path).close()

    def refused(_connection: object) -> None:  # files of root are always writable, so the database is made to say it
        raise OperationalError("BEGIN IMMEDIATE", {}, ValueError("attempt to write a readonly database"))

    monkeypatch.setattr("pytest_mooncake.history.sql.database._begin_sqlite", refused)
    with pytest.raises(HistoryError, match="readonly database"):
        refuse_unreachable(Options(history=URL), tmp_path)


def test_a_baseline_that_nothing_is_called_after_is_refused_where_there_are_runs(
    recorded: Recorded, tmp_path: Path
) -> None:
    options = Options(baseline="v1", label="v1")
    refuse_unreachable(options, tmp_path)  # no run at all: this one may be the first
    judgement = Judgement(verdict=Verdict.PASS, reasons=(), claims=(), evidence=(), trials=())
    store_run(options, tmp_path, replace(recorded, plan=labelled(recorded, "v1")), VIEW, judgement)
    refuse_unreachable(options, tmp_path)
    with pytest.raises(UsageError, match=r"no run and no label is called 'v2'; newest labels: v1"):
        refuse_unreachable(Options(baseline="v2"), tmp_path)


def labelled(recorded: Recorded, label: str) -> Plan:
    return recorded.plan.model_copy(update={"label": label})
