"""What prompts are made of: token ids that the model takes as ordinary, or words whose tokens can be counted, or words.

In order of preference:
    TokenPool   ids for `/v1/completions`, learnt from the server's `/tokenize`: exact
    WordPool    words of one token each, confirmed by `/tokenize` with the chat template around them: exact
    WordPool    plain words where nothing can be counted (`overhead_tokens` is None): the server's count is all there is

A pool is at most 65,536 symbols, so that two random bytes choose one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from pytest_mooncake.errors import WorkloadError
from pytest_mooncake.workload.tokens.words import WORDS

MOST_SYMBOLS = 65_536
FEWEST_SYMBOLS = 64
"""Below this a 16-symbol nonce has less than 96 bits and documents repeat the same few tokens."""
OPENER = "Text"
"""First word of every text prompt: tokenizers treat the very first word differently, so it is always the same one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPool:
    """Ordinary token ids of one model; prompts made of them are exact by construction."""

    ids: tuple[int, ...]
    source: str
    max_model_len: int | None = None

    def __post_init__(self) -> None:
        if len(self.ids) < FEWEST_SYMBOLS:
            raise WorkloadError(
                f"only {len(self.ids)} ordinary token ids came from {self.source}, {FEWEST_SYMBOLS} are needed to make "
                "distinct documents; give --mooncake-api chat to send text instead"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class WordPool:
    """Words; each is one token where `overhead_tokens` (opener, template, BOS) is known, about one token otherwise."""

    words: tuple[str, ...] = WORDS
    source: str = "built-in words"
    overhead_tokens: int | None = None
    max_model_len: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the number of tokens of a prompt is known before it is sent."""
        return self.overhead_tokens is not None


Pool: TypeAlias = TokenPool | WordPool


def pool_of_ids(ids: Iterable[int], source: str, max_model_len: int | None = None) -> TokenPool:
    """A pool of the distinct `ids`, in rising order; what exceeds 65,536 is left out evenly.

    Raises:
        WorkloadError: fewer than 64 ids.
    """
    distinct = sorted(set(ids))
    step = -(-len(distinct) // MOST_SYMBOLS) or 1
    return TokenPool(ids=tuple(distinct[::step]), source=source, max_model_len=max_model_len)


def ordinary_ids(first: list[int], second: list[int]) -> set[int]:
    """Ids of two tokenised texts that differ at both ends, without the marks that both begin or end with.

    Servers that ignore `add_special_tokens: false` put BOS and EOS around every text.

    >>> sorted(ordinary_ids([1, 7, 8, 2], [1, 8, 9, 2]))
    [7, 8, 9]
    """
    marks: set[int] = set()
    for ends in (zip(first, second, strict=False), zip(reversed(first), reversed(second), strict=False)):
        for a, b in ends:
            if a != b:
                break
            marks.add(a)
    return (set(first) | set(second)) - marks
