"""What a run came to: its record judged, reported and written down.

Judging and reporting read the journal, never what is left in memory: the report of a run and of its replay are made by
the same call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.judge import judge
from pytest_mooncake.analysis.regression.fingerprint import fingerprint_of, parts_of
from pytest_mooncake.analysis.trials import rounds_of_valid_trials
from pytest_mooncake.errors import JournalError
from pytest_mooncake.journal import KILLED, Recorded
from pytest_mooncake.records import Judgement, Kind, RequestRecord, Round, StackView

if TYPE_CHECKING:
    from pytest_mooncake.analysis.figures.summary import Summary
    from pytest_mooncake.report.content.document import Report

__all__ = ["Outcome", "RoundsOf", "conclude", "reported"]


@dataclass(frozen=True)
class RoundsOf:
    """All valid rounds of one kind."""

    rounds: tuple[Round, ...]

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """Their requests, round by round."""
        return tuple(request for one in self.rounds for request in one.requests)

    @cached_property
    def summary(self) -> Summary:
        """Their pooled figures."""
        from pytest_mooncake.analysis.figures.summary import summarise

        return summarise(self.rounds)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to, and where its files are."""

    recorded: Recorded
    view: StackView
    judgement: Judgement
    report: Report
    directory: Path
    files: tuple[Path, ...]

    @property
    def cold(self) -> RoundsOf:
        """The valid cold rounds."""
        return self._of(Kind.COLD)

    @property
    def warm(self) -> RoundsOf:
        """The valid warm rounds."""
        return self._of(Kind.WARM)

    def _of(self, kind: Kind) -> RoundsOf:
        valid = rounds_of_valid_trials(self.recorded.rounds, self.judgement.trials)
        return RoundsOf(tuple(r for r in valid if r.kind is kind))


def conclude(recorded: Recorded, directory: Path) -> Outcome:
    """Judge a recorded run and write its reports into `directory`.

    Raises:
        JournalError: the record holds no stack or no finished round.
    """
    from pytest_mooncake.report.formats.write import write_reports

    report, view = reported(recorded)
    return Outcome(
        recorded=recorded,
        view=view,
        judgement=report.judgement,
        report=report,
        directory=directory,
        files=write_reports(report, directory, lang=recorded.plan.lang),
    )


def reported(recorded: Recorded) -> tuple[Report, StackView]:
    """Judge a recorded run and make its report, without writing anything; and the stack it was measured on.

    Raises:
        JournalError: the record holds no stack or no finished round.
    """
    from pytest_mooncake.analysis.regression.versus import compare_visits
    from pytest_mooncake.report.content.build import build

    plan, view, rounds = recorded.plan, recorded.view, recorded.rounds
    if view is None or not rounds:
        raise JournalError(f"{recorded.directory}: not one round was finished; there is nothing to judge")
    judgement = judge(plan, view, rounds, ended=recorded.end or KILLED, run_notes=recorded.run_notes)
    report = build(
        plan,
        view,
        rounds,
        judgement,
        {**recorded.environment, "fingerprint": fingerprint_of(parts_of(plan, view, recorded.environment))},
        economics=plan.economics,
        without_cache=recorded.without_connector,
        beside=recorded.run_notes.beside,
        crash=recorded.crash,
        versus=compare_visits(recorded.versus, (1,) if plan.quick else plan.looks, recorded.versus_end),
        **_told_by_history(recorded),
    )
    return report, view


def _told_by_history(recorded: Recorded) -> dict[str, Any]:
    """What the history said of the run when it was over, out of its record.

    Raises:
        JournalError: another version wrote it in another form.
    """
    if recorded.history is None:
        return {}
    from pydantic import TypeAdapter, ValidationError

    from pytest_mooncake.analysis.regression.release import ReleaseFinding
    from pytest_mooncake.report.content.document import TrendRun

    try:
        return {
            "release": TypeAdapter(ReleaseFinding).validate_python(recorded.history["release"]),
            "past": TypeAdapter(tuple[TrendRun, ...]).validate_python(recorded.history["runs"]),
        }
    except (ValidationError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise JournalError(f"{recorded.directory}: its event 'history' cannot be read ({first})") from None
