"""Conduct a run: open the stack, measure in a thread of its own, keep the record, judge it, write the reports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_mooncake.errors import JournalError, MooncakeError, StackError
from pytest_mooncake.journal import CRASH, CRASHED, DECIDED, FAILED, INTERRUPTED, TIME_LIMIT, Journal, read
from pytest_mooncake.plan.secrets.credentials import redactor_of
from pytest_mooncake.records import Crash, Round, StackView
from pytest_mooncake.run.endings import signals
from pytest_mooncake.run.endings.crash import CRASHES
from pytest_mooncake.run.environment import describe
from pytest_mooncake.run.observer import RunObserver
from pytest_mooncake.run.outcome import Outcome, RoundsOf, conclude, reported
from pytest_mooncake.run.phases.cold_tax import measure_bare_rounds, without_connector
from pytest_mooncake.run.phases.versus import measure_visits
from pytest_mooncake.run.protocol import Experiment

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import Plan
    from pytest_mooncake.run.progress import Progress

__all__ = [
    "Outcome",
    "RoundsOf",
    "conclude",
    "conduct",
    "message_of",
    "open_stack",
    "reported",
]

T = TypeVar("T")


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


def _as_it_is(outcome: Outcome) -> Outcome:
    return outcome


def conduct(
    plan: Plan,
    view: StackView,
    directory: Path,
    progress: Progress,
    restart: Callable[[], StackView] | None = None,
    *,
    then: Callable[[Outcome], Outcome] = _as_it_is,
) -> Outcome:
    """Measure `plan` on a running stack until it is decided; everything is kept in `directory`.

    Args:
        plan: what is run.
        view: the stack.
        directory: of the run.
        progress: is told what happens.
        restart: stops the stack and starts it anew, where the trials are spread over several engine starts.
        then: what is done with the outcome before a signal may end the run: the history, other people's reports.

    Raises:
        KeyboardInterrupt: the user stopped it (Ctrl-C, SIGTERM, SIGHUP); the record and its report are written first.
        MooncakeError: nothing could be measured. An error after the first trial, or after a product fault, ends the
            run, which is judged on what stands.
    """
    with signals.handled():
        ended_by = _record(plan, view, directory, progress, restart)
        with signals.held():
            if ended_by is None:
                return then(conclude(read(directory), directory))
            with contextlib.suppress(JournalError):  # not one round was finished: why the run ended says more
                if (outcome := _what_stands(ended_by, directory, then)) is not None:
                    return outcome
        raise ended_by


def _what_stands(
    ended_by: KeyboardInterrupt | MooncakeError, directory: Path, then: Callable[[Outcome], Outcome]
) -> Outcome | None:
    """Report a run that did not get to its end; the outcome, where the user did not ask for that end and it is one."""
    recorded = read(directory)
    outcome = conclude(recorded, directory)
    if isinstance(ended_by, KeyboardInterrupt):
        if recorded.complete:  # what was cut short came after it, beside it
            then(outcome)
        return None
    found = outcome.judgement
    return then(outcome) if found.trials or found.details["product_fault"] else None


def _record(
    plan: Plan, view: StackView, directory: Path, progress: Progress, restart: Callable[[], StackView] | None
) -> KeyboardInterrupt | MooncakeError | None:
    """Measure the run and what was planned beside it, and put all of it on record.

    Returns:
        What ended it, unless it was decided or its time was over.

    Raises:
        MooncakeError: the run could not be begun.
    """
    old = _versus_view(plan, view, progress)
    with Journal(directory, plan, redactor_of(plan, os.environ)) as journal:
        journal.event("environment", environment=describe(Path.cwd()))
        journal.event("stack", view=view)
        observer = RunObserver(journal, progress)
        try:
            with _crash_on_record(journal):
                with _end_on_record(journal):
                    rounds = _measure(plan, view, observer, restart)
                if plan.cold_tax:
                    _measure_cold_tax(plan, view, directory, observer, progress, first=rounds)
                if old is not None:
                    _measure_versus(plan, (view, old), observer, progress, first=rounds)
        except (KeyboardInterrupt, MooncakeError) as error:
            return error
        except _TimeIsOver:
            return None
    return None


class _TimeIsOver(Exception):
    """The run's time limit was reached before it was decided."""


@contextlib.contextmanager
def _end_on_record(journal: Journal) -> Iterator[None]:
    """Put on record how the run ended."""
    reason, error = CRASHED, None
    try:
        yield
        reason = DECIDED
    except KeyboardInterrupt:
        reason = INTERRUPTED
        raise
    except _TimeIsOver:
        reason = TIME_LIMIT
        raise
    except MooncakeError as failure:
        reason, error = FAILED, _in_one_line(failure)
        raise
    finally:
        journal.event("run_end", reason=reason, error=error)


