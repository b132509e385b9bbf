"""The words of the reports in both languages (`templates/labels.toml`), looked up by key."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal

Lang = Literal["en", "zh"]
LANGUAGES: tuple[Lang, ...] = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The words of one language. `words("verdict.PASS")` is the word; values fill the braces of a sentence."""

    lang: Lang
    entries: Mapping[str, str] = field(repr=False)

    def __call__(self, key: str, **values: object) -> str:
        """The word or sentence of `key`.

        Raises:
            KeyError: there is no such key, or the sentence wants a value that was not given.
        """
        text = self.entries[key]
        return text.format(**values) if values else text

    def find(self, key: str) -> str | None:
        """The word of `key`, `None` if there is none (names that users may extend: metrics, laws, scenarios)."""
        return self.entries.get(key)


@cache
def catalogue(lang: Lang) -> Catalogue:
    """The words of `lang`."""
    column = LANGUAGES.index(lang)
    return Catalogue(lang, {key: pair[column] for key, pair in pairs().items()})


@cache
def pairs() -> Mapping[str, tuple[str, str]]:
    """Every entry as (English, Chinese)."""
    text = files("pytest_mooncake.report").joinpath("templates/labels.toml").read_text(encoding="utf-8")
    sections = tomllib.loads(text)
    return {f"{section}.{key}": tuple(pair) for section, pairs in sections.items() for key, pair in pairs.items()}


def definitions(words: Catalogue) -> dict[str, str]:
    """Every metric's formula by the name that `report.json` gives it."""
    section = "definition."
    return {key.removeprefix(section): text for key, text in words.entries.items() if key.startswith(section)}


def plain(heading: str) -> str:
    """A heading without the symbol before it, which needs a font that not every reader's machine has.

    >>> plain("📊 Results"), plain("Results")
    ('Results', 'Results')
    """
    first, _, rest = heading.partition(" ")
    return rest if rest and not first.isalnum() and len(first) <= 2 else heading
