"""Lints of the store and the machines under it: sizes, ports, versions, transports, and what the run will do to it."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mooncake.cache.expect import object_bytes, prompt_bytes
from pytest_mooncake.cache.preflight.subject import (
    EngineConfig,
    Finding,
    Severity,
    Subject,
    WorkloadShape,
    is_true,
    size_bytes,
)
from pytest_mooncake.records import KVGeometry

__all__ = ["RULES"]

DEFAULT_SEGMENT = 3_355_443_200
DEFAULT_BUFFER = 2**30
DEFAULT_WATERMARK = 0.9


def _finding(rule: str, what: str, why: str, fix: str) -> Finding:
    severity = Severity.ERROR if rule.startswith("E") else Severity.WARNING
    return Finding(id=rule, severity=severity, what=what, why=why, fix=fix)


def _segment_bytes(engine: EngineConfig) -> int:
    size = size_bytes(engine.store_settings.get("global_segment_size"))
    return DEFAULT_SEGMENT if size is None else size


def _lease_s(subject: Subject) -> float:
    text = (subject.master_flags or {}).get("default_kv_lease_ttl")
    if text is None:
        return 10.0 if subject.at_least("mooncake-master", "0.3.12") else 5.0
    seconds = text.removesuffix("s") if text.endswith("s") and not text.endswith("ms") else None
    return float(seconds) if seconds is not None else float(text.removesuffix("ms")) / 1000


def w20(subject: Subject) -> Iterator[Finding]:
    """A lease outlives the read that it protects."""
    if subject.master_flags is None or subject.read_seconds is None:
        return
    lease = _lease_s(subject)
    if lease < 2 * subject.read_seconds:
        yield _finding(
            "W20",
            f"default_kv_lease_ttl is {lease:g} s, the slowest read of a prompt takes {subject.read_seconds:.3g} s",
            "an object may be evicted while it is read: error -707 and a recomputed prompt",
            f"--default_kv_lease_ttl={int(2000 * subject.read_seconds) + 1000}",
        )


def e21(subject: Subject) -> Iterator[Finding]:
    """The pool holds the working set of a round below the watermark at which it evicts."""
    if subject.kv is None or subject.workload is None or not subject.engines:
        return
    pool = subject.node_segment_bytes + sum(e.ranks * _segment_bytes(e) for e in subject.engines if _has_store(e))
    watermark = float((subject.master_flags or {}).get("eviction_high_watermark_ratio", DEFAULT_WATERMARK))
    need = _round_bytes(subject.workload, subject.kv)
    if pool and pool * watermark < need * 1.1:  # a pool of 0 is one whose nodes nobody told
        yield _finding(
            "E21",
            f"the pool holds {pool * watermark / 2**30:.3g} GiB below its watermark, a round stores "
            f"{need / 2**30:.3g} GiB",
            "chunks are evicted before the warm round asks for them",
            f"segments of {need * 1.1 / watermark / 2**30:.3g} GiB together or more, or fewer or shorter prompts",
        )


def _round_bytes(workload: WorkloadShape, kv: KVGeometry) -> int:
    if workload.distinct_chunks is None:
        return workload.requests * prompt_bytes(workload.prompt_tokens, kv)
    return workload.distinct_chunks * kv.ranks * object_bytes(kv)


def _has_store(engine: EngineConfig) -> bool:
    return engine.knows("lmcache") and (engine.uses_lmcache or engine.connector == "MooncakeStoreConnector")


def e22(subject: Subject) -> Iterator[Finding]:
    """Memory for segments, staging and buffers, and the right to lock it."""
    limits = [b for b in (subject.host.ram_bytes, subject.host.memory_limit_bytes) if b is not None]
    need = subject.node_segment_bytes + sum(e.ranks * _rank_bytes(e) for e in subject.engines if _has_store(e))
    if limits and need > min(limits):
        yield _finding(
            "E22",
            f"segments, buffers and staging take {need / 2**30:.3g} GiB of {min(limits) / 2**30:.3g} GiB memory",
            "the kernel kills an engine or the master in the middle of a round",
            "smaller global_segment_size, local_buffer_size or max_local_cpu_size",
        )
    memlock = subject.host.memlock_bytes
    rdma = [e for e in subject.engines if e.store_settings.get("protocol") == "rdma"]
    if rdma and memlock is not None and 0 <= memlock < max(_segment_bytes(e) for e in rdma):
        yield _finding(
            "E22",
            f"protocol rdma with a memory-lock limit of {memlock / 2**20:.0f} MiB",
            "RDMA has to lock its segments; registering them fails",
            "ulimit -l unlimited (containers: --ulimit memlock=-1, capability IPC_LOCK)",
        )


def _rank_bytes(engine: EngineConfig) -> int:
    buffer = size_bytes(engine.store_settings.get("local_buffer_size"))
    staging = float(str(engine.setting("max_local_cpu_size") or 5.0)) if engine.uses_lmcache else 0.0
    return _segment_bytes(engine) + (DEFAULT_BUFFER if buffer is None else buffer) + int(staging * 2**30)


def e24(subject: Subject) -> Iterator[Finding]:
    """One metadata service that is there."""
    servers = {str(server) for e in subject.engines if (server := e.store_settings.get("metadata_server"))}
    over_http = {server for server in servers if server.startswith("http")}
    if len(servers) > 1 and "P2PHANDSHAKE" in servers:
        yield _finding(
            "E24",
            f"metadata_server differs ({', '.join(sorted(servers))})",
            "clients with P2PHANDSHAKE and clients with a server cannot find each other's segments",
            "the same metadata_server for all clients",
        )
    started = is_true((subject.master_flags or {}).get("enable_http_metadata_server"))
    missing = subject.master_flags is not None and not started and subject.metadata_reachable is not True
    if over_http and (missing or subject.metadata_reachable is False):
        yield _finding(
            "E24",
            f"metadata_server is {min(over_http)}, and nobody serves it",
            "clients cannot register their segments: Mooncake's set-up fails, LMCache says it succeeded",
            "mooncake_master --enable_http_metadata_server=true, or metadata_server: P2PHANDSHAKE everywhere",
        )


def w26(subject: Subject) -> Iterator[Finding]:
    """RDMA falls back to TCP without a word."""
    for engine in subject.engines:
        if engine.store_settings.get("protocol") != "rdma":
            continue
        if subject.host.rdma_devices == () or "MC_FORCE_HCA" not in engine.env:
            devices = "no RDMA device exists" if subject.host.rdma_devices == () else "MC_FORCE_HCA is not set"
            yield _finding(
                "W26",
                f"{engine.name}: protocol rdma and {devices}",
                "without a usable device Mooncake goes over TCP without a word",
                "MC_FORCE_HCA=1, and compare protocol in the master's /get_segments_detail",
            )


def w27(subject: Subject) -> Iterator[Finding]:
    """What evidence needs is switched on."""
    for engine in subject.engines:
        shows = "enable-prompt-tokens-details" in engine.args or not engine.knows("args")
        missing = [] if shows else ["--enable-prompt-tokens-details"]
        if engine.uses_lmcache and engine.knows("env") and "PROMETHEUS_MULTIPROC_DIR" not in engine.env:
            missing.append("PROMETHEUS_MULTIPROC_DIR")
        if missing and engine.args:
            yield _finding(
                "W27",
                f"{engine.name}: {' and '.join(missing)} not set",
                "replies do not tell cached tokens, or lmcache: series are missing from /metrics: weaker evidence",
                "vllm serve --enable-prompt-tokens-details; export PROMETHEUS_MULTIPROC_DIR=<empty directory>",
            )


def w28(subject: Subject) -> Iterator[Finding]:
    """Endpoints that clear caches and run code, open to the network."""
    for engine in subject.engines:
        listens = engine.args.get("host", "0.0.0.0")  # noqa: S104 - vLLM's default is what is looked for
        dev = engine.env.get("VLLM_SERVER_DEV_MODE") == "1" and not _is_loopback(listens)
        api = is_true(engine.setting("internal_api_server_enabled")) and not _is_loopback(
            str(engine.setting("internal_api_server_host") or "127.0.0.1")
        )
        if subject.intent.production and (dev or api):
            yield _finding(
                "W28",
                f"{engine.name}: {'VLLM_SERVER_DEV_MODE=1' if dev else 'the internal API of LMCache'} on {listens}",
                "/reset_prefix_cache and /run_script take orders from anybody who reaches them",
                "bind to 127.0.0.1, or switch it off outside of acceptance",
            )


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def e29(subject: Subject) -> Iterator[Finding]:
    """`reset_external` wipes everybody behind vLLM's own store connector."""
    stores = any(e.connector == "MooncakeStoreConnector" for e in subject.engines)
    if subject.intent.resets_external and stores and subject.intent.shared_store:
        yield _finding(
            "E29",
            "reset_external=true on MooncakeStoreConnector with a shared master",
            "it removes all keys of all models and tenants from the master",
            "cold by construction (the default), or cache_salt",
        )


