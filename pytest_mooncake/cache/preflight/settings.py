"""Lints of LMCache's and Mooncake's settings: keys that are ignored, tiers that answer first, defaults that spoil."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mooncake.cache.preflight.subject import EngineConfig, Finding, Severity, Subject, is_true

__all__ = ["RULES"]

DEFAULT_MASTER = "127.0.0.1:50051"
SPELLINGS = (
    ("mooncake_master_server_addr", "master_server_address"),
    ("mooncake_rdma_devices", "device_name"),
    ("mooncake_local_hostname", "local_hostname"),
)
"""Key that takes effect with LMCache >= 0.4.5 and Mooncake >= 0.3.9, and the key of older pairs."""

_STORE_KEYS = frozenset(
    {"master_server_address", "device_name", "metadata_server", "protocol", "global_segment_size", "local_buffer_size"}
)


def _with_lmcache(subject: Subject) -> tuple[EngineConfig, ...]:
    return tuple(engine for engine in subject.engines if engine.uses_lmcache and engine.knows("lmcache"))


def _error(rule: str, what: str, why: str, fix: str) -> Finding:
    return Finding(id=rule, severity=Severity.ERROR, what=what, why=why, fix=fix)


def _warning(rule: str, what: str, why: str, fix: str) -> Finding:
    return Finding(id=rule, severity=Severity.WARNING, what=what, why=why, fix=fix)


def e05(subject: Subject) -> Iterator[Finding]:
    """The documented names of master and NICs are ignored by newer pairs."""
    if not (subject.at_least("mooncake", "0.3.9") and subject.at_least("lmcache", "0.4.5")):
        return
    for engine in _with_lmcache(subject):
        settings = engine.store_settings
        wanted = subject.master_address or settings.get("master_server_address")
        if "mooncake_master_server_addr" not in settings and wanted != DEFAULT_MASTER:
            yield _error(
                "E05",
                f"{engine.name}: mooncake_master_server_addr is not set, the master is {wanted or 'not named'}",
                f"master_server_address is ignored by these versions and {DEFAULT_MASTER} is used without a word",
                'extra_config: mooncake_master_server_addr: "<host>:<port>" (beside master_server_address)',
            )
        if settings.get("protocol") == "rdma" and not settings.get("mooncake_rdma_devices"):
            yield _error(
                "E05",
                f"{engine.name}: protocol rdma without mooncake_rdma_devices",
                "device_name is ignored by these versions, so no NIC is chosen",
                'extra_config: mooncake_rdma_devices: "mlx5_0,…" (beside device_name)',
            )


def w06(subject: Subject) -> Iterator[Finding]:
    """Two spellings of one setting contradict each other."""
    for engine in _with_lmcache(subject):
        settings = engine.store_settings
        for new, old in SPELLINGS:
            if new in settings and old in settings and settings[new] != settings[old]:
                yield _warning(
                    "W06",
                    f"{engine.name}: {new} is {settings[new]!r} and {old} is {settings[old]!r}",
                    "which of them counts depends on the versions, without a word",
                    "give both the same value",
                )


def e07(subject: Subject) -> Iterator[Finding]:
    """LMCache's MP mode forwards keys as they are: no prefix, no old name."""
    wrong = [
        key
        for key in subject.mp_adapter or {}
        if key.startswith("mooncake_") or key in {"master_server_address", "device_name"}
    ]
    if wrong:
        yield _error(
            "E07",
            f"LMCache MP adapter mooncake_store: {', '.join(sorted(wrong))}",
            "MP mode hands its keys to Mooncake as they are, and Mooncake knows none of these",
            "master_server_addr and rdma_devices",
        )


def e08(subject: Subject) -> Iterator[Finding]:
    """A Mooncake file replaces `extra_config` entirely."""
    for engine in _with_lmcache(subject):
        ignored = [k for k in engine.extra if k in _STORE_KEYS or k.startswith("mooncake_")]
        if engine.mooncake is not None and ignored:
            yield _error(
                "E08",
                f"{engine.name}: MOONCAKE_CONFIG_PATH is set and extra_config holds {', '.join(sorted(ignored))}",
                "the file replaces extra_config entirely for Mooncake, so these are ignored",
                "move them into the file, or unset MOONCAKE_CONFIG_PATH",
            )


def w09(subject: Subject) -> Iterator[Finding]:
    """Host and port of `remote_url` look as if they counted."""
    for engine in _with_lmcache(subject):
        url = engine.setting("remote_url")
        address = str(url).partition("://")[2].strip("/") if url else ""
        master = engine.store_settings.get("mooncake_master_server_addr") or subject.master_address
        if address.endswith(":50052"):
            said = "names port 50052, which is a client's and not the master's"
        elif address and master and address != master:
            said = f"names {address}, the master is {master}"
        else:
            continue
        yield _warning(
            "W09",
            f"{engine.name}: remote_url {said}",
            "only the scheme of remote_url is read; whoever believes the rest looks for the fault in the wrong place",
            f'remote_url: "mooncakestore://{master or "<master>"}/"',
        )


