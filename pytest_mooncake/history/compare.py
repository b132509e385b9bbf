"""Two releases side by side: one ratio a metric, or in words why they cannot be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_mooncake.analysis.regression.fingerprint import differences
from pytest_mooncake.errors import UsageError
from pytest_mooncake.history.stored_run import StoredRun

__all__ = ["Change", "changes", "comparable", "higher_is_better", "levels"]

HIGHER_IS_BETTER = ("throughput", "hit_share", "goodput")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One metric of two releases; a side that was not measured is `None`."""

    metric: str
    before: float | None
    after: float | None

    @property
    def ratio(self) -> float | None:
        """After / before; `None` where either is missing or before is not positive."""
        if self.before is None or self.after is None or self.before <= 0:
            return None
        return self.after / self.before

    @property
    def worse_share(self) -> float | None:
        """By what share it became worse; negative: better.

        >>> Change(metric="warm.ttft_mean_ms", before=100.0, after=107.0).worse_share  # doctest: +ELLIPSIS
        0.07...
        >>> Change(metric="warm.hit_share", before=1.0, after=0.5).worse_share
        1.0
        """
        ratio = self.ratio
        if ratio is None:
            return None
        if not higher_is_better(self.metric):
            return ratio - 1
        return 1 / ratio - 1 if ratio > 0 else math.inf


def higher_is_better(metric: str) -> bool:
    """Whether more of a metric is better; of times and of their ratios less is.

    >>> higher_is_better("warm.hit_share"), higher_is_better("ratio.ttft_mean")
    (True, False)
    """
    return any(word in metric for word in HIGHER_IS_BETTER)


def levels(runs: Sequence[StoredRun]) -> Mapping[str, float]:
    """One number a metric over several runs: the geometric mean, the arithmetic one where a value is not positive."""
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    return {name: _mean([run.metrics[name] for run in runs if name in run.metrics]) for name in names}


def _mean(values: Sequence[float]) -> float:
    if all(value > 0 for value in values):
        return math.exp(math.fsum(map(math.log, values)) / len(values))
    return math.fsum(values) / len(values)


def changes(before: Sequence[StoredRun], after: Sequence[StoredRun]) -> tuple[Change, ...]:
    """Every metric that either side has, in the order of the first."""
    old, new = levels(before), levels(after)
    return tuple(Change(metric=name, before=old.get(name), after=new.get(name)) for name in {**old, **new})


def comparable(
    before: Sequence[StoredRun], after: Sequence[StoredRun]
) -> tuple[tuple[StoredRun, ...], tuple[StoredRun, ...]]:
    """The runs of both sides that share a fingerprint: that of the newest run of `after` that `before` has too.

    Args:
        before: runs of one release, oldest first, at least one.
        after: runs of the other release, likewise.

    Raises:
        UsageError: they share none; the message names every part that differs between the newest of both.
    """
    there = {run.fingerprint for run in before}
    shared = next((run.fingerprint for run in reversed(after) if run.fingerprint in there), None)
    if shared is None:
        differing = "; ".join(differences(after[-1].parts, before[-1].parts))
        raise UsageError(f"not comparable: {differing} ({after[-1].id} here, {before[-1].id} there)")
    of_it = [tuple(run for run in side if run.fingerprint == shared) for side in (before, after)]
    return of_it[0], of_it[1]
