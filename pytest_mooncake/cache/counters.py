"""Read quantities out of scrapes and take differences that know about restarts. Missing is None, never 0."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from pytest_mooncake.cache.table import TABLE, Place, Term
from pytest_mooncake.records import Scrape

__all__ = ["CounterDeltas", "deltas", "missing_quantities", "read", "split_series", "sum_by_label"]

_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
_COUNTER_NAMES = frozenset(
    term.name for quantity in TABLE.values() if not quantity.gauge for terms in quantity.alternatives for term in terms
)


@lru_cache(maxsize=16_384)
def split_series(series: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Split a key of `Scrape.samples` into name and labels (values stay escaped).

    >>> split_series('vllm:prompt_tokens_by_source_total{engine="0",source="local_compute"}')
    ('vllm:prompt_tokens_by_source_total', (('engine', '0'), ('source', 'local_compute')))
    """
    name, _, labels = series.partition("{")
    return name, tuple(_LABEL.findall(labels))


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
    `requests_succeeded` by `finished_reason`. `restarted` are the sources that began anew in between (none of their
    counters is known then), `failed` those that one of the two scrapes could not read, with the reason.
    """

    values: Mapping[str, float]
    before: tuple[Scrape, ...] = ()
    after: tuple[Scrape, ...] = ()
    restarted: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    requests_by_reason: Mapping[str, float] = field(default_factory=dict)

    def get(self, name: str) -> float | None:
        """Return how much a counter rose, or a gauge changed; None when that is not known."""
        if not TABLE[name].gauge:
            return self.values.get(name)
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


def deltas(before: tuple[Scrape, ...], after: tuple[Scrape, ...]) -> CounterDeltas:
    """Subtract two scrapes of the same sources.

    A source restarted when its process start time changed or any of its counters fell; nothing is concluded from its
    counters then. A counter that only the later scrape shows was born in between, at 0 (labelled series appear on
    first use, Mooncake leaves out counters that never moved).
    """
    earlier = {scrape.source: scrape for scrape in before}
    failed = _failures(earlier, after)
    restarted = tuple(s.source for s in after if s.source not in failed and _has_restarted(earlier[s.source], s))
    usable = {s.source: s for s in after if s.source not in failed and s.source not in restarted}
    values = {}
    for name, quantity in TABLE.items():
        wanted = [s.source for s in _at((*before, *after), quantity.place)]
        if not quantity.gauge and (value := _rise(name, dict.fromkeys(wanted), earlier, usable)) is not None:
            values[name] = value
    return CounterDeltas(
        values=values,
        before=before,
        after=after,
        restarted=restarted,
        failed=failed,
        requests_by_reason=_reasons(before, after) if "requests_succeeded" in values else {},
    )


def _failures(earlier: Mapping[str, Scrape], after: tuple[Scrape, ...]) -> dict[str, str]:
    failed = {name: scrape.error for name, scrape in earlier.items() if scrape.error}
    failed |= {scrape.source: scrape.error for scrape in after if scrape.error}
    failed |= {name: "not scraped after the round" for name in earlier if name not in {s.source for s in after}}
    failed |= {s.source: "not scraped before the round" for s in after if s.source not in earlier}
    return failed


def _has_restarted(before: Scrape, after: Scrape) -> bool:
    if before.started_s is not None and after.started_s is not None and after.started_s > before.started_s + 1.0:
        return True
    return any(
        after.samples.get(series, value) < value for series, value in before.samples.items() if _is_counter(series)
    )


def _is_counter(series: str) -> bool:
    # LMCache's series come from other processes, late and through files: their falling proves no restart.
    return series.partition("{")[0] in _COUNTER_NAMES and not series.startswith("lmcache")


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


def missing_quantities(scrapes: tuple[Scrape, ...]) -> tuple[str, ...]:
    """Name the quantities that sources which did answer do not show: an unknown version, or a feature that is off."""
    answered = tuple(scrape for scrape in scrapes if scrape.error is None)
    places = {scrape.source.partition(":")[0] for scrape in answered}
    return tuple(
        name for name, quantity in TABLE.items() if quantity.place.value in places and read(answered, name) is None
    )