def e10(subject: Subject) -> Iterator[Finding]:
    """There is a remote tier at all."""
    for engine in _with_lmcache(subject):
        if not engine.setting("remote_url") and not engine.setting("remote_storage_plugins"):
            yield _error(
                "E10",
                f"{engine.name}: LMCache has neither remote_url nor remote_storage_plugins",
                "without one of them it has no remote tier: Mooncake is never written and never read",
                'remote_url: "mooncakestore://<master>/"',
            )


def e11(subject: Subject) -> Iterator[Finding]:
    """The address of `external_lookup_client` is passed on under the ignored name."""
    for engine in _with_lmcache(subject):
        url = str(engine.setting("external_lookup_client") or "")
        address = url.removeprefix("mooncakestore://").strip("/")
        if url.startswith("mooncakestore://") and address != DEFAULT_MASTER and subject.at_least("mooncake", "0.3.9"):
            yield _error(
                "E11",
                f"{engine.name}: external_lookup_client names {address}",
                f"its address is ignored since Mooncake 0.3.9, lookups go to {DEFAULT_MASTER}",
                "remove external_lookup_client",
            )


def e12(subject: Subject) -> Iterator[Finding]:
    """LMCache's own memory answers before Mooncake is asked."""
    for engine in _with_lmcache(subject):
        value = engine.setting("local_cpu")
        if subject.intent.claims_mooncake and (value is None or is_true(value)):
            yield _error(
                "E12",
                f"{engine.name}: local_cpu is {'not set (default true)' if value is None else 'true'}",
                "warm hits come from LMCache's memory and Mooncake is never read, although all hit counters rise",
                "local_cpu: false",
            )


def e13(subject: Subject) -> Iterator[Finding]:
    """Chunks are staged in CPU memory on their way, also without the CPU tier."""
    if subject.prompt_rank_bytes is None or subject.workload is None:
        return
    need = subject.prompt_rank_bytes * subject.workload.concurrency
    for engine in _with_lmcache(subject):
        gigabytes = _number(engine.setting("max_local_cpu_size"), 5.0)
        if gigabytes * 2**30 < need:
            yield _error(
                "E13",
                f"{engine.name}: max_local_cpu_size is {gigabytes:g} GB, {need / 2**30:.3g} GB are in flight at once",
                "what finds no staging memory is not stored, with one line in the log",
                f"max_local_cpu_size: {need / 2**30 * 1.25:.1f} or more",
            )


def e17(subject: Subject) -> Iterator[Finding]:
    """Any serialisation but the naive one changes sizes or values."""
    for engine in _with_lmcache(subject):
        serde = engine.setting("remote_serde")
        if serde not in (None, "naive"):
            yield _error(
                "E17",
                f"{engine.name}: remote_serde is {serde}",
                "objects have other sizes than the formulae say, and cachegen is lossy",
                "remote_serde: naive",
            )


def w19(subject: Subject) -> Iterator[Finding]:
    """The timeout of a transfer covers a whole batch."""
    for engine in _with_lmcache(subject):
        limit = _number(engine.store_settings.get("transfer_timeout"), 1.0)
        if subject.read_seconds is not None and limit < 4 * subject.read_seconds:
            yield _warning(
                "W19",
                f"{engine.name}: transfer_timeout is {limit:g} s, one prompt may take {subject.read_seconds:.3g} s",
                "a batch that passes it is dropped without an error, its memory may be used again meanwhile",
                f"extra_config: transfer_timeout: {max(4 * subject.read_seconds, 10):.0f}",
            )


_FORMULA = {
    "min_retrieve_tokens": 0,
    "max_tokens_per_load": None,
    "skip_last_n_tokens": 0,
    "save_unfull_chunk": False,
    "use_layerwise": False,
    "enable_blending": False,
    "save_decode_cache": False,
}


def w33(subject: Subject) -> Iterator[Finding]:
    """Settings that change how many chunks are stored and read."""
    for engine in _with_lmcache(subject):
        changed = {k: v for k, default in _FORMULA.items() if _differs(v := engine.setting(k), default)}
        if changed:
            said = ", ".join(f"{key}: {value}" for key, value in changed.items())
            yield _warning(
                "W33",
                f"{engine.name}: {said}",
                "stored chunks and cached tokens follow other formulae, exact evidence may break on a healthy cache",
                "leave them at their defaults for the acceptance",
            )


def _differs(value: object, default: object) -> bool:
    if value is None:
        return False
    return is_true(value) != default if isinstance(default, bool) else str(value) != str(default)


def _number(value: object, default: float) -> float:
    try:
        return default if value is None else float(str(value))
    except ValueError:
        return default


RULES = (e05, w06, e07, e08, w09, e10, e11, e12, e13, e17, w19, w33)
