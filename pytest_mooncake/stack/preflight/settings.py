"""Lints of LMCache's and Mooncake's settings: keys that are ignored, tiers that answer first, defaults that spoil."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mooncake.stack.preflight.configuration import EngineConfig, Fact, Part, Severity
from pytest_mooncake.stack.preflight.known import SETUP_KEYS, STORE_KEYS
from pytest_mooncake.stack.preflight.rule import GIVE, Found, Look, rule
from pytest_mooncake.stack.preflight.values import is_true, number

DEFAULT_MASTERS = ("127.0.0.1:50051", "localhost:50051")
SPELLINGS = (
    ("mooncake_master_server_addr", "master_server_address"),
    ("mooncake_rdma_devices", "device_name"),
    *((f"mooncake_{key}", key) for key in sorted(STORE_KEYS & SETUP_KEYS)),
)
"""Key that takes effect with LMCache >= 0.4.5 and Mooncake >= 0.3.9, and the key of older pairs."""

_NEW_PAIR = "LMCache >= 0.4.5 with Mooncake >= 0.3.9"


@rule(
    "E05",
    why="master_server_address and device_name are handed to Mooncake under names that it does not read: it uses "
    "127.0.0.1:50051 and chooses NICs itself, without a word",
    fix='mooncake_master_server_addr: "<host>:<port>" and mooncake_rdma_devices, beside the old names',
    versions=_NEW_PAIR,
    facts="LMCache 0.4.5 to 0.5.6 `mooncakestore_connector.py`; Mooncake 0.3.9 to 0.3.13 `types.h`",
)
def ignored_names(look: Look) -> Iterator[Found]:
    """The documented names of master and NICs are ignored by newer pairs."""
    ignored = [found for engine in _set_up(look) for found in _ignored(engine, look.subject.master_address)]
    if not ignored:
        return
    known = look.tells("lmcache") and look.tells("mooncake")
    if not known and not _excluded(look):
        what = "; ".join(dict.fromkeys(found.what for found in ignored))
        yield Found(
            f"depends on the versions: {what}",
            ignored[0].told,
            why=f"{_NEW_PAIR} ignore the old names without a word; older pairs read them",
            fix=f"give {' '.join(_untold(look))}, or write both spellings",
            severity=Severity.NOTE,
        )
    elif look.at_least("mooncake", "0.3.9") and look.at_least("lmcache", "0.4.5"):
        yield from ignored


def _untold(look: Look) -> list[str]:
    return [f"--version {part}=X.Y.Z" for part in ("lmcache", "mooncake") if not look.tells(part)]


def _excluded(look: Look) -> bool:
    """Whether the version that is known is too old for it, whatever the other one is."""
    old = (look.tells("lmcache") and look.below("lmcache", "0.4.5")) or (
        look.tells("mooncake") and look.below("mooncake", "0.3.9")
    )
    if old:
        look.missing.clear()
    return old


def _set_up(look: Look) -> Iterator[EngineConfig]:
    """Engines in which LMCache sets Mooncake up."""
    return look.engines(Part.STORE, when=lambda engine: engine.uses_lmcache)


def _ignored(engine: EngineConfig, address: str | None) -> Iterator[Found]:
    settings = engine.store_settings
    old = settings.get("master_server_address")
    wanted = address or (str(old.value) if old else None)
    if "mooncake_master_server_addr" not in settings and wanted and wanted not in DEFAULT_MASTERS:
        yield Found(
            f"{engine.name}: mooncake_master_server_addr is not set, the master is {wanted}",
            old,
            why=f"master_server_address is ignored by these versions and {DEFAULT_MASTERS[0]} is used without a word",
            fix=f'mooncake_master_server_addr: "{wanted}" (beside master_server_address)',
        )
    device = settings.get("device_name")
    if engine.protocol == "rdma" and device and device.value and not engine.store_setting("mooncake_rdma_devices"):
        yield Found(
            f"{engine.name}: device_name is {device.value}, and mooncake_rdma_devices is not set",
            device,
            why="device_name is ignored by these versions: Mooncake takes the NICs that it finds itself",
            fix=f'mooncake_rdma_devices: "{device.value}" (beside device_name)',
        )


@rule(
    "W06",
    why="which of them counts depends on the versions, without a word",
    fix="give both the same value",
    versions="the prefixed one counts with LMCache 0.4.5 and newer, the other one before",
    facts="LMCache `mooncakestore_connector.py`",
)
def spellings(look: Look) -> Iterator[Found]:
    """Two spellings of one setting contradict each other."""
    for engine in _set_up(look):
        settings = engine.store_settings
        for new, old in SPELLINGS:
            if new in settings and old in settings and settings[new].value != settings[old].value:
                yield Found(
                    f"{engine.name}: {new} is {settings[new].value!r} and {old} is {settings[old].value!r}",
                    settings[new],
                )


@rule(
    "E08",
    why="the file replaces extra_config entirely for Mooncake, so these are ignored",
    fix="move them into the file, or unset MOONCAKE_CONFIG_PATH",
    facts="LMCache `mooncakestore_connector.py` load_from_env",
)
def hidden_extra_config(look: Look) -> Iterator[Found]:
    """A Mooncake file replaces `extra_config` entirely."""
    for engine in look.lmcache():
        path = engine.env.get("MOONCAKE_CONFIG_PATH")
        ignored = sorted(k for k in engine.extra if k in STORE_KEYS or k.startswith("mooncake_"))
        if ignored and (path is not None or engine.mooncake is not None):
            yield Found(
                f"{engine.name}: MOONCAKE_CONFIG_PATH is set and extra_config holds {', '.join(ignored)}",
                path or engine.extra[ignored[0]],
            )


@rule(
    "W09",
    why="which address counts depends on LMCache's version, and nothing says so",
    fix='remote_url: "mooncakestore://<the master>/"',
    versions="LMCache up to 0.3.15: host and port replace master_server_address; 0.4.4 and newer: they are ignored",
    facts="LMCache 0.3.5 to 0.5.6 `mooncakestore_adapter.py`; LMCache#1957 (0.4.1 to 0.4.3 were not read)",
)
def host_of_remote_url(look: Look) -> Iterator[Found]:
    """Host and port of `remote_url` are the master's, whether they count or not."""
    for engine in look.lmcache():
        told = engine.lmcache.get("remote_url")
        address = _address(told, "mooncakestore")
        if told is None or address is None:
            continue
        master = engine.master or look.subject.master_address
        if not engine.knows(Part.STORE) and master is None:
            continue
        if master and (_same(address, master) or _scheme_alone_differs(look, address, master)):
            continue
        if master:
            why = _what_counts(look, address, master)
            yield Found(
                f"{engine.name}: remote_url names {address}, the master is {master}",
                told,
                why=why,
                fix=f'remote_url: "mooncakestore://{master.partition("://")[2] or master}/"',
            )
        elif address.endswith(":50052") and look.subject.master_port != 50052:
            yield Found(f"{engine.name}: remote_url names port 50052, which is a client's and not the master's", told)