@contextlib.contextmanager
def _crash_on_record(journal: Journal) -> Iterator[None]:
    """Put an error of this package itself on record: such a run has no verdict, whenever it is judged."""
    try:
        yield
    except (MooncakeError, _TimeIsOver):
        raise
    except CRASHES as error:
        crash = Crash.of(error)
        with contextlib.suppress(OSError):
            journal.event(CRASH, type=crash.type, message=crash.message)
        raise


def _measure_cold_tax(
    plan: Plan, view: StackView, directory: Path, observer: RunObserver, progress: Progress, *, first: int
) -> None:
    """Measure cold rounds without a connector on a stack of their own; what goes wrong there costs the run nothing."""
    bare = without_connector(plan, view)
    progress.say("cold tax: cold rounds on an engine without a connector")
    try:
        with open_stack(bare, directory / "logs" / "without-connector", progress) as other:
            rounds = partial(measure_bare_rounds, bare, other, os.environ, observer, first=first)
            _in_thread(lambda: asyncio.wait_for(rounds(), plan.timeouts.run_s), other)
    except (MooncakeError, TimeoutError) as error:
        observer.note("cold_tax", error=str(error) or TIME_LIMIT)
        progress.say(f"cold tax not measured: {str(error) or TIME_LIMIT}")


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
    plan: Plan, views: tuple[StackView, StackView], observer: RunObserver, progress: Progress, *, first: int
) -> None:
    """Measure the new and the old endpoint in turns; what goes wrong there costs the run nothing."""
    progress.say("versus: the new and the old endpoint in turns")
    new, old = views
    observer.note("versus", view=old)
    ended: str | None
    try:
        visits = partial(measure_visits, plan, new, old, os.environ, observer, first=first)
        ended = _in_thread(lambda: asyncio.wait_for(visits(), plan.timeouts.run_s), new)
    except (MooncakeError, TimeoutError) as error:
        ended = str(error) or TIME_LIMIT
    observer.note("versus_end", error=ended)
    if ended is not None:
        progress.say(f"versus not measured to the end: {ended}")


def _in_thread(make: Callable[[], Coroutine[Any, Any, T]], view: StackView) -> T:
    """Run a coroutine in a thread of its own, in the network namespace of the stack where it has one."""
    from pytest_mooncake.load.event_loop import run_in_thread
    from pytest_mooncake.stack.namespace import enter

    namespace = view.details.get("netns")
    return run_in_thread(make, on_thread_start=partial(enter, namespace) if namespace else None)


def _measure(plan: Plan, view: StackView, observer: RunObserver, restart: Callable[[], StackView] | None) -> int:
    """Measure on one engine start after the other until the run is decided.

    Returns:
        How many rounds were sent.

    Raises:
        _TimeIsOver: the run's time limit was reached.
    """
    ends_at_s = time.monotonic() + plan.timeouts.run_s
    rounds: tuple[Round, ...] = ()
    decided = False
    while not decided:
        if rounds and restart is not None:
            view = _again(restart)
            observer.note("restart", view=view)
        try:
            decided, rounds = _in_thread(partial(_one_start, plan, view, observer, rounds, ends_at_s), view)
        finally:
            _note_casualties(plan, view, observer)
    return len(rounds)


def _again(restart: Callable[[], StackView]) -> StackView:
    """The stack, started anew.

    Raises:
        StackError: it did not start.
    """
    try:
        return restart()
    except MooncakeError as error:
        details = error.details if isinstance(error, StackError) else ()
        raise StackError(f"the stack did not start again for further trials: {error}", details) from error


def _note_casualties(plan: Plan, view: StackView, observer: RunObserver) -> None:
    """Name what died of a stack that was started here: a client only sees refused connections."""
    if plan.stack.kind != "local":
        return
    from pytest_mooncake.stack.local.provision import casualties

    if dead := casualties(view):
        observer.note("casualties", sentences=[_in_one_line(error) for error in dead])


def _in_one_line(error: MooncakeError) -> str:
    details = error.details if isinstance(error, StackError) else ()
    return "; ".join((str(error), *details[-1:]))


async def _one_start(
    plan: Plan, view: StackView, observer: RunObserver, earlier: tuple[Round, ...], ends_at_s: float
) -> tuple[bool, tuple[Round, ...]]:
    """Whether the run is decided, and all its rounds so far."""
    from pytest_mooncake.run.instruments import instruments_for

    async with instruments_for(plan, view, os.environ, observer.note) as instruments:
        experiment = Experiment(plan, instruments, observer, earlier)
        try:
            async with asyncio.timeout(ends_at_s - time.monotonic()) as limit:
                decided = await experiment.run()
        except TimeoutError:
            if limit.expired():
                raise _TimeIsOver from None
            raise  # somebody else's, and nobody's message
        return decided, tuple(experiment.rounds)


def message_of(error: MooncakeError) -> str:
    """An error as people read it: its message, then the log lines it brought, indented."""
    details = error.details if isinstance(error, StackError) else ()
    return "\n".join([str(error), *(f"    {line}" for line in details)])
