"""Where the files of a run go: a directory of its own, in which nothing of others' is written over or removed."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from pytest_mooncake.errors import UsageError
from pytest_mooncake.journal import refuse_used

__all__ = ["refuse_occupied", "report_directory"]

PARENT, LATEST = "mooncake-report", "latest"


def refuse_occupied(directory: Path, *, replay: bool = False) -> None:
    """Refuse a directory that cannot be a run's own, before anything starts; nothing is made or changed.

    It may be absent, empty, or hold the logs of a start that failed.

    Args:
        directory: that was asked for.
        replay: only reports will be written, so those of an earlier replay may lie there.

    Raises:
        UsageError: it holds a run or something else, is none, or cannot be written to.
    """
    try:
        if not os.path.lexists(directory):
            _refuse_unwritable(directory)
            return
        if not directory.is_dir():
            raise UsageError(f"--mooncake-report {directory}: this is no directory; name another one")
        refuse_used(directory)
        foreign = [] if replay and _holds_reports(directory) else _foreign(directory)
    except (OSError, ValueError) as error:
        raise UsageError(f"--mooncake-report {directory!s:.200}: cannot be used ({_why(error)})") from None
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise UsageError(
            f"--mooncake-report {directory}: holds {foreign[0]!r}{more}, which no run put there; "
            "name a new or an empty directory, so that nothing of yours is written over"
        )
    _refuse_unwritable(directory)


def _foreign(directory: Path) -> list[str]:
    from pytest_mooncake.stack.log_dir import holds_only_logs

    return sorted(path.name for path in directory.iterdir() if not holds_only_logs(path))


def _holds_reports(directory: Path) -> bool:
    from pytest_mooncake.report.formats.write import JSON, is_ours

    return is_ours(directory / JSON.name, JSON)


def _refuse_unwritable(directory: Path) -> None:
    """Refuse a directory in which nothing can be made, or that cannot be made in what there is of its path."""
    there = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UsageError(f"--mooncake-report {directory}: {there} is no directory; name another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"--mooncake-report {directory}: {there} cannot be written to; name another directory")


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def report_directory(given: str | None, run_id: str, invocation_dir: Path) -> Path:
    """Where a run's files go; the default gets a link `mooncake-report/latest`.

    Raises:
        UsageError: the default's parent cannot be made or written to.
    """
    if given:
        return invocation_dir / given
    parent = invocation_dir / PARENT
    try:
        parent.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{parent}: reports cannot be written there ({_why(error)}); give --mooncake-report DIR"
        ) from None
    _refuse_unwritable(parent)
    with contextlib.suppress(OSError):
        _point_to(parent / LATEST, run_id)
    return parent / run_id


def _point_to(link: Path, target: str) -> None:
    """Let the link lead to a directory beside it; whatever else bears its name stays as it is."""
    if os.path.lexists(link) and not _leads_beside(link):
        return
    fresh = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    fresh.symlink_to(target, target_is_directory=True)
    try:
        fresh.replace(link)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _leads_beside(link: Path) -> bool:
    """Whether this is a link as we make it, to a name and not to a path."""
    return link.is_symlink() and len(link.readlink().parts) == 1