def _scheme_alone_differs(look: Look, address: str, master: str) -> bool:
    """An address in etcd beside the same one in a URL whose host is ignored."""
    new = look.tells("lmcache") and look.at_least("lmcache", "0.4.4")
    return new and master.partition("://")[2].strip("/") == address


def _what_counts(look: Look, address: str, master: str) -> str:
    lost = f" ({master.partition('://')[0]}:// is lost)" if "://" in master else ""
    replaced = f"host and port of remote_url replace master_server_address: {address} is asked instead{lost}"
    if not look.tells("lmcache"):
        return f"up to LMCache 0.3.15 {replaced}; from 0.4.4 they are ignored: it depends on the version"
    if look.below("lmcache", "0.4.0"):
        return f"with LMCache {look.subject.versions['lmcache']} {replaced}"
    if look.at_least("lmcache", "0.4.4"):
        return "only the scheme of remote_url is read; whoever believes the rest looks for the fault in the wrong place"
    return f"LMCache 0.4.0 to 0.4.3 were not read: it may be that {replaced}, or that they are ignored"


def _address(told: Fact | None, scheme: str) -> str | None:
    """Host and port that a URL of this scheme names, None where it is another URL."""
    text = str(told.value) if told and told.value else ""
    if not text.startswith(f"{scheme}://"):
        return None
    return text.partition("://")[2].partition("?")[0].strip("/") or None


