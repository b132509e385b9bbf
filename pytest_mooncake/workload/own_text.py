"""The user's own documents and conversations as the stuff of prompts, cut to the lengths of the plan.

`documents` of a plan is a pattern of text files (`docs/*.md`), a JSONL file of one text or conversation a line, or a
JSON file that is a list of them (ShareGPT's form). A record is read by the first of these keys that it has:
    text, prompt, content                text
    conversations: [{from, value}, …]    ShareGPT
    messages: [{role, content}, …]       OpenAI
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mooncake.errors import EndpointError, MissingPartError, PlanError, WorkloadError
from pytest_mooncake.workload.content import OwnText
from pytest_mooncake.workload.tokens import Pool, TokenPool

if TYPE_CHECKING:
    from pytest_mooncake.workload.server_tokenizer import ServerTokenizer

MOST_TEXTS = 1_000
MOST_CHARACTERS = 4_000_000
"""Of one text; what follows is not read."""
PIECE_CHARACTERS = 8_000
"""Servers refuse to tokenise what exceeds the model's context: texts go there in pieces."""
TEXT_KEYS = ("text", "prompt", "content")
TALK_KEYS = ("conversations", "messages")
FORM = '{"text": …}, {"messages": [{"role": …, "content": …}]} or {"conversations": [{"from": …, "value": …}]}'


def read_texts(pattern: str, base: Path) -> tuple[str, ...]:
    """The texts that `pattern` names, at most 1,000, in order of file name or line; empty ones are left out.

    Raises:
        PlanError: nothing matches, a file is not UTF-8, or a record holds no text (with file and line).
    """
    paths = _matching(pattern, base)
    if not paths:
        raise PlanError(
            f"documents: {pattern}: no such file (looked in {base.resolve()}); give a pattern like docs/*.md"
        )
    every = (text[:MOST_CHARACTERS] for path in paths for text in _texts_in(path))
    texts = tuple(islice((text for text in every if text.strip()), MOST_TEXTS))
    if not texts:
        raise PlanError(f"documents: {pattern}: only empty texts in {len(paths)} file(s)")
    return texts


def _matching(pattern: str, base: Path) -> list[Path]:
    anchor = Path(pattern).anchor
    root = Path(anchor) if anchor else base
    try:
        found = sorted(root.glob(pattern.removeprefix(anchor)))
    except (ValueError, IndexError, NotImplementedError):  # patterns that pathlib cannot mean anything by: "", "."
        return []
    return [path for path in found if path.is_file()]


def _texts_in(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PlanError(f"documents: {path}: cannot be read ({reason})") from None
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield _text_of(_parsed(line, f"{path}:{number}"), f"{path}:{number}")
    elif path.suffix == ".json":
        records = _parsed(text, str(path))
        for number, record in enumerate(records if isinstance(records, list) else [records]):
            yield _text_of(record, f"{path}: record {number}")
    else:
        yield text


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise PlanError(f"documents: {where}: not JSON; expected {FORM}") from None


def _text_of(record: object, where: str) -> str:
    if isinstance(record, dict):
        for key in TEXT_KEYS:
            if isinstance(record.get(key), str):
                return str(record[key])
        for key in TALK_KEYS:
            if isinstance(record.get(key), list):
                return "\n\n".join(filter(None, map(_said, record[key])))
    raise PlanError(f"documents: {where}: no text in it; expected {FORM}")


def _said(turn: object) -> str:
    if not isinstance(turn, dict):
        return ""
    said = turn.get("value", turn.get("content"))
    return said if isinstance(said, str) else ""


async def fetch_own_text(tokenizer: ServerTokenizer, pool: Pool, texts: Sequence[str], *, most_tokens: int) -> OwnText:
    """`texts` as rows of the kind of symbols that `pool` has; of each, as much as the longest prompt needs.

    Raises:
        EndpointError: the server stopped answering `/tokenize`.
        WorkloadError: it made no tokens of any text.
    """
    if not isinstance(pool, TokenPool):
        return OwnText([text.split() for text in texts], pool.words)
    rows = [ids for text in texts if (ids := await _ids(tokenizer, text, most_tokens))]
    if not rows:
        raise WorkloadError(f"{tokenizer.url}/tokenize made no tokens of {len(texts)} texts; look at `documents`")
    return OwnText(rows, pool.ids)


async def _ids(tokenizer: ServerTokenizer, text: str, most_tokens: int) -> list[int]:
    ids: list[int] = []
    for piece in pieces(text):
        tokenized = await tokenizer.tokenize(piece)
        if tokenized is None:
            raise EndpointError(f"{tokenizer.url}/tokenize: stopped answering; is the server still running?")
        ids.extend(tokenized.ids)
        if len(ids) >= most_tokens:
            break
    return ids[:most_tokens]


def pieces(text: str) -> Iterator[str]:
    """`text` in pieces of at most 8,000 characters that end at a space where there is one.

    >>> "".join(pieces("word " * 5000)) == "word " * 5000
    True
    """
    begin = 0
    while begin < len(text):
        end = begin + PIECE_CHARACTERS
        if end < len(text):
            space = text.rfind(" ", begin + 1, end)
            end = space if space > 0 else end
        yield text[begin:end]
        begin = end


def local_tokenizer(path: Path) -> Callable[[str], list[int]]:
    """A function that tokenises with a `tokenizer.json`, without any marks.

    Raises:
        MissingPartError: the package `tokenizers` is not installed.
        WorkloadError: the file is no tokenizer.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingPartError(
            "cutting own text by a tokenizer.json needs the package tokenizers: pip install tokenizers"
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises bare Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WorkloadError(f"{path}: not a tokenizer.json ({reason}); give the model's own file") from None
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)
