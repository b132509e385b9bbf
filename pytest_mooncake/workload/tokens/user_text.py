"""The user's own documents and conversations as the stuff of prompts, cut to the lengths of the plan.

`documents` of a plan is a pattern of text files (`docs/*.md`), a JSONL file of one text or conversation a line, or a
JSON file that is a list of them (ShareGPT's form). A record is read by the first of these keys that it has:
    text, prompt, content                text
    conversations: [{from, value}, …]    ShareGPT
    messages: [{role, content}, …]       OpenAI
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_mooncake.border.values import whole_text
from pytest_mooncake.errors import EndpointError, PlanError, WorkloadError
from pytest_mooncake.workload.tokens.pools import Pool, TokenPool
from pytest_mooncake.workload.tokens.streams import OwnText

if TYPE_CHECKING:
    from pytest_mooncake.workload.tokens.server_tokenizer import ServerTokenizer

MOST_TEXTS = 1_000
MOST_CHARACTERS = 4_000_000
"""Of one text; what follows is not read."""
MOST_BYTES_PER_CHARACTER = 4
MOST_RECORD_BYTES = 32 * 2**20
"""A line: a text of 4,000,000 characters, each written as an escape of six."""
MOST_FILE_BYTES = 2**30
"""The collections that people have (ShareGPT: 700 MB) are read."""
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
    every = (whole_text(text[:MOST_CHARACTERS]) for path in paths for text in _texts_in(path))
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
        with path.open("rb") as file:
            if path.suffix == ".jsonl":
                yield from _texts_of_lines(path, file)
            elif path.suffix == ".json":
                yield from _texts_of_list(path, file)
            else:
                yield _beginning(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PlanError(f"documents: {path}: cannot be read ({reason})") from None


def _beginning(file: IO[bytes]) -> str:
    """As much of a text as may be used, and no more of the file; its last character may be cut."""
    data = file.read(MOST_BYTES_PER_CHARACTER * MOST_CHARACTERS)
    is_whole = not file.read(1)
    return codecs.getincrementaldecoder("utf-8")().decode(data, is_whole)


def _texts_of_lines(path: Path, file: IO[bytes]) -> Iterator[str]:
    for number in count(1):
        where = f"{path}:{number}"
        line = file.readline(MOST_RECORD_BYTES + 1)
        if len(line) > MOST_RECORD_BYTES:
            raise PlanError(f"documents: {where}: a line of more than {MOST_RECORD_BYTES // 2**20} MiB; cut it")
        if file.tell() > MOST_FILE_BYTES:
            raise PlanError(f"documents: {where}: {_too_large()}")
        if not line:
            return
        if line.strip():
            yield _text_of(_parsed(line.decode(), where), where)


def _texts_of_list(path: Path, file: IO[bytes]) -> Iterator[str]:
    if path.stat().st_size > MOST_FILE_BYTES:
        raise PlanError(f"documents: {path}: {_too_large()}")
    data = file.read(MOST_FILE_BYTES)
    records = _parsed(data.decode(), str(path))
    del data
    for number, record in enumerate(records if isinstance(records, list) else [records]):
        yield _text_of(record, f"{path}: record {number}")


def _too_large() -> str:
    return f"more than {MOST_FILE_BYTES // 2**30} GiB; give a part of it, {MOST_TEXTS:,} texts are read at most"


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except RecursionError:
        raise PlanError(f"documents: {where}: nests too deeply; expected {FORM}") from None
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