def _same(one: str, other: str) -> bool:
    return one == other or {one, other} == set(DEFAULT_MASTERS)


@rule(
    "E10",
    why="without one it has no remote tier: Mooncake is never written and never read",
    fix='remote_url: "mooncakestore://<master>/"; MP server: --l2-adapter \'{"type":"mooncake_store",…}\'',
    facts="LMCache `storage_backend/__init__.py`, `connector/__init__.py`",
)
def remote_tier(look: Look) -> Iterator[Found]:
    """LMCache has a remote tier, and it is Mooncake."""
    for engine, told in look.told("remote_url"):
        url = str(told.value) if told and told.value else ""
        plugins = engine.setting("remote_storage_plugins") or engine.setting("storage_plugins")
        if not url and not plugins and engine.knows(Part.LMCACHE):
            yield Found(f"{engine.name}: LMCache has neither remote_url nor remote_storage_plugins", told)
        elif url and not plugins and not _is_mooncake(engine, url) and look.subject.intent.claims_mooncake:
            yield Found(
                f"{engine.name}: remote_url is {url.partition('://')[0]}://…, which is not Mooncake",
                told,
                why="what is stored goes there: Mooncake is never written and never read",
            )
    server = look.subject.mp_server
    if server is not None:
        look.see()
        if not server.adapters and not server.unreadable:
            yield Found("LMCache's MP server has no --l2-adapter, so it keeps everything in its own memory")


def _is_mooncake(engine: EngineConfig, url: str) -> bool:
    if url.startswith("audit://"):
        actual = engine.extra.get("audit_actual_remote_url") or engine.lmcache.get("audit_actual_remote_url")
        return actual is None or str(actual.value).startswith("mooncakestore://")
    return url.startswith(("mooncakestore://", "plugin://"))


@rule(
    "E11",
    why=f"its address is handed over under the ignored name: lookups go to {DEFAULT_MASTERS[0]}",
    fix="remove external_lookup_client",
    versions="Mooncake 0.3.9 and newer",
    facts="LMCache `lookup_client/mooncake_lookup_client.py`",
)
def external_lookup(look: Look) -> Iterator[Found]:
    """The address of `external_lookup_client` is passed on under the ignored name."""
    for engine, told in look.told("external_lookup_client"):
        address = _address(told, "mooncakestore")
        if address and address not in DEFAULT_MASTERS and look.at_least("mooncake", "0.3.9"):
            yield Found(f"{engine.name}: external_lookup_client names {address}", told)


@rule(
    "E12",
    why="warm hits come from LMCache's memory and Mooncake is never read, although all hit counters rise",
    fix="local_cpu: false",
    facts="LMCache `config.py` (default true)",
)
def local_cpu(look: Look) -> Iterator[Found]:
    """LMCache's own memory answers before Mooncake is asked."""
    for engine, told in look.told("local_cpu"):
        if look.subject.intent.claims_mooncake and (told is None or told.value is None or is_true(told.value)):
            what = "true" if told is not None and told.value is not None else "not set (default true)"
            yield Found(f"{engine.name}: local_cpu is {what}", told)


@rule(
    "E13",
    why="what finds no staging memory is not stored, with one line in the log",
    fix="a larger max_local_cpu_size",
    facts="LMCache#745, #955, #1224",
)
def staging(look: Look) -> Iterator[Found]:
    """Chunks are staged in CPU memory on their way, also without the CPU tier."""
    engines = list(look.lmcache())
    need = _prompt_bytes(look) if engines else None
    for engine in engines:
        told = engine.lmcache.get("max_local_cpu_size")
        gigabytes = number(told.value) if told is not None else 5.0
        if gigabytes is None or need is None:
            continue
        in_flight = need * (look.subject.workload.concurrency if look.subject.workload else 1)
        if gigabytes * 2**30 < in_flight:
            yield Found(
                f"{engine.name}: max_local_cpu_size is {gigabytes:g} GB, {in_flight / 2**30:.3g} GB are in flight at "
                "once",
                told,
                fix=f"max_local_cpu_size: {in_flight / 2**30 * 1.25:.1f} or more",
            )


