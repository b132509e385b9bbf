"""Secrets out of foreign text: redacted once, where it enters, however a server spells what it repeats.

A secret is found plain, in pieces of eight characters (a server that shows a part of it), broken by whatever is no
letter and no digit, escaped for JSON, HTML, URLs or a shell (also several times over), in base64 (with either alphabet,
at any offset), base32, hexadecimal and as a list of numbers. Digests and ciphers of it are no repetition.

Secrets of fewer than eight characters are found as words of their own only, and fewer than four cannot be told from
ordinary text: who names one is told so (`plan.secrets.credentials`).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any, TypeVar, cast

from pytest_mooncake.border.spellings import readings

__all__ = ["LEAST_SECRET", "MASK", "Redactor", "secrets_of_headers"]

T = TypeVar("T")
Span = tuple[int, int]

MASK = "***"
PIECE = 8
"""So many characters in a row of a secret are taken for it."""
LEAST_PIECE = 5
LEAST_SECRET = 4
_GRAM = 4
_REMEMBERED = 50_000
_REMEMBERED_CHARS = 512
_SHOWN_ENDS = range(7, 3, -1)
"""Servers that mask a key show so much of its ends (`sk-a1B2****9xyz`); more is a piece like any other."""
_ENDS_FROM = 12
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@:'\"]*:(?!\*\*\*@)[^/\s@'\"]+(?=@)")
_SCHEME = re.compile(r"(?:basic|bearer|token|apikey|api-key|digest|negotiate|key)[ \t]+(\S.*)", re.IGNORECASE)
_OWN_WORD = re.compile(r"[a-z_]{1,40}")
_METRIC = re.compile(r"(?=[^_:]*[_:])[A-Za-z_:][A-Za-z0-9_:]*")
_NAMES = ("pytest", "mooncake", "lmcache", "vllm", "store", "connector", "simulated", "acceptance", "completions")
_OWN_WORDS = tuple(f"{one}{other}" for one in _NAMES for other in _NAMES)
"""A piece of a secret that is a piece of these says nothing: `mooncake-key-4f1c` must not blacken every `mooncake`."""


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Character sequences of one length, looked for at a fraction of the places."""

    width: int
    pieces: frozenset[str]
    grams: frozenset[str]

    @classmethod
    def of(cls, pieces: Collection[str]) -> _Pieces:
        width = len(next(iter(pieces)))
        gram = min(_GRAM, width)
        return cls(
            width, frozenset(pieces), frozenset(p[i : i + gram] for p in pieces for i in range(width - gram + 1))
        )

    def spans(self, text: str) -> Iterator[Span]:
        """Where one of them stands. Each holds a whole gram that begins at a multiple of `step`."""
        width, pieces, grams = self.width, self.pieces, self.grams
        gram = min(_GRAM, width)
        step = width - gram + 1
        for at in range(0, len(text) - gram + 1, step):
            if text[at : at + gram] in grams:
                for start in range(max(0, at - step + 1), at + 1):
                    if text[start : start + width] in pieces:
                        yield start, start + width


