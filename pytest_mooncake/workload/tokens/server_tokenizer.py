"""Learn from a running server what prompts can be made of, through `POST /tokenize` (vLLM, SGLang's imitation of it).

A server without that path is no error: None is returned, and the caller falls back to text. A server that refuses us
or cannot be reached is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_mooncake.border.http import send
from pytest_mooncake.border.values import MOST_COUNT, NotJson, whole_number_of
from pytest_mooncake.errors import EndpointError
from pytest_mooncake.workload.tokens.pools import OPENER, TokenPool, WordPool, ordinary_ids, pool_of_ids
from pytest_mooncake.workload.tokens.words import WORDS

if TYPE_CHECKING:
    import aiohttp

TIMEOUT_S = 30.0
REFUSED = frozenset({401, 403})
MOST_PROBES = 200
"""Requests spent on finding words of one token each."""
MOST_DISTINCT_WORDS = 512
OVERHEAD_PROBES = (1, 7, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenized:
    """What `/tokenize` said of one text."""

    ids: tuple[int, ...]
    max_model_len: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTokenizer:
    """One server's `/tokenize`. `url` has no trailing slash; `headers` may hold secrets and are never shown."""

    session: aiohttp.ClientSession
    url: str
    model: str
    headers: Mapping[str, str] | None = None
    chat: bool = False
    """Count texts as a user message inside the model's chat template."""

    async def tokenize(self, text: str) -> Tokenized | None:
        """The tokens of `text`, None where the server has no usable `/tokenize`.

        Redirects are not followed: what another host says of this model's tokens is not known to be true.

        Raises:
            EndpointError: the server cannot be reached, refuses us, or answers with what cannot be tokens.
        """
        url = f"{self.url}/tokenize"
        reply = await send(self.session, "POST", url, timeout_s=TIMEOUT_S, headers=self.headers, body=self._body(text))
        if reply.status in REFUSED:
            raise EndpointError(f"{url}: HTTP {reply.status}, access refused; give --mooncake-api-key-env VAR")
        if reply.status != 200:
            return None
        try:
            return _read(reply.json(), url)
        except NotJson:
            return None

    async def count(self, text: str) -> int:
        """How many tokens the server makes of `text`; -1 where it does not say."""
        tokenized = await self.tokenize(text)
        return -1 if tokenized is None else len(tokenized.ids)

    def _body(self, text: str) -> bytes:
        import orjson

        if self.chat:
            messages = [{"role": "user", "content": text}]
            return orjson.dumps({"model": self.model, "messages": messages, "add_generation_prompt": True})
        return orjson.dumps({"model": self.model, "prompt": text, "add_special_tokens": False})


def _read(data: object, url: str) -> Tokenized | None:
    """What `/tokenize` said; None where it speaks of something else.

    Raises:
        BorderError: it speaks of tokens, and they can be none.
    """
    ids = data.get("tokens") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(ids, list) or not all(isinstance(i, int | float) for i in ids):
        return None
    for one in ids:
        if type(one) is not int or not 0 <= one <= MOST_COUNT:
            whole_number_of(one, url, "the id of a token", least=0)
    limit = data.get("max_model_len")
    return Tokenized(
        ids=tuple(ids), max_model_len=None if limit is None else whole_number_of(limit, url, "max_model_len")
    )


async def fetch_token_pool(tokenizer: ServerTokenizer) -> TokenPool | None:
    """The ordinary ids that a built-in text is made of on this server; None where it has no `/tokenize`.

    Raises:
        EndpointError: the server cannot be reached or refuses us.
        WorkloadError: the text came to fewer than 64 distinct ids.
    """
    first = await tokenizer.tokenize(" ".join(WORDS))
    second = await tokenizer.tokenize(" ".join(reversed(WORDS)))
    if first is None or second is None:
        return None
    ids = ordinary_ids(list(first.ids), list(second.ids))
    return pool_of_ids(ids, source=f"{tokenizer.url}/tokenize", max_model_len=first.max_model_len)


async def fetch_word_pool(tokenizer: ServerTokenizer) -> WordPool | None:
    """Words of exactly one token each and the constant number of tokens around them; None where that is not found.

    Raises:
        EndpointError: the server cannot be reached or refuses us.
    """
    base = await tokenizer.count(OPENER)
    if base < 0:
        return None
    words = await _single_token_words(tokenizer, base)
    overheads = {await tokenizer.count(_prompt(words[:n])) - n for n in OVERHEAD_PROBES}
    if len(words) < max(OVERHEAD_PROBES) or overheads != {base}:
        return None
    tokenized = await tokenizer.tokenize(OPENER)
    limit = tokenized.max_model_len if tokenized else None
    return WordPool(words=words, source=f"{tokenizer.url}/tokenize", overhead_tokens=base, max_model_len=limit)


def _prompt(words: Sequence[str]) -> str:
    return " ".join((OPENER, *words))


async def _single_token_words(tokenizer: ServerTokenizer, base: int) -> tuple[str, ...]:
    """Halve groups until each is all single tokens or one word: few requests where nearly all words are single."""
    found: list[str] = []
    groups: list[Sequence[str]] = [WORDS[:MOST_DISTINCT_WORDS]]
    for _ in range(MOST_PROBES):
        if not groups:
            break
        group = groups.pop()
        if await tokenizer.count(_prompt(group)) - base == len(group):
            found.extend(group)
        elif len(group) > 1:
            middle = len(group) // 2
            groups += [group[middle:], group[:middle]]
    return tuple(found)
