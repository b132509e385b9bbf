"""How the prompts of a workload are composed and share: a tree of segments, as flat arrays.

A *segment* is a run of tokens with a name (its index). A prompt is a path of segments from the root of a tree: equal
segments at the start of two prompts are equal tokens, and different segments are different tokens. A document, a
block of a trace, a system prompt, a turn of a conversation: all are segments. So what a cache can reuse is known
exactly before one token is made, and tokens are made only when a request is about to be sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segments:
    """Where the tokens of each segment come from: `tokens[s]` of them at `offset[s]` of the stream `stream[s]`.

    A stream is an endless row of tokens named by a number. `stream` is None where the segment's index names it.
    """

    tokens: Ints
    stream: Ints | None = None
    offset: Ints | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """The prompts of n requests in the order they are sent.

    Request i is made of the segments `path[starts[i]:starts[i + 1]]`, cut to `prompt_tokens[i]`. Every segment stands
    behind one and the same predecessor wherever it occurs (`workload.layouts.segment_tree` makes it so), and only the
    last of a prompt may be cut.

    Attributes:
        starts: (n + 1,) places in `path`.
        path: segment indices of all requests, one after the other.
        segments: (number of segments,) where their tokens come from.
        prompt_tokens: (n,) exact lengths.
        output_tokens: (n,) tokens to generate.
        offset_ns: (n,) intended send times after the start of the round; None in a closed loop.
        after: (n,) the request that must be done before this one is sent, -1 for none; None where there are none.
        think_ns: (n,) pause after that.
        reply: (n,) the segment that holds the answer to a request in later prompts, where the server's own answer is
            to stand there; -1 for none; None where answers are fixed.
        notes: sentences for whoever reads the plan.
    """

    starts: Ints
    path: Ints
    segments: Segments
    prompt_tokens: Ints
    output_tokens: Ints
    offset_ns: Ints | None = None
    after: Ints | None = None
    think_ns: Ints | None = None
    reply: Ints | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt_tokens)
