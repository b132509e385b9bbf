"""What a command says where its exit code is the answer: that nobody listens any more changes no verdict."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import typer

__all__ = ["say", "was_unheard"]


def say(lines: Iterable[str]) -> None:
    """Print lines; whoever closed the pipe has read enough, and of another failure one line tells."""
    told = tuple(lines)  # what fails in making them is no failure of the output
    try:
        for line in told:
            typer.echo(line)
        sys.stdout.flush()
    except OSError as error:
        _leave_standard_output()
        if not isinstance(error, BrokenPipeError):
            typer.echo(f"WARNING: standard output cannot be written ({error.strerror})", err=True)


def was_unheard(end: SystemExit) -> bool:
    """Whether a command ended because its output was closed: its framework exits with 1 then, as a FAIL does."""
    return isinstance(end.__context__, BrokenPipeError)


def _leave_standard_output() -> None:
    """Let what is still buffered go nowhere, else Python fails once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
