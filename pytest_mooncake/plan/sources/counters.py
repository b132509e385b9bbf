"""Whose counters `--mooncake-metrics` names: addresses as they were given, dealt to the endpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.sources.endpoints import check_url

__all__ = ["FLAG", "NONE", "metrics_places"]

FLAG = "--mooncake-metrics"
NONE = "none"
_NAMED = re.compile(r"(?P<url>https?://.+?)=(?P<place>https?://.*|none)", re.IGNORECASE)


def metrics_places(urls: Sequence[str], given: Sequence[str]) -> tuple[tuple[str, ...] | None, ...]:
    """Return where the counters of each endpoint are, in the order of `urls`.

    Args:
        urls: of `--mooncake-url`.
        given: of `--mooncake-metrics`: addresses, `URL=ADDRESS` or `URL=none`, or `none` alone.

    Returns:
        For each endpoint the addresses that were named, each once; empty where its counters are not to be read; None
        where nothing was said of it: they are where they usually are.

    Raises:
        UsageError: an address is none, or it cannot be told whose it is.
    """
    texts = [text.strip() for text in given]
    if any(text.lower() == NONE for text in texts):
        if len(texts) > 1:
            raise UsageError(f"{FLAG} none reads no counters at all: leave out the other {FLAG}, or write URL=none")
        return ((),) * len(urls)
    named = [_NAMED.fullmatch(text) for text in texts]
    pairs = [(found["url"], found["place"]) for found in named if found]
    bare = [text for text, found in zip(texts, named, strict=True) if not found]
    for place in (*bare, *(place for _, place in pairs if place.lower() != NONE)):
        check_url(FLAG, place)
    dealt = _dealt(urls, bare, pairs)
    return tuple(_of_one(url, dealt) for url in urls)


def _dealt(urls: Sequence[str], bare: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """All addresses with the endpoint that each belongs to."""
    known = {_base(url): url for url in urls}
    stranger = next((url for url, _ in pairs if _base(url) not in known), None)
    if stranger:
        raise UsageError(f"{FLAG} {stranger}=…: no such --mooncake-url; given: {', '.join(urls)}")
    named = [(known[_base(url)], place) for url, place in pairs]
    if len(urls) == 1:
        return [*((urls[0], place) for place in bare), *named]
    if bare and (named or len(bare) != len(urls)):
        raise UsageError(
            f"{len(bare)} {FLAG} for {len(urls)} --mooncake-url: say whose each is, {FLAG} {urls[0]}={bare[0]}"
        )
    return [*zip(urls, bare, strict=False), *named]


def _of_one(url: str, dealt: Sequence[tuple[str, str]]) -> tuple[str, ...] | None:
    places = [place for whose, place in dealt if whose == url]
    if not places:
        return None
    addresses = tuple(dict.fromkeys(place for place in places if place.lower() != NONE))
    if addresses and len(addresses) < len(set(places)):
        raise UsageError(f"{FLAG} {url}=none: other counters are named for it; leave one of both out")
    return addresses


def _base(url: str) -> str:
    return url.strip().rstrip("/").removesuffix("/v1").rstrip("/")