class Redactor:
    """Takes secrets out of texts.

    Args:
        secrets: what must not be repeated, nor in parts.
        whole: what must not be repeated as a whole, such as a user's name with the password.
        piece: the least part of a secret that is taken out (half of what is shorter than 16 characters).
    """

    def __init__(self, secrets: Iterable[str] = (), whole: Iterable[str] = (), *, piece: int = LEAST_PIECE) -> None:
        self._given = (tuple(secrets), tuple(whole))
        known = {s for s in self._given[0] if len(s) >= LEAST_SECRET}
        entire = {s for s in self._given[1] if len(s) >= LEAST_SECRET} | {s for s in known if len(s) < PIECE}
        split = known - entire
        self._words = _words(entire)
        self._ends = _ends(split)
        self._plain = _grouped(one for s in split for one in _plain_pieces(s, piece))
        self._skeletons = _grouped(one for s in known | entire for one in _skeleton_pieces(s, whole=s in entire))
        self._base64 = _grouped(one for s in known | entire for one in _base64_pieces(s, whole=s in entire))
        self._remembered: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as what it was made of."""
        return Redactor, self._given

    def __repr__(self) -> str:
        """No secret."""
        return f"Redactor({len(self._given[0]) + len(self._given[1])} secrets)"

    def __bool__(self) -> bool:
        """Whether there is a secret at all."""
        return any(self._given)

    def __or__(self, other: Redactor) -> Redactor:
        """The secrets of both."""
        return Redactor(self._given[0] + other._given[0], self._given[1] + other._given[1])

    @cached_property
    def _last(self) -> Redactor:
        """For what is about to be written: ordinary words that are short secrets, or parts of them, are spared."""
        secrets, whole = ([s for s in some if len(s) >= PIECE] for some in self._given)
        return Redactor(secrets, whole, piece=PIECE)

    @cached_property
    def _entire(self) -> Redactor:
        """For names that must be found: only what repeats a whole secret goes."""
        return Redactor((), (*self._given[0], *self._given[1]))

    def redacted(self, text: str) -> str:
        """`text` without the secrets that it repeats, and without passwords in addresses."""
        if len(text) > _REMEMBERED_CHARS:
            return _masked(text, self._spans(text))
        known = self._remembered.get(text)
        if known is None:
            if len(self._remembered) > _REMEMBERED:
                self._remembered.clear()
            known = self._remembered[text] = _masked(text, self._spans(text))
        return known

    def cleaned(self, value: T) -> T:
        """`value`, which came from outside, without secrets in any of its texts: in lists, mappings and dataclasses.

        Of a mapping's key that is the name of a metric only what repeats a whole secret goes, or nobody would find it.
        """
        return cast("T", _Cleaning(self, spares_words=False).of(value)) if self else value

    def guarded(self, value: T) -> T:
        """`value`, which is about to be written, cleaned once more; words of ours (`decided`) are left alone."""
        return cast("T", _Cleaning(self._last, spares_words=True).of(value)) if self else value

    def key(self, text: str) -> str:
        """A mapping's key, as `cleaned` cleans it."""
        head, brace, rest = text.partition("{")
        if not _METRIC.fullmatch(head):
            return self.redacted(text)
        return self._entire.redacted(head) + (self.redacted(brace + rest) if brace else "")

    def in_sequence(self, texts: Sequence[str]) -> list[str]:
        """Texts that may spell a secret together, such as the tokens of an answer."""
        found, at, cleaned = _merged(self._spans("".join(texts))), 0, []
        for text in texts:
            inside = [(max(a, at) - at, min(b, at + len(text)) - at) for a, b in found if a < at + len(text) and b > at]
            cleaned.append(self.redacted(_masked(text, inside)))
            at += len(text)
        return cleaned

    def _spans(self, text: str) -> list[Span]:
        spans = [match.span() for match in _USER_IN_URL.finditer(text)] if "://" in text else []
        if not (self._plain or self._words or self._base64):
            return spans
        for level, skeletons, in_base64 in readings(text):
            for pattern in (self._words, self._ends):
                spans += [level.origin(*m.span()) for m in pattern.finditer(level.text)] if pattern else ()
            spans += [level.origin(*span) for kind in self._plain for span in kind.spans(level.text)]
            for one in skeletons:
                spans += [one.origin(*span) for kind in self._skeletons for span in kind.spans(one.text)]
            spans += [in_base64.origin(*span) for kind in self._base64 for span in kind.spans(in_base64.text)]
        return spans


class _Cleaning:
    """Goes through a value; what holds no secret stays the very object that it is."""

    def __init__(self, redactor: Redactor, *, spares_words: bool) -> None:
        self._redactor = redactor
        self._spares_words = spares_words

    def of(self, value: Any) -> Any:
        if isinstance(value, Enum):
            return value
        if isinstance(value, str):
            return value if self._is_spared(value) else self._redactor.redacted(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list | tuple):
            return self._sequence(value)
        if is_dataclass(value) and not isinstance(value, type):
            return self._record(value)
        return value

    def _is_spared(self, text: str) -> bool:
        return self._spares_words and _OWN_WORD.fullmatch(text) is not None

    def _mapping(self, value: Mapping[Any, Any]) -> Mapping[Any, Any]:
        cleaned = {self._key(key): self.of(inner) for key, inner in value.items()}
        return value if cleaned == value else cleaned

    def _key(self, key: Any) -> Any:
        return key if not isinstance(key, str) or self._is_spared(key) else self._redactor.key(key)

    def _sequence(self, value: list[Any] | tuple[Any, ...]) -> list[Any] | tuple[Any, ...]:
        if not value or isinstance(value[0], int | float):
            return value
        if all(isinstance(one, str) for one in value):
            cleaned = self._redactor.in_sequence(value)
        else:
            cleaned = [self.of(one) for one in value]
        if all(new is old for new, old in zip(cleaned, value, strict=True)) or cleaned == list(value):
            return value
        if hasattr(value, "_fields"):  # a named tuple
            return type(value)(*cleaned)
        return cleaned if isinstance(value, list) else tuple(cleaned)

    def _record(self, value: Any) -> Any:
        changed = {}
        for field in fields(value):
            old = getattr(value, field.name)
            if field.init and (new := self.of(old)) is not old and new != old:
                changed[field.name] = new
        return replace(value, **changed) if changed else value


