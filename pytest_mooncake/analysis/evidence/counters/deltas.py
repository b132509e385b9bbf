"""Read quantities out of scrapes and take differences that know about restarts. Missing is None, never 0.

Evidence and audit read counters by this one rule: what a source counted is known only where both looks saw the same
process of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_mooncake.analysis.evidence.counters.exposition import split_series
from pytest_mooncake.analysis.evidence.counters.names import TABLE, Place, Term
from pytest_mooncake.analysis.evidence.counters.processes import Change, change_of
from pytest_mooncake.records import Round, Scrape

__all__ = ["CounterDeltas", "changed_between", "deltas", "read", "sum_by_label", "untold_sources"]


def _term_value(samples: Mapping[str, float], term: Term) -> float | None:
    values = []
    for series, value in samples.items():
        if not series.startswith(term.name):
            continue
        name, labels = split_series(series)
        if name == term.name and set(term.labels) <= set(labels):
            values.append(value)
    return sum(values) if values else None


def _terms_value(samples: Mapping[str, float], terms: tuple[Term, ...]) -> float | None:
    found = [(term.sign, _term_value(samples, term)) for term in terms]
    # Without any positive term there is nothing that failures could be subtracted from.
    if all(value is None for sign, value in found if sign > 0):
        return None
    return sum(sign * value for sign, value in found if value is not None)


def _at(scrapes: tuple[Scrape, ...], place: Place) -> tuple[Scrape, ...]:
    return tuple(s for s in scrapes if s.source.partition(":")[0] == place.value)


def read(scrapes: tuple[Scrape, ...], name: str) -> float | None:
    """Return a quantity as it stands, summed over its sources; None when any of them does not show it.

    Every source is read with the newest alternative it has, so engines of different versions add up.
    """
    quantity = TABLE[name]
    values = [_first(scrape.samples, quantity.alternatives) for scrape in _at(scrapes, quantity.place)]
    return _sum_known(values)


def _first(samples: Mapping[str, float], alternatives: tuple[tuple[Term, ...], ...]) -> float | None:
    return next((v for terms in alternatives if (v := _terms_value(samples, terms)) is not None), None)


def _sum_known(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def sum_by_label(scrapes: tuple[Scrape, ...], series_name: str, label: str) -> dict[str, float]:
    """Add one series over all scrapes, by the value of one label.

    >>> at = Scrape(source="engine:0", at_ns=0, samples={'n_total{r="stop"}': 2.0, 'n_total{r="error"}': 1.0})
    >>> sum_by_label((at,), "n_total", "r")
    {'stop': 2.0, 'error': 1.0}
    """
    sums: dict[str, float] = {}
    for scrape in scrapes:
        for series, value in scrape.samples.items():
            name, labels = split_series(series)
            key = dict(labels).get(label)
            if name == series_name and key is not None:
                sums[key] = sums.get(key, 0.0) + value
    return sums


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterDeltas:
    """What the counters did between two moments.

    `values` holds counters only; a name that is absent is not known, and `get` says None. `requests_by_reason` splits
    `requests_succeeded` by `finished_reason`. Of these sources no counter is known: `restarted` began anew in between,
    `shared` may have, or another process answered in their place; `failed` could not be read, with the reason.
    """

    values: Mapping[str, float]
    before: tuple[Scrape, ...] = ()
    after: tuple[Scrape, ...] = ()
    restarted: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    requests_by_reason: Mapping[str, float] = field(default_factory=dict)

    def get(self, name: str) -> float | None:
        """Return how much a counter rose, or a gauge changed; None when that is not known."""
        if not TABLE[name].gauge:
            return self.values.get(name)
        if any(scrape.source in self.shared for scrape in _at(self.after, TABLE[name].place)):
            return None
        start, end = read(self.before, name), read(self.after, name)
        return None if start is None or end is None else end - start

    def total(self, *names: str) -> float | None:
        """Add several counters; None when any of them is not known."""
        return _sum_known([self.get(name) for name in names])

    def at_end(self, name: str) -> float | None:
        """Return a quantity as it stood in the later scrape."""
        return read(self.after, name)

    def mean(self, stem: str) -> float | None:
        """Return the mean of a histogram over the interval, seconds: `mean("prefill")`; None without observations."""
        total, count = self.get(f"{stem}_seconds_sum"), self.get(f"{stem}_seconds_count")
        return total / count if total is not None and count else None


def deltas(
    before: tuple[Scrape, ...],
    after: tuple[Scrape, ...],
    *,
    identified: bool = False,
    untold: Collection[str] = (),
) -> CounterDeltas:
    """Subtract two scrapes of the same sources.

    Nothing is concluded from the counters of a source that restarted or whose looks are not known to be of one process
    (`analysis.evidence.counters.processes`). A counter that only the later scrape shows was born in between, at 0
    (labelled series appear on first use, Mooncake leaves out counters that never moved).

    Args:
        before: the earlier scrapes.
        after: the later ones.
        identified: every source is one process, because it was started here.
        untold: sources that other looks of the run showed to be several processes.
    """
    earlier = {scrape.source: scrape for scrape in before}
    failed = _failures(earlier, after)
    answered = {s.source: s for s in after if s.source not in failed}
    changes = {name: change_of(earlier[name], s, identified=identified) for name, s in answered.items()}
    restarted = tuple(name for name, change in changes.items() if change is Change.RESTARTED)
    shared = tuple(
        n for n, change in changes.items() if change is Change.UNTOLD or (n in untold and n not in restarted)
    )
    usable = {name: s for name, s in answered.items() if name not in {*restarted, *shared}}
    wanted = {place: dict.fromkeys(s.source for s in _at((*before, *after), place)) for place in Place}
    rises = {n: _rise(n, wanted[q.place], earlier, usable) for n, q in TABLE.items() if not q.gauge}
    values = {name: rise for name, rise in rises.items() if rise is not None}
    return CounterDeltas(
        values=values,
        before=before,
        after=after,
        restarted=restarted,
        shared=shared,
        failed=failed,
        requests_by_reason=_reasons(before, after) if "requests_succeeded" in values else {},
    )


def changed_between(before: tuple[Scrape, ...], after: tuple[Scrape, ...]) -> tuple[str, ...]:
    """Name the sources that answered as several processes, or as one that may have restarted: nobody can tell."""
    moved = deltas(before, after)
    several = (scrape.source for scrape in (*before, *after) if scrape.processes > 1)
    return tuple(dict.fromkeys((*moved.shared, *several)))


def untold_sources(rounds: Sequence[Round]) -> frozenset[str]:
    """Name the sources that did so in any of the rounds: their counters prove nothing in the others either."""
    return frozenset(name for one in rounds for name in changed_between(one.before, one.after))


def _failures(earlier: Mapping[str, Scrape], after: tuple[Scrape, ...]) -> dict[str, str]:
    failed = {name: scrape.error for name, scrape in earlier.items() if scrape.error}
    failed |= {scrape.source: scrape.error for scrape in after if scrape.error}
    failed |= {name: "not scraped after the round" for name in earlier if name not in {s.source for s in after}}
    failed |= {s.source: "not scraped before the round" for s in after if s.source not in earlier}
    return failed


def _rise(
    name: str, sources: Mapping[str, None], earlier: Mapping[str, Scrape], later: Mapping[str, Scrape]
) -> float | None:
    rises = [_rise_of(name, earlier[s], later[s]) if s in later else None for s in sources]
    return _sum_known(rises)


def _rise_of(name: str, before: Scrape, after: Scrape) -> float | None:
    for terms in TABLE[name].alternatives:
        end = _terms_value(after.samples, terms)
        if end is not None:
            start = _terms_value(before.samples, terms)
            return end - (start or 0.0)
    return None


def _reasons(before: tuple[Scrape, ...], after: tuple[Scrape, ...]) -> dict[str, float]:
    start = sum_by_label(before, "vllm:request_success_total", "finished_reason")
    end = sum_by_label(after, "vllm:request_success_total", "finished_reason")
    return {reason: value - start.get(reason, 0.0) for reason, value in end.items()}
