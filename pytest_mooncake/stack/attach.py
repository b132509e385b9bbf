"""Attaching to engines that already run: what they serve, where their counters are, and what is wrong in one line.

Nothing is generated and nothing is cleared here: only `GET`s, and one empty `POST` (which every server refuses) where
an endpoint lists no models. Redirects are not followed and proxies not used, so that what is measured is the address
that was given, and secrets never reach another host (`plan.secrets.credentials`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_mooncake.analysis.evidence.expected.told_chunks import GIVEN_CHUNK
from pytest_mooncake.border.pinning import at_address
from pytest_mooncake.border.redaction import MASK, Redactor
from pytest_mooncake.border.values import MOST_COUNT, text_of, whole_number_of
from pytest_mooncake.errors import EndpointError, UsageError
from pytest_mooncake.plan.secrets.credentials import credentials_of
from pytest_mooncake.plan.sources.counters import NONE, metrics_places
from pytest_mooncake.records import Engine, KVGeometry, StackView, Store
from pytest_mooncake.stack.addresses import admin_url, engine_url, metrics_url
from pytest_mooncake.stack.probe import Answer, Prober, printable
from pytest_mooncake.stack.replicas import (
    METRICS_BYTES,
    Place,
    asked,
    looked_at,
    one_of_each,
    places_of,
    shows_counters,
)

if TYPE_CHECKING:
    from pytest_mooncake.plan.models import StackPlan

SIMULATED_OWNER = "pytest-mooncake-simulated"
"""`owned_by` of a simulated engine's model card (`stack.simulated.engine.api.OWNER`)."""
_SHOWN_MODELS = 8
_ABSENT = (404, 405, 501)
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """What one engine said about itself."""

    engine: Engine
    card: Mapping[str, Any]
    listed: tuple[str, ...]
    version: str | None
    notes: tuple[str, ...]
    places: tuple[Place, ...] = ()
    replicas: Place | None = None
    silenced: bool = False


async def attach(
    plan: StackPlan, *, environ: Mapping[str, str], progress: Progress, timeout_s: float = 15.0
) -> StackView:
    """Look at every engine of `plan.urls` and at the store's admin port.

    Args:
        plan: stack plan of kind `attached`.
        environ: where the variables named by `plan.api_key_env` and `plan.header_env` are looked up.
        progress: called with one line for each thing that is waited for.
        timeout_s: limit of each single probe.

    Returns:
        The stack; `kv` only where the endpoint tells it, `store` only where `plan.master_url` is given.

    Raises:
        EndpointError: whatever an endpoint does that keeps it from being measured; one line.
        UsageError: addresses that are none, or options that contradict each other; one line.
    """
    urls = tuple(engine_url(url) for url in plan.urls)
    _check(plan, urls)
    credentials = credentials_of(plan, environ)
    async with Prober(credentials, timeout_s) as prober:
        served: list[_Served] = []
        for url, given in zip(urls, metrics_places(plan.urls, plan.metrics_urls), strict=True):
            progress(f"asking {url} what it serves")
            name = plan.model_name or (served[0].card["id"] if served else None)
            seen = tuple(place for one in served for place in one.places)
            served.append(
                await _with_counters(prober, await _look(prober, url, name, credentials.redactor), given, seen)
            )
        store = await _store(plan, prober, progress)
    view = _view(plan, tuple(served), store)
    return replace(view, notes=(*view.notes, *credentials.notes))


def _check(plan: StackPlan, urls: Sequence[str]) -> None:
    if not urls:
        raise UsageError("nothing to attach to: give --mooncake-url http(s)://host:port")
    repeated = next((url for url in urls if urls.count(url) > 1), None)
    if repeated:
        raise UsageError(f"--mooncake-url {repeated} is given twice; name each engine once")
    if plan.metadata_url and not plan.master_url:
        raise UsageError("--mooncake-metadata is of no use without --mooncake-master http://host:9003")


async def _look(prober: Prober, url: str, name: str | None, redactor: Redactor) -> _Served:
    answer = await prober.get(f"{url}/v1/models")
    if answer.status in _ABSENT and name is not None:
        card: Mapping[str, Any] = {"id": text_of(name, "--mooncake-model", "the name")}
        listed: tuple[str, ...] = ()
        await _require_generation(prober, url, answer)
        note = f"{url} lists no models; the name {name!r} is taken from --mooncake-model unchecked."
        notes: tuple[str, ...] = (note,)
    else:
        answer.require_ok(hint=_models_hint(url, answer, named=name is not None))
        cards = _cards(answer)
        card, listed, notes = _choose(cards, name, url, redactor), tuple(entry["id"] for entry in cards), ()
        text_of(card["id"], answer.url, "the id of the model")
    version = await _version(prober, url)
    return _Served(engine=Engine(url=url), card=card, listed=listed, version=version, notes=notes)


def _models_hint(url: str, answer: Answer, *, named: bool) -> str:
    if answer.status not in _ABSENT:
        return ""
    hint = f"is {url} the base of an OpenAI-compatible API? `/v1` is appended to it by itself"
    return hint if named else hint + "; where a gateway lists no models, name one with --mooncake-model"


