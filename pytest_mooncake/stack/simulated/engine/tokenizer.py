"""Words for token ids: an exact, deterministic tokenizer in which one word is one token."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

_SYLLABLES = tuple(consonant + vowel for consonant in "bdfghjklmnprstvz" for vowel in "aeio")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TEXT, MESSAGE_START, MESSAGE_END = range(3)


class Vocabulary:
    """`size` token ids, each with a word of its own; the first three are special.

    Text is split at white space. `encode(decode(ids)) == ids` for all ids; a word that is none of the vocabulary's
    gets an id by its CRC-32, never a special one, so every text has exactly as many tokens as words.

    Args:
        size: number of token ids, at least 4.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        digits = 2
        while len(_SYLLABLES) ** digits < size:
            digits += 1
        self.words = SPECIAL + tuple(_word(number, digits) for number in range(len(SPECIAL), size))
        self._ids: Mapping[str, int] = {word: number for number, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, one for each word."""
        ids = self._ids
        return [number if (number := ids.get(word)) is not None else self._unknown(word) for word in text.split()]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the words of `tokens`, joined by single spaces.

        Raises:
            IndexError: a token is not in the vocabulary.
        """
        return " ".join(self.words[token] for token in tokens)

    def encode_chat(self, messages: Sequence[tuple[str, str]], *, generation_prompt: bool = True) -> list[int]:
        """Apply the chat template to (role, content) pairs: three tokens around each message, two at the end."""
        ids: list[int] = []
        for role, content in messages:
            ids += [MESSAGE_START, self._unknown(role), *self.encode(content), MESSAGE_END]
        return [*ids, MESSAGE_START, self._unknown("assistant")] if generation_prompt else ids

    def _unknown(self, word: str) -> int:
        return len(SPECIAL) + zlib.crc32(word.encode()) % (self.size - len(SPECIAL))


def _word(number: int, digits: int) -> str:
    syllables = []
    for _ in range(digits):
        number, digit = divmod(number, len(_SYLLABLES))
        syllables.append(_SYLLABLES[digit])
    return "".join(reversed(syllables))
