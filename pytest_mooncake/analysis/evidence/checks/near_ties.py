"""Does an answer from the cache differ from the computed one by more than rounding does? Held, broken or unknown.

Equal text is no yardstick: recomputing only the tail of a prompt rounds differently, and a healthy cache differs from
a cold round where two tokens are all but equally likely. Wrong keys and values shift every log-probability. So a warm
answer is held to the near-tie rule: up to the first token that differs its log-probabilities are those of the cold
answer within `TIE_NATS`, and where a token differs, both answers hold the two tokens for equally likely within
`TIE_NATS`. After the first difference the two are answers to different questions, and nothing is compared.

A token that an answer does not list is less likely than the last one that it does, nobody knows by how much: the list
proves it to be further away than a tie, or it proves nothing. Its distance is never known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_mooncake.records import ProbeAnswer, Status

__all__ = ["TIE_NATS", "Comparison", "alternatives", "compare", "nats"]

TIE_NATS = 0.2
"""Source: vllm#40896, #5543, #52701: first differences on healthy caches lie below 0.1 to 0.2 nat."""
ROUNDING_NATS = 1e-6
LIKELIEST_NATS, UNLIKELIEST_NATS = 1.0, -1e5
"""A log-probability lies between these: 0 and any rounding, and what servers write for impossible (-9999)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a warm answer differs from the cold one.

    `shift_nats` is the largest change of a log-probability over the first `agreed` tokens (None: no token has two);
    `gap_nats` by how much, in whichever answer holds them for less alike, the two tokens of the first difference
    differ (None: no difference, or a list does not hold them); `least_nats` is what they differ by at least where a
    list holds only one of them. `why` says what cannot be told.
    """

    case: str
    agreed: int
    tokens: int
    equal: bool
    status: Status
    shift_nats: float | None = None
    gap_nats: float | None = None
    least_nats: float | None = None
    why: str = ""

    @property
    def distance_nats(self) -> float | None:
        """What is known of the distance, the largest of shift and gap; None where neither is known."""
        return _largest(self.shift_nats, self.gap_nats)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lead:
    """By how much one answer's token leads the other's: known, at least so much, or (both None) not told, and why."""

    gap: float | None = None
    least: float | None = None
    why: str = ""


def compare(cold: ProbeAnswer, warm: ProbeAnswer) -> Comparison:
    """Compare two greedy answers to one prompt, whatever shape their log-probabilities have.

    >>> from pytest_mooncake.records import ProbeRole
    >>> def answer(token, share): return ProbeAnswer(case="x", role=ProbeRole.WARM, engine=0, prompt_tokens=9,
    ...     tokens=(token,), logprobs=(share,), top=({"a": -0.7, "b": -0.75},))
    >>> compare(answer("a", -0.7), answer("b", -0.75)).gap_nats < 0.06
    True
    """
    steps = min(len(cold.tokens), len(warm.tokens))
    agreed = next((i for i in range(steps) if cold.tokens[i] != warm.tokens[i]), steps)
    shift, one_sided = _shift(cold, warm, agreed)
    leads = () if agreed == steps else tuple(_lead(one, agreed, two) for one, two in ((cold, warm), (warm, cold)))
    gap, least = _largest(*(lead.gap for lead in leads)), _largest(*(lead.least for lead in leads))
    proven = _largest(shift, gap, least)
    why = _why_unknown(cold, warm, leads, one_sided)
    broken = proven is not None and proven > TIE_NATS + ROUNDING_NATS
    return Comparison(
        case=warm.case,
        agreed=agreed,
        tokens=steps,
        equal=0 < agreed == len(cold.tokens) == len(warm.tokens),
        status=Status.BROKEN if broken else Status.UNAVAILABLE if why else Status.HELD,
        shift_nats=shift,
        gap_nats=gap if broken or all(lead.gap is not None for lead in leads) else None,
        least_nats=least,
        why="" if broken else why,
    )


def _largest(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _shift(cold: ProbeAnswer, warm: ProbeAnswer, agreed: int) -> tuple[float | None, int]:
    """The largest change of a log-probability over the tokens that agree, and how many have it on one side only."""
    pairs = [(_at(cold.logprobs, i), _at(warm.logprobs, i)) for i in range(agreed)]
    shifts = [abs(one - other) for one, other in pairs if one is not None and other is not None]
    return max(shifts, default=None), sum((one is None) != (other is None) for one, other in pairs)


def _lead(answer: ProbeAnswer, step: int, beside: ProbeAnswer) -> _Lead:
    """By how much an answer holds its own token of a step for likelier than that of the other answer, by its list."""
    listed = alternatives(answer.top, step)
    chosen, other = answer.tokens[step], beside.tokens[step]
    own = listed.get(chosen)
    if own is None:
        return _Lead(why="the list of alternatives is missing, or does not hold the chosen token itself")
    if other in listed:
        return _Lead(gap=abs(own - listed[other]))
    others = [value for token, value in listed.items() if token != chosen]
    if not others:
        return _Lead(why="only the chosen token is listed: at least 2 alternatives are needed")
    why = f"the other token is not among the {len(listed)} listed, and these are too alike to exclude it"
    return _Lead(least=max(0.0, own - min(others)), why=why)


def _why_unknown(cold: ProbeAnswer, warm: ProbeAnswer, leads: Sequence[_Lead], one_sided: int) -> str:
    """What keeps two answers that are not proven to differ from being held equal; empty where nothing does."""
    if not cold.tokens or not warm.tokens:
        return "an answer without tokens"
    if not leads and len(cold.tokens) != len(warm.tokens):
        return f"one answer ended after {min(len(cold.tokens), len(warm.tokens))} tokens"
    if one_sided:
        return f"{one_sided} log-probabilities are no numbers in one of the answers"
    return next((lead.why for lead in leads if lead.why), "")


def nats(value: object) -> float | None:
    """A log-probability as a server wrote it; None for what cannot be one (null, NaN, infinite, text, above 0).

    >>> [nats(value) for value in (-0.5, -0.0, 0, -9999, None, "-1", True, float("nan"), float("-inf"), 10**400, 3)]
    [-0.5, -0.0, 0.0, -9999.0, None, None, None, None, None, None, None]
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    if not UNLIKELIEST_NATS <= value <= LIKELIEST_NATS or math.isnan(value):
        return None
    return float(value)


def _at(values: Sequence[object] | None, step: int) -> float | None:
    return nats(values[step]) if values and step < len(values) else None


def alternatives(top: Sequence[object] | None, step: int) -> dict[str, float]:
    """The best tokens of a step with their log-probabilities; what is none is left out, `null` for the list too."""
    listed = top[step] if top and step < len(top) else None
    if not isinstance(listed, Mapping):
        return {}
    return {token: value for token, raw in listed.items() if (value := nats(raw)) is not None}
