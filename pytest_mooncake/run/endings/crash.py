"""The outermost net: an error of this package itself is never a verdict, and what was measured is kept.

Whoever stands at the edge (plugin, commands) hands the exception here. The traceback goes into a file, reports say
that there is no verdict, and one line is left for the terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mooncake import __version__
from pytest_mooncake.border.redaction import Redactor
from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.plan.secrets.credentials import redactor_of
from pytest_mooncake.records import Crash
from pytest_mooncake.report.formats import no_verdict

if TYPE_CHECKING:
    from pytest_mooncake.journal import Recorded
    from pytest_mooncake.plan.models import Plan

__all__ = ["CRASHES", "CommandCrash", "about", "is_ours", "keep"]

PACKAGE = Path(__file__).resolve().parents[2]
CRASHES = (Exception, SystemExit, asyncio.CancelledError)
"""What is an error of this package itself where nobody caught it: neither may a library end the process with an exit
code that pipelines read as a verdict, nor a task that somebody cancelled leave the run without an end."""


class CommandCrash(Exception):
    """An error of this package itself in a command, and the directory that the command was about."""

    def __init__(self, error: Exception, directory: Path, run_id: str | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.directory = directory
        self.run_id = run_id


@contextlib.contextmanager
def about(directory: Path, *, run_id: str | None = None) -> Iterator[None]:
    """Say which directory a command is about, for `cli.app.main`, which catches what it raises.

    Args:
        directory: where the traceback goes if the command crashes.
        run_id: what the reports are about that the command writes there; `None` of one that writes none.

    Raises:
        CommandCrash: what is inside raised an exception that is nobody's message.
    """
    try:
        yield
    except MooncakeError:
        raise
    except Exception as error:
        if _is_an_exit(error):
            raise
        raise CommandCrash(error, directory, run_id) from error


def _is_an_exit(error: Exception) -> bool:
    """Whether an exception is how a command ends: typer's own (of its own click, or of click itself), a closed pipe."""
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return True  # whoever read our output has read enough
    return any(kind.__module__.partition(".")[0] in {"typer", "click"} for kind in type(error).__mro__)


def is_ours(error: BaseException) -> bool:
    """Whether an exception that reached a test was raised in this package, or in what it called."""
    if not isinstance(error, Exception) or isinstance(error, MooncakeError | AssertionError):
        return False
    frames = traceback.walk_tb(error.__traceback__)
    return any(PACKAGE in Path(frame.f_code.co_filename).resolve().parents for frame, _ in frames)


def keep(
    error: BaseException,
    directory: Path | None,
    *,
    run_id: str | None = None,
    plan: Plan | None = None,
    recorded: Recorded | None = None,
) -> str:
    """Keep an error of this package itself, and what was measured before it; raises nothing.

    Args:
        error: what was raised.
        directory: of the run; `None` where there is none yet.
        run_id: of the run whose reports lie in `directory`; `None` leaves reports as they are.
        plan: of that run.
        recorded: its record, where it lies elsewhere.

    Returns:
        The line for the terminal.
    """
    redactor = _redactor(plan, recorded)
    crash = Crash.of(error)
    crash = replace(crash, message=redactor.redacted(crash.message))
    if directory is not None and run_id is not None:
        _write_reports(crash, directory, run_id, plan, recorded)
    kept = _keep_traceback(redactor.redacted("".join(traceback.format_exception(error))), directory)
    where = f"the traceback is in {kept}" if kept else "its traceback could not be written anywhere"
    return f"{no_verdict.sentence(crash)}; {where}: please report it to whoever provides pytest-mooncake to you"


def _redactor(plan: Plan | None, recorded: Recorded | None) -> Redactor:
    """A redactor of the run's secrets, for text that was not redacted where it came in."""
    known = plan or (recorded.plan if recorded else None)
    return redactor_of(known, os.environ) if known else Redactor()


def _keep_traceback(text: str, directory: Path | None) -> Path | None:
    """Write the traceback: to the run, where reports lie, or where there is room."""
    head = f"pytest-mooncake {__version__}, Python {sys.version.split()[0]} on {sys.platform}\n\n"
    for place in (directory, Path("mooncake-report"), Path(tempfile.gettempdir())):
        if place is None:
            continue
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            path = place / no_verdict.TRACEBACK
            path.write_text(head + text, encoding="utf-8", errors="backslashreplace")
            return path
    return None


def _write_reports(crash: Crash, directory: Path, run_id: str, plan: Plan | None, recorded: Recorded | None) -> None:
    """Write reports without a verdict: with what was measured where it can be told, else with the error alone."""
    try:
        from pytest_mooncake.journal import read
        from pytest_mooncake.report.formats.write import write_reports
        from pytest_mooncake.run.outcome import reported

        report, _ = reported(recorded or read(directory))
        write_reports(replace(report, crash=crash), directory, lang=report.plan.get("lang", "en"))
    except Exception:  # whatever is broken may be broken here too
        _write_bare(crash, directory, run_id, plan)


def _write_bare(crash: Crash, directory: Path, run_id: str, plan: Plan | None) -> None:
    """The same files without a figure, made by nothing that could have crashed; a stale one must not stay."""
    import orjson

    lang = plan.lang if plan is not None else "en"
    values = plan.model_dump(mode="json") if plan is not None else None
    told = {
        "report.json": lambda: orjson.dumps(no_verdict.report_json(crash, run_id, values)).decode(),
        "verdict.json": lambda: orjson.dumps(no_verdict.verdict_json(crash, run_id)).decode(),
        "report.md": lambda: no_verdict.markdown(crash, run_id, lang),
        "report.html": lambda: no_verdict.page(crash, run_id, lang),
        "comment.md": lambda: no_verdict.markdown(crash, run_id, lang),
        "metrics.prom": no_verdict.metrics,
    }
    with contextlib.suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
    for name, make in told.items():
        path = directory / name
        try:
            part = path.with_name(f".{name}.part")
            part.write_text(make(), encoding="utf-8", errors="backslashreplace")
            part.replace(path)
        except Exception:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
