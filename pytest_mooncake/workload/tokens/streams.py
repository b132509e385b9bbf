"""Endless rows of symbols, each named by a number and made when asked for: the tokens behind every segment.

A row is the output of SHAKE-128 over salt and number, two bytes a symbol: the same on every machine, with every
version of every library, 16,384 symbols in about a tenth of a millisecond.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pytest_mooncake.workload.tokens.nonce import nonce_places

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places: TypeAlias = NDArray[Any]
    Symbols: TypeAlias = NDArray[Any]

MARK_SYMBOLS = 3
"""Symbols that tell rows of own text apart: the first two count up, see `nonce_places`."""


class Content(Protocol):
    """A source of rows: rows are places in `symbols`, and nonces are made of its first `nonce_symbols`."""

    @property
    def symbols(self) -> Symbols:
        """(n,) what a place stands for: token ids or words."""

    @property
    def nonce_symbols(self) -> int:
        """How many symbols nonces may be made of."""

    def take(self, salt: str, stream: int, offset: int, count: int) -> Places:
        """Places of `count` symbols of row `stream`, from `offset` on."""


def symbol_array(symbols: Sequence[int | str]) -> Symbols:
    """(n,) int64 for ids, objects for words."""
    import numpy as np

    return np.array(symbols, dtype=np.int64 if isinstance(symbols[0], int) else np.object_)


class SyntheticTokens:
    """Rows of symbols drawn evenly from a pool."""

    def __init__(self, symbols: Sequence[int | str]) -> None:
        import numpy as np

        self.symbols = symbol_array(symbols)
        self.nonce_symbols = len(symbols)
        self._place_of = (np.arange(65_536, dtype=np.int64) * len(symbols) >> 16).astype(np.uint16)

    def take(self, salt: str, stream: int, offset: int, count: int) -> Places:
        """Places of `count` symbols of row `stream`, from `offset` on."""
        import numpy as np

        row = hashlib.shake_128(f"{salt}/{stream}".encode()).digest(2 * (offset + count))
        places: Places = self._place_of[np.frombuffer(row, dtype="<u2", offset=2 * offset)]
        return places


class OwnText:
    """Rows cut from the user's own texts, over and over where they are short.

    Row s reads text s mod n; where texts are fewer than rows, later rows start elsewhere in the same text. Every row
    begins with symbols that number it, so that two texts with the same first page share nothing that was not planned.
    Nonces and numbers are made of the `pool`, because a text may hold too few different tokens.
    """

    def __init__(self, texts: Sequence[Sequence[int | str]], pool: Sequence[int | str]) -> None:
        import numpy as np

        distinct = list(dict.fromkeys([*pool, *(symbol for text in texts for symbol in text)]))
        place = {symbol: i for i, symbol in enumerate(distinct)}
        self.symbols = symbol_array(distinct)
        self.nonce_symbols = len(pool)
        self._texts = tuple(np.array([place[symbol] for symbol in text], dtype=np.int32) for text in texts)

    def take(self, salt: str, stream: int, offset: int, count: int) -> Places:
        """Places of `count` symbols of row `stream`, from `offset` on; `salt` does not change a user's text."""
        import numpy as np

        lap, which = divmod(stream, len(self._texts))
        text = self._texts[which]
        row: Places = text[(np.arange(offset, offset + count) + lap * (len(text) // 3 + 1)) % len(text)]
        if offset < MARK_SYMBOLS:
            marks = nonce_places("row", stream, self.nonce_symbols)[offset : min(MARK_SYMBOLS, offset + count)]
            row[: len(marks)] = marks
        return row