async def _require_generation(prober: Prober, url: str, models: Answer) -> None:
    """Tell a gateway without a model list from an address where there is no API at all."""
    for path in ("/v1/completions", "/v1/chat/completions"):
        answer = await prober.post_nothing(f"{url}{path}")
        answer.require_welcome()
        if answer.status not in _ABSENT:
            return
    models.require_ok(
        hint=_models_hint(url, models, named=True) + "; /v1/completions and /v1/chat/completions: 404 too"
    )


def _cards(answer: Answer) -> list[Mapping[str, Any]]:
    body = answer.json(expected="an OpenAI-compatible model list")
    cards = body.get("data") if isinstance(body, dict) else None
    if not isinstance(cards, list):
        raise answer.error('answers JSON, but no OpenAI-compatible model list ({"data": [...]}); is the port right?')
    named = [card for card in cards if isinstance(card, dict) and card.get("id") not in (None, "")]
    if not named:
        raise answer.error("lists no model: is the server still loading, or is a gateway without a back end?")
    good: list[Mapping[str, Any]] = [card for card in named if isinstance(card["id"], str)]
    if not good:
        text_of(named[0]["id"], answer.url, "the id of a model")
    return good


def _choose(cards: Sequence[Mapping[str, Any]], name: str | None, url: str, redactor: Redactor) -> Mapping[str, Any]:
    ids = [card["id"] for card in cards]
    if name is None:
        if len(cards) == 1:
            return _sendable(cards[0], url)
        raise EndpointError(f"{url} serves {len(ids)} models ({_some(ids)}): choose one with --mooncake-model NAME")
    known = name if name in ids else redactor.redacted(name)  # a name of one's own may share a part with the key
    if known in ids:
        return {**cards[ids.index(known)], "id": name}
    near = difflib.get_close_matches(name, ids, n=3, cutoff=0.4)
    shown = "nearest: " + _some(near) if near else "it serves: " + _some(ids)
    raise EndpointError(f"{url} has no model {name!r}; {shown}; choose with --mooncake-model NAME")


def _sendable(card: Mapping[str, Any], url: str) -> Mapping[str, Any]:
    """The card of a model whose name can be sent: one that repeats a secret was masked and is on no record."""
    if MASK in str(card["id"]):
        raise EndpointError(
            f"{url} lists a model whose name repeats the key or the header ({printable(card['id'])[:60]}): if that is "
            "its name all the same, give it with --mooncake-model NAME"
        )
    return card


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN_MODELS} more" if len(ids) > _SHOWN_MODELS else ""
    return ", ".join(repr(printable(name)) for name in ids[:_SHOWN_MODELS]) + more


async def _with_counters(
    prober: Prober, served: _Served, given: tuple[str, ...] | None, seen: tuple[Place, ...]
) -> _Served:
    """Find out where an engine's counters are, and whether each place shows one process.

    Args:
        prober: asks.
        served: the engine.
        given: places that were named for it, which have to show counters; None: the usual one, which may.
        seen: places of the engines before it: a process that is shown twice is read once.
    """
    if given == ():
        return replace(served, silenced=True)
    urls = (f"{served.engine.url}/metrics",) if given is None else await _named(prober, given)
    places = [await looked_at(prober, url) for url in urls]
    replicas = next((place for place in places if place.processes > 1), None)
    if replicas is not None:
        return replace(served, replicas=replicas, notes=(*served.notes, _said_of_replicas(replicas)))
    pairs = one_of_each(tuple(place for place in places if place.processes), seen)
    once = tuple(f"{_shown(a)} and {_shown(b)} show one process: it is read once." for a, b in pairs if a.url != b.url)
    read = tuple(dict.fromkeys(first.url for _, first in pairs))
    engine = Engine(url=served.engine.url, metrics_url=next(iter(read), None), metrics_urls=read)
    return replace(served, engine=engine, places=tuple(a for a, _ in pairs), notes=(*served.notes, *once))


