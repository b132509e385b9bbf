"""What the engines count as served by a cache, held against the most that may have been: cold and warm rounds alike."""

from __future__ import annotations

from pytest_mooncake.analysis.evidence.facts import Facts, checked, unavailable
from pytest_mooncake.records import Evidence, Rung

__all__ = ["at_most_hits"]

LOCAL = "local_hit_tokens"
_TEMPLATE_UNKNOWN = (
    "a template in front of every prompt may be what was found; its length is not known: "
    "start vLLM with --enable-prompt-tokens-details"
)


def at_most_hits(
    facts: Facts, check: str, name: str, most: int, *, expected: str, uncounted: str, too_many: str
) -> Evidence:
    """Return the check that the engines count at most `most` tokens under `name`.

    Args:
        facts: of the round.
        check: its name.
        name: of the counter.
        most: what may be found all the same.
        expected: that, in words.
        uncounted: why the check cannot be made where this engine does not count them.
        too_many: what more than that means.
    """
    hits = facts.deltas.get(name)
    if facts.engine_problem or hits is None:
        why = facts.engine_problem or uncounted
        return unavailable(facts, check, Rung.ENGINE, expected=expected, why=why)
    may_be_common = name == LOCAL and _may_be_common(facts, hits)
    return checked(
        facts,
        check,
        Rung.ENGINE,
        "template" if may_be_common else "hits",
        held=hits <= most,
        expected=expected,
        observed=f"{hits:,.0f} tokens",
        detail="" if hits <= most else _TEMPLATE_UNKNOWN if may_be_common else too_many,
    )


def _may_be_common(facts: Facts, hits: float) -> bool:
    """Whether a template of unknown length explains hits: less than half of every prompt, as of no cached prompt."""
    return facts.common_tokens is None and 2 * hits <= (facts.prompt_tokens or 0)