def e30(subject: Subject) -> Iterator[Finding]:
    """`remove_all` in a store that holds other people's keys."""
    if subject.intent.removes_all and subject.intent.foreign_keys:
        yield _finding(
            "E30",
            f"the store is to be cleared and holds {subject.intent.foreign_keys:,} keys that this run did not make",
            "remove_all takes everything, of all tenants",
            "cold by construction (the default), or remove this run's keys only",
        )


def e31(subject: Subject) -> Iterator[Finding]:
    """Two services on one address."""
    taken: dict[str, list[str]] = {}
    for service, address in subject.ports.items():
        taken.setdefault(address, []).append(service)
    for address, services in taken.items():
        if len(services) > 1:
            yield _finding(
                "E31",
                f"{' and '.join(sorted(services))} both claim {address}",
                "one of them ends, or answers the other's probes (metadata server, LMCache MP and store service all "
                "default to 8080)",
                "give one of them another port",
            )


def w34(subject: Subject) -> Iterator[Finding]:
    """Prompts that are shorter than a chunk."""
    chunk = subject.kv.chunk_tokens if subject.kv else None
    if chunk and subject.workload and subject.workload.prompt_tokens < chunk:
        yield _finding(
            "W34",
            f"prompts of {subject.workload.prompt_tokens} tokens, chunks of {chunk}",
            "nothing is stored, so nothing can be warm",
            f"--mooncake-prompt-tokens {4 * chunk} or more",
        )


