"""A round's requests with the times at which they are to be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_mooncake.load.http.bodies import Outlines
from pytest_mooncake.load.schedule.arrivals import constant_offsets, gamma_offsets, ramp_offsets
from pytest_mooncake.load.schedule.turns import Answers
from pytest_mooncake.records import PlannedRequest

if TYPE_CHECKING:
    from pytest_mooncake.plan.parsing.arrivals import Arrivals

__all__ = ["Scheduled", "offsets_of"]


def offsets_of(arrivals: Arrivals, count: int, *, seed: int) -> tuple[int, ...]:
    """Offsets of `count` requests, ns; the same in every round, so that a warm one repeats the cold one's load."""
    rate = arrivals.rate_per_s
    if arrivals.shape == "constant":
        return constant_offsets(count, rate_per_s=rate)
    if arrivals.shape == "ramp":
        return ramp_offsets(count, from_per_s=rate, to_per_s=arrivals.to_per_s or rate)
    return gamma_offsets(count, rate_per_s=rate, burstiness=arrivals.burstiness, seed=seed)


class Scheduled(Sequence[PlannedRequest]):
    """`requests` at `offsets_ns`; turns of conversations still wait for the answers before them."""

    def __init__(self, requests: Sequence[PlannedRequest], offsets_ns: Sequence[int]) -> None:
        self._requests = requests
        self._outlines = requests if isinstance(requests, Outlines) else None
        self._offsets_ns = offsets_ns

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, index: int) -> PlannedRequest:  # type: ignore[override]  # a round never slices
        return replace(self._requests[index], offset_ns=self._offsets_ns[index])

    @property
    def is_chained(self) -> bool:
        """Whether any request waits for another one."""
        return bool(getattr(self._requests, "is_chained", False))

    def outline(self, index: int) -> PlannedRequest | None:
        """As of the requests themselves; None where all of it is known."""
        outline = None if self._outlines is None else self._outlines.outline(index)
        return None if outline is None else replace(outline, offset_ns=self._offsets_ns[index])

    def answered(self, index: int, token_ids: tuple[int, ...]) -> None:
        """Hand the answer on to whoever puts it into later prompts."""
        if isinstance(self._requests, Answers):
            self._requests.answered(index, token_ids)
