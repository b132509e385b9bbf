"""Conduct a run: open the stack, measure in a thread of its own, keep the record, judge it, write the reports.

Judging and reporting read the journal, never what is left in memory: the report of a run and of its replay are made by
the same call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_mooncake.analysis.fingerprint import fingerprint_of, parts_of
from pytest_mooncake.environment import describe
from pytest_mooncake.errors import JournalError, MooncakeError, StackError
from pytest_mooncake.experiment import Experiment
from pytest_mooncake.journal import DECIDED, TIME_LIMIT, Journal, Recorded, read
from pytest_mooncake.judging import judge, rounds_of_valid_trials
from pytest_mooncake.observer import Witness
from pytest_mooncake.plan.credentials import redactor_of
from pytest_mooncake.records import Judgement, Kind, RequestRecord, Round, StackView
from pytest_mooncake.versus import measure_visits
from pytest_mooncake.without_connector import measure_bare_rounds, without_connector

if TYPE_CHECKING:
    from pytest_mooncake.analysis.summary import Summary
    from pytest_mooncake.console import Progress
    from pytest_mooncake.plan.models import Plan
    from pytest_mooncake.report.document import Report

T = TypeVar("T")


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
        from pytest_mooncake.analysis.summary import summarise

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


@contextlib.contextmanager
def open_stack(plan: Plan, log_dir: Path, progress: Progress) -> Iterator[StackView]:
    """The stack that the plan names: started here and stopped at the end, or attached to.

    Raises:
        StackError: it did not start.
        EndpointError: there is nothing that can be measured.
    """
    if plan.stack.kind == "attached":
        from pytest_mooncake.stack.attach import attach

        yield asyncio.run(attach(plan.stack, environ=os.environ, progress=progress.tick))
        return
    if plan.stack.kind == "simulated":
        from pytest_mooncake.stack.simulated import provision_simulated

        with provision_simulated(plan.stack, log_dir=log_dir, progress=progress.tick) as view:
            yield view
        return
    from pytest_mooncake.stack.local import provision_local

    with provision_local(plan.stack, log_dir=log_dir, progress=progress.tick, keep=plan.keep_stack) as view:
        yield view


def conduct(
    plan: Plan,
    view: StackView,
    directory: Path,
    progress: Progress,
    restart: Callable[[], StackView] | None = None,
) -> Outcome:
    """Measure `plan` on a running stack until it is decided; everything is kept in `directory`.

    `restart` stops the stack and starts it anew, where the trials are spread over several engine starts.

    Raises:
        KeyboardInterrupt: the user stopped it (Ctrl-C or SIGTERM); the record and its report are written first.
        MooncakeError: nothing could be measured.
    """
    reason = "failed"
    old = _versus_view(plan, view, progress)
    with Journal(directory, plan, redactor_of(plan, os.environ)) as journal:
        journal.event("environment", environment=describe(Path.cwd()))
        journal.event("stack", view=view)
        witness = Witness(journal, progress)
        try:
            rounds = _measure(plan, view, witness, restart)
            reason = DECIDED
        except KeyboardInterrupt:
            reason = "interrupted"
            raise
        except TimeoutError:
            reason = TIME_LIMIT
        finally:
            journal.event("run_end", reason=reason)
            if reason in {"interrupted", "failed"}:  # else the end of this function reports
                with contextlib.suppress(Exception):  # a report that fails must not hide why the run ended
                    conclude(read(directory), directory)
        if plan.cold_tax and reason == DECIDED:
            _measure_cold_tax(plan, view, directory, witness, progress, first=rounds)
        if old is not None and reason == DECIDED:
            _measure_versus(plan, (view, old), directory, witness, progress, first=rounds)
    return conclude(read(directory), directory)


def _measure_cold_tax(
    plan: Plan, view: StackView, directory: Path, witness: Witness, progress: Progress, *, first: int
) -> None:
    """Measure cold rounds without a connector on a stack of their own; what goes wrong there costs the run nothing.

    Raises:
        KeyboardInterrupt: the user stopped it; the report of the run is written first.
    """
    bare = without_connector(plan, view)
    progress.say("cold tax: cold rounds on an engine without a connector")
    try:
        with _sigterm_as_interrupt(), open_stack(bare, directory / "logs" / "without-connector", progress) as other:
            rounds = partial(measure_bare_rounds, bare, other, os.environ, witness, first=first)
            _in_thread(lambda: asyncio.wait_for(rounds(), plan.timeouts.run_s), other)
    except KeyboardInterrupt:
        conclude(read(directory), directory)
        raise
    except (MooncakeError, TimeoutError) as error:
        witness.note("cold_tax", error=str(error) or TIME_LIMIT)
        progress.say(f"cold tax not measured: {str(error) or 'run time limit reached'}")


def _versus_view(plan: Plan, view: StackView, progress: Progress) -> StackView | None:
    """The endpoint that the run's is compared with, looked at before anything is sent.

    Raises:
        EndpointError: there is nothing that can be measured.
        StackError: it serves another model.
    """
    if plan.versus is None:
        return None
    from pytest_mooncake.stack.attach import attach

    old = asyncio.run(attach(plan.versus, environ=os.environ, progress=progress.tick))
    if old.model != view.model:
        raise StackError(
            f"--mooncake-versus serves {old.model!r}, --mooncake-url {view.model!r}: only one model can be compared"
        )
    return old


def _measure_versus(
    plan: Plan,
    views: tuple[StackView, StackView],
    directory: Path,
    witness: Witness,
    progress: Progress,
    *,
    first: int,
) -> None:
    """Measure the new and the old endpoint in turns; what goes wrong there costs the run nothing.

    Raises:
        KeyboardInterrupt: the user stopped it; the report of the run is written first.
    """
    progress.say("versus: the new and the old endpoint in turns")
    new, old = views
    witness.note("versus", view=old)
    ended: str | None
    try:
        with _sigterm_as_interrupt():
            visits = partial(measure_visits, plan, new, old, os.environ, witness, first=first)
            ended = _in_thread(lambda: asyncio.wait_for(visits(), plan.timeouts.run_s), new)
    except KeyboardInterrupt:
        witness.note("versus_end", error="interrupted")
        conclude(read(directory), directory)
        raise
    except (MooncakeError, TimeoutError) as error:
        ended = str(error) or TIME_LIMIT
    witness.note("versus_end", error=ended)
    if ended is not None:
        progress.say(f"versus not measured to the end: {ended}")


def _in_thread(make: Callable[[], Coroutine[Any, Any, T]], view: StackView) -> T:
    """Run a coroutine in a thread of its own, in the network namespace of the stack where it has one."""
    from pytest_mooncake.load.loop import run_in_thread
    from pytest_mooncake.stack.namespace import enter

    namespace = view.details.get("netns")
    return run_in_thread(make, on_thread_start=partial(enter, namespace) if namespace else None)


def _measure(plan: Plan, view: StackView, witness: Witness, restart: Callable[[], StackView] | None) -> int:
    """Measure on one engine start after the other until the run is decided.

    Returns:
        How many rounds were sent.

    Raises:
        TimeoutError: the run's time is over.
    """
    ends_at_s = time.monotonic() + plan.timeouts.run_s
    rounds: tuple[Round, ...] = ()
    decided = False
    with _sigterm_as_interrupt():
        while not decided:
            if rounds and restart is not None:
                view = restart()
                witness.note("restart", view=view)
            try:
                decided, rounds = _in_thread(partial(_one_start, plan, view, witness, rounds, ends_at_s), view)
            finally:
                _note_casualties(plan, view, witness)
    return len(rounds)


def _note_casualties(plan: Plan, view: StackView, witness: Witness) -> None:
    """Name what died of a stack that was started here: a client only sees refused connections."""
    if plan.stack.kind != "local":
        return
    from pytest_mooncake.stack.local.provision import casualties

    if dead := casualties(view):
        witness.note("casualties", sentences=[_in_one_line(error) for error in dead])


def _in_one_line(error: StackError) -> str:
    return "; ".join((str(error), *error.details[-1:]))


async def _one_start(
    plan: Plan, view: StackView, witness: Witness, earlier: tuple[Round, ...], ends_at_s: float
) -> tuple[bool, tuple[Round, ...]]:
    """Whether the run is decided, and all its rounds so far."""
    from pytest_mooncake.instruments import instruments_for

    async with instruments_for(plan, view, os.environ, witness.note) as use:
        experiment = Experiment(plan, view, use, witness, earlier)
        decided = await asyncio.wait_for(experiment.run(), ends_at_s - time.monotonic())
        return decided, tuple(experiment.rounds)


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: what was measured is kept and everything started here is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous: Callable[[int, FrameType | None], object] | int | None = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def conclude(recorded: Recorded, directory: Path) -> Outcome:
    """Judge a recorded run and write its reports into `directory`.

    Raises:
        JournalError: the record holds no stack or no finished round.
    """
    from pytest_mooncake.report.files import write_reports

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
    from pytest_mooncake.analysis.versus import compare_visits
    from pytest_mooncake.report.build import build

    plan, view, rounds = recorded.plan, recorded.view, recorded.rounds
    if view is None or not rounds:
        raise JournalError(f"{recorded.directory}: not one round was finished; there is nothing to judge")
    judgement = judge(plan, view, rounds, ended=recorded.unfinished, aftermath=recorded.aftermath)
    report = build(
        plan,
        view,
        rounds,
        judgement,
        {**recorded.environment, "fingerprint": fingerprint_of(parts_of(plan, view, recorded.environment))},
        economics=plan.economics,
        without_cache=recorded.without_connector,
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

    from pytest_mooncake.analysis.release import ReleaseFinding
    from pytest_mooncake.report.trend_run import TrendRun

    try:
        return {
            "release": TypeAdapter(ReleaseFinding).validate_python(recorded.history["release"]),
            "past": TypeAdapter(tuple[TrendRun, ...]).validate_python(recorded.history["runs"]),
        }
    except (ValidationError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise JournalError(f"{recorded.directory}: its event 'history' cannot be read ({first})") from None


def message_of(error: MooncakeError) -> str:
    """An error as people read it: its message, then the log lines it brought, indented."""
    details = error.details if isinstance(error, StackError) else ()
    return "\n".join([str(error), *(f"    {line}" for line in details)])
