"""The catalogue as a page of the documentation.

`python -m pytest_mooncake.analysis.evidence.faults.page > docs/explanation/faults.md` writes it; a test compares.
"""

from __future__ import annotations

import sys
from string import Template

from pytest_mooncake.analysis.evidence.expected.chunk_size import BLOCK_TOKENS, MOST_CHUNK_TOKENS
from pytest_mooncake.analysis.evidence.faults import SECTIONS, Observation

__all__ = ["page"]

_INTRODUCTION = Template("""\
# Who is at fault

A wrong verdict costs more than none. So an observation is blamed on the product only where our own traffic and our own
keys prove it, and what cannot be told apart is *unknown*: the check is unavailable, says why, and the evidence ends on
a lower rung.

- **product**: the run is a FAIL, at once, and never repeated.
- **instrument**: the measurement does not hold. The trial is INVALID and may be repeated, or the run is.
- **unknown**: the check is skipped with its reason. Where the least rung asked for is not reached, the run is INVALID,
  never PASS.
- **nobody**: it is told, and harms nothing.

*Ours* is a store that was started for the run; *shared* is one that was there before, which others may use. Own keys in
a shared store are seen in what our own prompts are served: its counters do not say whose keys they count.

A chunk size is *told* by the stack, *given* (`--mooncake-chunk-tokens`, `chunk_tokens:`) or *found*: one unit that fits
at least 99 % of the replies of all warm rounds that were served anything. Else it is *assumed*, and a shortage is
blamed on the product only where no plausible unit explains it: single tokens, or whole blocks of $block up to $most
tokens. Prompts longer than $most tokens that are served nothing are a miss by any of them; shorter ones may be shorter
than a chunk. A request that is served nothing beside others that are is not excused by a larger chunk where a smaller
one fits those as well: then it cannot be told.

This page is generated from the catalogue that the checks take their faults from (`analysis/evidence/faults/`).
""")


def page() -> str:
    """Return the page."""
    parts = [_INTRODUCTION.substitute(block=BLOCK_TOKENS, most=f"{MOST_CHUNK_TOKENS:,}")]
    for title, section in SECTIONS:
        parts += [f"\n## {title}\n", "| observation | seen | ours | shared | why it can be told, or not |"]
        parts += ["|---|---|---|---|---|", *(_row(one) for one in section)]
    return "\n".join(parts) + "\n"


def _row(one: Observation) -> str:
    return f"| `{one.id}` | {one.seen} | {one.ours} | {one.shared} | {one.why} |"


if __name__ == "__main__":
    sys.stdout.write(page())
