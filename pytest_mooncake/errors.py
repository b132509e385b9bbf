"""Every error this package raises for a user, in one tree.

    MooncakeError                exit code 4: nothing could be measured
    ├── UsageError               an option, ini value or flag that is unknown, contradictory or out of range
    │   ├── PlanError            a YAML file that does not say what it should (carries file and line)
    │   └── ReportError          reports that cannot be written where they were to go; what was measured stands
    ├── EndpointError            an attached endpoint: unreachable, refused, no such model
    │   └── BorderError          an answer that cannot be taken in: too long, too deep, no number, no text
    ├── StackError               a provisioned stack that did not start or died
    │   └── MissingPartError     a binary, library or extra that has to be installed first
    ├── WorkloadError            prompts that cannot be made for this model
    ├── JournalError             a recorded run that cannot be read
    └── HistoryError             a database of past runs: unreachable, locked, of a newer version, or no history

A message is one line: what was seen, what was expected, what to do. Nobody catches these but the edge
(`plugin`, `cli`), which prints the line and exits with `exit_code`; no traceback reaches a user.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "BorderError",
    "EndpointError",
    "ExitCode",
    "HistoryError",
    "JournalError",
    "MissingPartError",
    "MooncakeError",
    "PlanError",
    "ReportError",
    "StackError",
    "UsageError",
    "WorkloadError",
]


class ExitCode(IntEnum):
    """What pytest and the commands exit with; which of them uses which: `report.exit_codes.TABLE`."""

    OK = 0
    FAIL = 1
    INTERRUPTED = 2
    """Of pytest; a command exits with it on a command line that it does not understand."""
    INTERNAL_ERROR = 3
    """Of pytest alone, whose number it is."""
    NOTHING_MEASURED = 4
    INCONCLUSIVE = 10
    INVALID = 11


class MooncakeError(Exception):
    """Root of all errors meant for a user; `exit_code` is what pytest or the command exits with."""

    exit_code = ExitCode.NOTHING_MEASURED


class UsageError(MooncakeError):
    """An option or ini value is unknown, contradictory or out of range."""


class PlanError(UsageError):
    """A YAML file is malformed or holds a key or value that does not belong; the message names file and line."""


class ReportError(UsageError):
    """Reports cannot be written where they were to go: no room, no permission. The record they are made of stands."""


class EndpointError(MooncakeError):
    """An endpoint that was to be measured cannot be reached, refuses us or does not serve the model."""


class BorderError(EndpointError):
    """What came from outside cannot be taken in: too long, too deep, not finite, half a character, of another type."""


class StackError(MooncakeError):
    """A stack that we provision did not become ready, or a part of it died.

    `details` holds the last useful log lines of the component, shown indented below the message.
    """

    def __init__(self, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.details = details


class MissingPartError(StackError):
    """A binary, system library or Python extra is not installed; the message says the command that installs it."""


class WorkloadError(MooncakeError):
    """The workload cannot be built for this model: context too short, vocabulary too small, no tokenizer."""


class JournalError(MooncakeError):
    """A recorded run is missing, incomplete or of an unknown version."""


class HistoryError(MooncakeError):
    """A history of past runs cannot be reached, is locked, or holds what this version cannot read."""
