"""What an observation is, and whom it may be blamed on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pytest_mooncake.records import Fault

__all__ = ["Blame", "Observation"]


class Blame(StrEnum):
    """What becomes of an observation."""

    PRODUCT = "product"
    """Proven by our own traffic and keys: the run is a FAIL."""
    INSTRUMENT = "instrument"
    """The measurement does not hold: the trial, or the run, is INVALID."""
    UNKNOWN = "unknown"
    """It cannot be told: the check is unavailable, which lowers the rung."""
    NONE = "nobody"
    """It is told, and harms nothing."""

    @property
    def fault(self) -> Fault:
        """How evidence carries it. What nobody is blamed for is never broken."""
        return Fault.PRODUCT if self is Blame.PRODUCT else Fault.INSTRUMENT


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that can be seen, and whom it is blamed on.

    Attributes:
        check: the check that sees it.
        what: which of the things it sees; `check/what` is its id.
        seen: the same in words.
        ours: blame where the store was started here, so that all in it is ours.
        shared: blame where it was there before, so that others may use it.
        why: how it can be told, or why it cannot.
    """

    check: str
    what: str
    seen: str
    ours: Blame
    shared: Blame
    why: str

    @property
    def id(self) -> str:
        """Its name."""
        return f"{self.check}/{self.what}"

    def blame(self, *, shared: bool) -> Blame:
        """Whom it is blamed on here."""
        return self.shared if shared else self.ours