def _prompt_bytes(look: Look) -> int | None:
    """KV bytes of a prompt on one rank; what is missing for it is noted."""
    if look.subject.workload is None:
        look.give("--workload NAME")
    if look.subject.kv is None:
        look.give("--model-config FILE, the model's config.json")
    return look.subject.prompt_rank_bytes


@rule(
    "E17",
    why="objects have other sizes than the formulae say, and cachegen is lossy",
    fix="remote_serde: naive",
    facts="LMCache `naive_serde/`, `cachegen`",
)
def serialisation(look: Look) -> Iterator[Found]:
    """Any serialisation but the naive one changes sizes or values."""
    for engine, told in look.told("remote_serde"):
        if told is not None and told.value not in (None, "naive"):
            yield Found(f"{engine.name}: remote_serde is {told.value}", told)


@rule(
    "W19",
    why="a batch that passes it is dropped without an error, its memory may be used again meanwhile",
    fix="extra_config: transfer_timeout: 30",
    facts="LMCache `mooncakestore_connector.py` (default 1 s); LMCache#1350, #2143, #2493",
)
def transfer_timeout(look: Look) -> Iterator[Found]:
    """The timeout of a transfer covers a whole batch."""
    for engine in _set_up(look):
        told = engine.store_settings.get("transfer_timeout")
        limit = 1.0 if told is None else number(told.value)
        if limit is None:
            continue
        slowest = look.subject.read_seconds
        meta = engine.extra.get("save_chunk_meta")
        if slowest is not None and limit < 4 * slowest:
            yield Found(
                f"{engine.name}: transfer_timeout is {limit:g} s, one prompt may take {slowest:.3g} s",
                told,
                fix=f"extra_config: transfer_timeout: {max(4 * slowest, 10):.0f}",
            )
        elif slowest is None and limit <= 1 and meta is not None and not is_true(meta.value):
            default = "" if told else " (the default)"
            yield Found(
                f"{engine.name}: transfer_timeout is {limit:g} s{default}, for a whole batch (save_chunk_meta false)",
                told or meta,
            )


_FORMULA = {
    "min_retrieve_tokens": 0,
    "max_tokens_per_load": None,
    "skip_last_n_tokens": 0,
    "save_unfull_chunk": False,
    "save_decode_cache": False,
}


@rule(
    "W33",
    why="stored chunks and cached tokens follow other formulae, exact evidence may break on a healthy cache",
    fix="leave them at their defaults for the acceptance",
    facts="LMCache `config.py`",
)
def formulae(look: Look) -> Iterator[Found]:
    """Settings that change how many chunks are stored and read."""
    for engine in look.engines(when=lambda engine: engine.uses_lmcache):
        if not engine.knows(Part.LMCACHE):
            look.give(GIVE[Part.LMCACHE])
        changed = {k: engine.lmcache[k] for k, default in _FORMULA.items() if _differs(engine.setting(k), default)}
        if changed:
            said = ", ".join(f"{key}: {fact.value}" for key, fact in changed.items())
            yield Found(f"{engine.name}: {said}", next(iter(changed.values())))


def _differs(value: object, default: object) -> bool:
    if value is None:
        return False
    return is_true(value) != default if isinstance(default, bool) else str(value) != str(default)


@rule(
    "W48",
    why="reported not to work: layer by layer LMCache 0.3 stores nothing in Mooncake, blending ends the engine at "
    "start; nobody has shown it for a newer version",
    fix="use_layerwise: false and enable_blending: false",
    versions="reported for LMCache 0.3; not shown to work in a newer one",
    facts="LMCache#943, #1682, #4131",
)
def layerwise(look: Look) -> Iterator[Found]:
    """Layerwise transfer and blending are not known to work with a Mooncake remote tier."""
    for key in ("use_layerwise", "enable_blending"):
        for engine, told in look.told(key):
            if told is not None and is_true(told.value):
                rest = "with mooncakestore" if key == "use_layerwise" else f"with {engine.connector_name or 'LMCache'}"
                yield Found(f"{engine.name}: {key} {rest}", told)
