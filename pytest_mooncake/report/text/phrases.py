"""Recorded sentences of checks and laws in the reader's language (`templates/phrases.toml`).

Records are English whatever the language of the report. What can be mapped sentence by sentence is; a sentence that is
not known stays as it was recorded, so nothing is ever lost or guessed.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files

from pytest_mooncake.report.text.labels import Lang

SEPARATORS = (("; ", "；"), (": ", "："), (", ", "，"), (" = ", " = "))
"""A sentence that is not known whole is known by its parts, split at the weakest joint first."""

CHECK = re.compile(r"(round \d+ \((?:cold|warm)\)|correctness gate): (\w+): expected (.+?), observed (.+)")
"""A broken check as judging writes it."""


def translate(text: str, lang: Lang) -> str:
    """A recorded sentence in `lang`.

    >>> translate("6 served, 0 failed", "zh"), translate("6 served, 0 failed", "en"), translate("Zyx", "zh")
    ('完成 6 个，失败 0 个', '6 served, 0 failed', 'Zyx')
    """
    return text if lang == "en" or not text else _translated(text, 0)


def _translated(text: str, level: int) -> str:
    check = CHECK.fullmatch(text)
    if check:
        where, name, expected, observed = check.groups()
        return f"{_translated(where, 0)}：{name}：应为 {_translated(expected, 0)}，实测 {_translated(observed, 0)}"
    known = _known(text)
    if known is not None:
        return known
    if level == len(SEPARATORS):
        return text
    split, joint = SEPARATORS[level]
    parts = text.split(split)
    if len(parts) == 1:
        return _translated(text, level + 1)
    translated = [_translated(part, level + 1) for part in parts]
    return (joint if translated != parts else split).join(translated)


def _known(text: str) -> str | None:
    for pattern, chinese in _phrases():
        found = pattern.fullmatch(text)
        if found:
            return chinese.format(*found.groups())
    return None


@cache
def _phrases() -> tuple[tuple[re.Pattern[str], str], ...]:
    text = files("pytest_mooncake.report").joinpath("templates/phrases.toml").read_text(encoding="utf-8")
    sections = tomllib.loads(text).values()
    pairs = [(english, chinese) for section in sections for english, chinese in section.items()]
    pairs.sort(key=lambda pair: len(pair[0].replace("{}", "")), reverse=True)  # the more specific one first
    return tuple((_pattern(english), chinese) for english, chinese in pairs)


def _pattern(english: str) -> re.Pattern[str]:
    """A placeholder is one figure or name: no joint, no words, or a long sentence would be mistaken for a short one."""
    joints = "|".join([*(re.escape(split) for split, _ in SEPARATORS), "[a-z] [a-z]{2}"])
    name, quoted = f"((?:(?!{joints}).)+?)", r"((?:[^()]|\([^()]*\))+)"
    first, *parts = english.split("{}")
    pattern, before = re.escape(first), first
    for part in parts:
        # what stands alone in brackets is somebody's own words, an error as it was reported
        pattern += (quoted if before.endswith("(") and part.startswith(")") else name) + re.escape(part)
        before = part
    return re.compile(pattern)