def w38(subject: Subject) -> Iterator[Finding]:
    """A master without a second one forgets everything when it ends."""
    flags = subject.master_flags
    if subject.intent.injects_faults and flags is not None and not is_true(flags.get("enable_ha")):
        yield _finding(
            "W38",
            "faults will be injected and the master runs without enable_ha",
            "what the master knows lives in its memory: a restart loses every key, as designed",
            "expect clean misses after it, or run the master with --enable_ha=true",
        )


def e39(subject: Subject) -> Iterator[Finding]:
    """The master knows the calls that the plan needs."""
    needs = [
        (subject.intent.removes_all, "0.3.12.post1", "POST /api/v1/remove_all"),
        (subject.intent.polls_keys, "0.3.12", "GET /batch_query_keys without granting leases"),
    ]
    for wanted, since, call in needs:
        if wanted and subject.below("mooncake-master", since):
            yield _finding(
                "E39",
                f"mooncake_master {subject.versions['mooncake-master']} has no {call}",
                f"it came with {since}",
                f"mooncake_master {since} or newer",
            )


def w40(subject: Subject) -> Iterator[Finding]:
    """Client and master of one version."""
    client, master = subject.versions.get("mooncake"), subject.versions.get("mooncake-master")
    if client and master and client != master:
        yield _finding(
            "W40",
            f"Mooncake client {client}, master {master}",
            "their messages change between versions ('invalid rpc arg', LMCache#1518)",
            "the same version on both sides",
        )


RULES = (w20, e21, e22, e24, w26, w27, w28, e29, e30, e31, w34, w38, e39, w40)