async def _named(prober: Prober, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the places that `--mooncake-metrics` names for an engine; each has to show counters.

    Raises:
        EndpointError: one does not.
    """
    urls = [place for text in given for place in await places_of(metrics_url(text))]
    for url in dict.fromkeys(urls):
        if shows_counters(await asked(prober, url)):
            continue
        bare, _, address = url.partition("#")
        with at_address(address or None):
            answer = await prober.get(bare, most_bytes=METRICS_BYTES)
        answer.require_ok(hint="does --mooncake-metrics name an engine's metrics address?")
        if not shows_counters(answer):
            raise answer.error("shows no counters of vLLM (vllm:…): does --mooncake-metrics name the engine?")
    return tuple(dict.fromkeys(urls))


def _said_of_replicas(place: Place) -> str:
    return (
        f"{place.processes} processes answer at {_shown(place)} in turn, so no engine counters are read there: "
        "name each one's metrics with --mooncake-metrics."
    )


def _shown(place: Place) -> str:
    url, _, address = place.url.partition("#")
    return f"{url} ({address})" if address else url


async def _version(prober: Prober, url: str) -> str | None:
    answer = await prober.try_get(f"{url}/version")
    if answer is None or answer.status != 200:
        return None
    try:
        body = answer.json(expected="a version")
    except EndpointError:
        return None
    version = body.get("version") if isinstance(body, dict) else None
    return printable(version)[:60] if isinstance(version, str) else None


async def _store(plan: StackPlan, prober: Prober, progress: Progress) -> Store | None:
    if plan.master_url is None:
        return None
    master = admin_url(plan.master_url)
    progress(f"asking the Mooncake master at {master} for its counters")
    answer = await prober.get(f"{master}/metrics", most_bytes=METRICS_BYTES)
    hint = "--mooncake-master wants the master's admin port (--metrics_port, 9003 by default), not its RPC port"
    answer.require_ok(hint=hint)
    if "master_key_count" not in answer.raw:
        raise answer.error(f"shows no counters of a Mooncake master (master_key_count); {hint}")
    if plan.metadata_url is not None:
        progress(f"asking for the metadata server at {plan.metadata_url}")
        await prober.get(admin_url(plan.metadata_url))
    return Store(master_url=master, metadata_url=plan.metadata_url)


def _view(plan: StackPlan, served: tuple[_Served, ...], store: Store | None) -> StackView:
    first = served[0]
    simulated = any(one.card.get("owned_by") == SIMULATED_OWNER for one in served)
    lengths = [length for one in served if (length := _context(one)) is not None]
    versions = {f"engine-{place}": one.version for place, one in enumerate(served) if one.version}
    components = {
        f"engine-{place}": f"{one.engine.url}" + (f" ({one.version})" if one.version else "")
        for place, one in enumerate(served)
    }
    if store:
        components["master"] = f"Mooncake master at {store.master_url}"
    return StackView(
        name=plan.name,
        provisioned=False,
        simulated=simulated,
        engines=tuple(one.engine for one in served),
        model=str(first.card["id"]),
        max_model_len=min(lengths) if lengths else None,
        store=store,
        kv=_geometry(first.card),
        versions=versions,
        components=components,
        notes=_notes(served, simulated=simulated),
        details={"models": list(first.listed), **_unread(served), **_told_by_user(plan, first.card)},
    )


def _unread(served: tuple[_Served, ...]) -> dict[str, Any]:
    """Why engine counters are not read, for the checks that need them."""
    replicas = {place.url: place.processes for one in served if (place := one.replicas)}
    silenced = any(one.silenced for one in served)
    return ({"replicas": replicas} if replicas else {}) | ({"metrics": NONE} if silenced else {})


def _context(one: _Served) -> int | None:
    """Return the length of the context, None where the card does not tell it.

    Raises:
        BorderError: it tells what can be none.
    """
    length = one.card.get("max_model_len")
    return None if length is None else whole_number_of(length, f"{one.engine.url}/v1/models", "max_model_len")


def _notes(served: tuple[_Served, ...], *, simulated: bool) -> tuple[str, ...]:
    notes = []
    if simulated:
        from pytest_mooncake.stack.simulated.provision import SIMULATED_NOTE

        notes.append(SIMULATED_NOTE)
    notes += [note for one in served for note in one.notes]
    if any(one.silenced for one in served):
        notes.append("The engines' counters are not read, as asked (--mooncake-metrics none).")
    blind = [one.engine.url for one in served if not (one.engine.metrics_url or one.replicas or one.silenced)]
    if blind:
        notes.append(
            f"No counters of vLLM at {', '.join(f'{url}/metrics' for url in blind)}: "
            "what the cache served is known from usage alone there (--mooncake-metrics names another place)."
        )
    return tuple(notes)


def _geometry(card: Mapping[str, Any]) -> KVGeometry | None:
    """Return the KV geometry where the model card tells it (only simulated engines do); never a guess.

    Ranks, chunk size and dtype decide how many objects a prompt becomes. None of them can be read from a name, and a
    wrong one would condemn a healthy cache.
    """
    kv = card.get("kv")
    if not isinstance(kv, dict):
        return None
    sizes = (kv.get("bytes_per_token"), kv.get("chunk_tokens"))
    if not all(type(size) is int and 0 < size <= MOST_COUNT for size in sizes):
        return None
    return KVGeometry(bytes_per_token=kv["bytes_per_token"], chunk_tokens=kv["chunk_tokens"])


def _told_by_user(plan: StackPlan, card: Mapping[str, Any]) -> dict[str, Any]:
    """What the user says of a cache that does not tell: its chunk size, and vLLM's own store connector.

    Raises:
        UsageError: the endpoint tells another chunk size.
    """
    told = _geometry(card)
    if told is not None and plan.chunk_tokens not in (None, told.chunk_tokens):
        raise UsageError(
            f"--mooncake-chunk-tokens {plan.chunk_tokens}: {card['id']} tells that its chunks hold "
            f"{told.chunk_tokens} tokens; leave the option out"
        )
    said: dict[str, Any] = {} if plan.chunk_tokens is None else {GIVEN_CHUNK: plan.chunk_tokens}
    return said | ({"connector": "mooncakestore"} if plan.connector.kind == "mooncakestore" else {})
