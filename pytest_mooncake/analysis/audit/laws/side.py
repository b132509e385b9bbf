"""One side of the figures, cold or warm, as the laws read it: each figure within the digits it was printed with."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mooncake.analysis.audit.external_figures import Figures, RoundFigures
from pytest_mooncake.analysis.audit.laws.printed import Printed

COLD, WARM = "cold", "warm"


@dataclass(frozen=True, slots=True)
class Side:
    """One side, by name."""

    figures: Figures
    name: str

    @property
    def one(self) -> RoundFigures:
        """Its figures as they stand."""
        return self.figures.cold if self.name == COLD else self.figures.warm

    def of(self, name: str) -> Printed | None:
        """A figure of this side by dotted name, e.g. `ttft_ms.mean`; `None` where it was not given."""
        value: object = self.one
        for part in name.split("."):
            value = getattr(value, part)
        return None if value is None else _rounded(value, self.figures.halves.get(f"{self.name}.{name}"))

    def whole(self, name: str) -> Printed | None:
        """A figure of both sides, e.g. `prompt_tokens`."""
        value = getattr(self.figures, name)
        return None if value is None else _rounded(value, self.figures.halves.get(name))

    @property
    def requests(self) -> int | None:
        """How many were sent: of this side, else of both."""
        return self.figures.requests if self.one.requests is None else self.one.requests

    @property
    def successes(self) -> int | None:
        """How many of them succeeded: all, where nobody says how many failed."""
        return None if self.requests is None else max(0, self.requests - (self.one.failed or 0))

    @property
    def tokens_each(self) -> Printed | None:
        """Output tokens of a request: of this side's total, else as told for both."""
        total, successes = self.of("output_tokens"), self.successes
        if total is not None and successes:
            return total.times(1 / successes)
        return self.whole("output_tokens")

    @property
    def latency_ms(self) -> Printed | None:
        """Mean latency: as given, else TTFT + (output tokens - 1) × TPOT."""
        return self.of("e2e_ms.mean") or self.rebuilt_ms("mean")

    @property
    def is_rebuilt(self) -> bool:
        """Whether the latency is put together from means, and exact only where all requests are alike."""
        each = self.tokens_each
        return self.one.e2e_ms.mean is None and (each is None or each.value != 1)

    def rebuilt_ms(self, part: str) -> Printed | None:
        """TTFT + (output tokens - 1) × TPOT, by the mean or P50 of TPOT; TTFT alone where one token is the reply."""
        ttft, tpot, each = self.of("ttft_ms.mean"), self.of(f"tpot_ms.{part}"), self.tokens_each
        if ttft is None or each is None or not each.value:
            return None
        if each.value == 1:
            return ttft
        return None if tpot is None else ttft + each.minus(1) * tpot

    @property
    def in_flight(self) -> Printed | None:
        """Mean number of requests in flight by Little's law."""
        latency, rate = self.latency_ms, self.of("request_throughput")
        return None if latency is None or rate is None else rate * latency.times(1e-3)


def _rounded(value: object, half: float | None) -> Printed:
    number = float(value)  # type: ignore[arg-type]  # a field of a number, which `None` was told from
    return Printed.exactly(number) if half is None else Printed.rounded(number, half)