def secrets_of_headers(headers: Mapping[str, str]) -> Redactor:
    """What of a request's headers no reply may repeat: their values, and what an `Authorization` consists of."""
    secrets: list[str] = []
    whole: list[str] = []
    for value in headers.values():
        credentials = _SCHEME.fullmatch(value.strip())
        if credentials is None:
            secrets.append(value.strip())
            continue
        whole.append(value.strip())
        secrets.append(credentials[1])
        user, colon, password = _basic(credentials[1]).partition(":")
        if colon:
            whole.append(f"{user}:{password}")
            secrets.append(password)
    return Redactor(secrets, whole)


def _basic(text: str) -> str:
    """The user and password that `Basic` credentials hold; empty where the text is none."""
    try:
        return base64.b64decode(text, validate=True).decode("utf-8")
    except ValueError:
        return ""


def _plain_pieces(secret: str, least: int) -> Iterator[str]:
    """The secret's pieces, whole where it is short; in both readings of what is no ASCII."""
    for spelt in {secret, secret.encode("utf-8", "replace").decode("latin-1")}:
        width = max(least, min(PIECE, len(spelt) // 2))
        yield from _telling(_windows(spelt, width))


def _skeleton_pieces(secret: str, *, whole: bool) -> Iterator[str]:
    raw = secret.encode("utf-8", "replace")
    letters = _letters(secret)
    if len(letters) >= (PIECE - 2 if not whole else PIECE):
        yield from _telling(_windows(letters, len(letters) if whole else min(PIECE, len(letters))))
    yield from _windows(raw.hex(), 2 * len(raw) if whole else 2 * PIECE)
    for shift in range(5):
        core = _core(base64.b32encode(bytes(shift) + raw + bytes(-(shift + len(raw)) % 5)), 8 * shift, 8 * len(raw), 5)
        yield from _windows(core.lower(), len(core) if whole else min(len(core), (8 * PIECE - 4) // 5))


def _base64_pieces(secret: str, *, whole: bool) -> Iterator[str]:
    raw = secret.encode("utf-8", "replace")
    for shift in range(3):
        core = _core(base64.b64encode(bytes(shift) + raw), 8 * shift, 8 * len(raw), 6)
        yield from _windows(core, len(core) if whole else min(len(core), (8 * PIECE - 4) // 6))


def _core(encoded: bytes, skipped_bits: int, bits: int, size: int) -> str:
    """The characters of `size` bits each that the secret alone decides."""
    return encoded.decode("ascii")[-(-skipped_bits // size) : (skipped_bits + bits) // size]


def _windows(text: str, width: int) -> Iterator[str]:
    return (text[at : at + width] for at in range(len(text) - width + 1)) if width else iter(())


def _telling(pieces: Iterable[str]) -> Iterator[str]:
    """Pieces that say something: no part of a word of ours, and not one character over and over (`--------`)."""
    return (piece for piece in pieces if len(set(piece)) > 1 and not _is_of_own_words(piece))


def _is_of_own_words(piece: str) -> bool:
    letters = _letters(piece)
    return len(letters) >= len(piece) - 2 and any(letters in word for word in _OWN_WORDS)


def _letters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "", text).lower()


def _grouped(pieces: Iterable[str]) -> tuple[_Pieces, ...]:
    """Pieces by their length."""
    by_width: dict[int, set[str]] = {}
    for piece in pieces:
        if piece:
            by_width.setdefault(len(piece), set()).add(piece)
    return tuple(_Pieces.of(found) for found in by_width.values())


def _words(secrets: Collection[str]) -> re.Pattern[str] | None:
    """Secrets that are found as words of their own."""
    if not secrets:
        return None
    longest_first = sorted(secrets, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def _ends(secrets: Collection[str]) -> re.Pattern[str] | None:
    """What a server leaves of a key that it masks."""
    shown = [s for s in secrets if len(s) >= _ENDS_FROM]
    if not shown:
        return None
    heads = "|".join(re.escape(s[:n]) for s in shown for n in _SHOWN_ENDS)
    tails = "|".join(re.escape(s[-n:]) for s in shown for n in _SHOWN_ENDS)
    masks = ("**", "..", "…", "••", "xx", "XX", "##")
    before = "|".join(f"(?<={re.escape(mask)})" for mask in masks)
    after = "|".join(map(re.escape, masks))
    return re.compile(rf"(?<![A-Za-z0-9])(?:{heads})(?=\s?(?:{after}))|(?:{before})(?:{tails})(?![A-Za-z0-9])")


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _masked(text: str, spans: Iterable[Span]) -> str:
    parts, at = [], 0
    for start, end in _merged(spans):
        parts += [text[at:start], MASK]
        at = end
    return "".join((*parts, text[at:])) if parts else text
