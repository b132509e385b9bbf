"""Lints of the store and the machines under it: sizes, ports, versions, transports, and what the run will do to it."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mooncake.analysis.evidence.expected.formulae import object_bytes, prompt_bytes
from pytest_mooncake.records import KVGeometry
from pytest_mooncake.stack.preflight.configuration import EngineConfig, Part, Subject, WorkloadShape
from pytest_mooncake.stack.preflight.rule import Found, Look, rule
from pytest_mooncake.stack.preflight.values import is_true, number, seconds, version_key


def _has_store(engine: EngineConfig) -> bool:
    return engine.knows(Part.STORE) and (engine.uses_lmcache or engine.uses_own_store)


@rule(
    "W20",
    why="an object may be evicted while it is read: error -707 and a recomputed prompt",
    fix="a longer --default_kv_lease_ttl",
    versions="default 5 s in Mooncake 0.3.5 to 0.3.11, 10 s since 0.3.12",
    facts="Mooncake `types.h`; Mooncake#778, #3076",
)
def lease(look: Look) -> Iterator[Found]:
    """A lease outlives the read that it protects."""
    subject = look.subject
    if subject.master_flags is None:
        if any(map(_has_store, subject.engines)):
            look.give("--master-flags FILE")
        return
    look.see()
    told = subject.master_flags.get("default_kv_lease_ttl")
    if told is not None and seconds(told.value) is None:
        yield Found(
            f"default_kv_lease_ttl is {told.value!r}, which is no duration",
            told,
            why="the master ends while starting",
            fix="--default_kv_lease_ttl=10s (ms, s, m or h; milliseconds without a unit)",
        )
        return
    if subject.read_seconds is None:
        _give_shape(look)
        return
    length = seconds(told.value) if told is not None else _default_lease(subject)
    if length is not None and length < 2 * subject.read_seconds:
        yield Found(
            f"default_kv_lease_ttl is {length:g} s, the slowest read of a prompt takes {subject.read_seconds:.3g} s",
            told,
            fix=f"--default_kv_lease_ttl={int(2000 * subject.read_seconds) + 1000}",
        )


def _default_lease(subject: Subject) -> float:
    known = version_key(subject.versions.get("mooncake-master", ""))
    return 5.0 if known is not None and known < (0, 3, 12, 0) else 10.0


def _give_shape(look: Look) -> None:
    if look.subject.workload is None:
        look.give("--workload NAME")
    if look.subject.kv is None:
        look.give("--model-config FILE, the model's config.json")


@rule(
    "E21",
    why="chunks are evicted before the warm round asks for them",
    fix="larger segments, or fewer or shorter prompts",
    versions="watermark 0.9 since Mooncake 0.3.12, 0.95 in 0.3.8 to 0.3.11, 1.0 before and where it is not known",
    facts="Mooncake `types.h` by release",
)
def pool_size(look: Look) -> Iterator[Found]:
    """The pool holds the working set of a round below the watermark at which it evicts."""
    subject = look.subject
    engines = [engine for engine in look.stores() if engine.segment_bytes is not None]
    if not engines:
        return
    if subject.kv is None or subject.workload is None:
        _give_shape(look)
        return
    pool = (subject.node_segment_bytes or 0) + sum(e.replicas * e.ranks * (e.segment_bytes or 0) for e in engines)
    watermark = _watermark(subject)
    need = _round_bytes(subject.workload, subject.kv)
    if pool and pool * watermark < need * 1.1:  # a pool of 0 is one whose nodes nobody told
        yield Found(
            f"the pool holds {pool * watermark / 2**30:.3g} GiB below its watermark, a round stores "
            f"{need / 2**30:.3g} GiB",
            fix=f"segments of {need * 1.1 / watermark / 2**30:.3g} GiB together or more, or fewer or shorter prompts",
        )


def _watermark(subject: Subject) -> float:
    told = number(subject.flag("eviction_high_watermark_ratio"))
    if told:
        return told
    known = version_key(subject.versions.get("mooncake-master", ""))
    if known is None or known < (0, 3, 8, 0):
        return 1.0
    return 0.95 if known < (0, 3, 12, 0) else 0.9


def _round_bytes(workload: WorkloadShape, kv: KVGeometry) -> int:
    if workload.distinct_chunks is None:
        return workload.requests * prompt_bytes(workload.prompt_tokens, kv)
    return workload.distinct_chunks * kv.ranks * object_bytes(kv)


@rule(
    "E22",
    why="the kernel kills an engine or the master in the middle of a round, or RDMA cannot lock its segments",
    fix="smaller global_segment_size, local_buffer_size or max_local_cpu_size; ulimit -l unlimited for RDMA",
    facts="the machine, or the memory limit of a manifest; Mooncake#848, #875",
)
def memory(look: Look) -> Iterator[Found]:
    """Memory for segments, staging and buffers, and the right to lock it."""
    subject = look.subject
    engines = list(look.stores())
    limits = [b for b in (subject.host.ram_bytes, subject.host.memory_limit_bytes) if b is not None]
    need = (subject.node_segment_bytes or 0) + sum(_engine_bytes(engine) for engine in engines)
    if limits and need > min(limits):
        yield Found(
            f"segments, buffers and staging take {need / 2**30:.3g} GiB of {min(limits) / 2**30:.3g} GiB memory"
        )
    for engine in engines:
        limit = engine.memory_limit_bytes
        if limit is not None and _engine_bytes(engine) > limit:
            yield Found(
                f"{engine.name}: segments, buffers and staging take {_engine_bytes(engine) / 2**30:.3g} GiB, the "
                f"container's memory limit is {limit / 2**30:.3g} GiB"
            )
    if engines and not limits and all(engine.memory_limit_bytes is None for engine in engines):
        look.give("--here where the engines run on this machine, or a manifest with resources.limits.memory")
    yield from _memlock(subject, engines)


def _memlock(subject: Subject, engines: list[EngineConfig]) -> Iterator[Found]:
    memlock = subject.host.memlock_bytes
    segments = [engine.segment_bytes or 0 for engine in engines if engine.protocol == "rdma"]
    if segments and memlock is not None and 0 <= memlock < max(segments):
        yield Found(
            f"protocol rdma with a memory-lock limit of {memlock / 2**20:.0f} MiB",
            why="RDMA has to lock its segments; registering them fails",
            fix="ulimit -l unlimited (containers: --ulimit memlock=-1, capability IPC_LOCK)",
        )


def _engine_bytes(engine: EngineConfig) -> int:
    staging = number(engine.setting("max_local_cpu_size") or 5.0) if engine.uses_lmcache else 0.0
    return engine.ranks * (
        (engine.segment_bytes or 0) + (engine.buffer_bytes or 0) + int((staging if staging else 0.0) * 2**30)
    )


@rule(
    "W26",
    why="without a usable device Mooncake goes over TCP without a word",
    fix="MC_FORCE_HCA=1 makes it fail instead; compare protocol in the master's /get_segments_detail",
    facts="Mooncake#1259, #3121; /sys/class/infiniband of this machine",
)
def no_device(look: Look) -> Iterator[Found]:
    """RDMA falls back to TCP without a word."""
    rdma = [engine for engine in look.stores() if engine.protocol == "rdma"]
    if rdma and look.subject.host.rdma_devices is None:
        look.give("--here where the engines run on this machine")
    if rdma and look.subject.host.rdma_devices == ():
        yield Found(f"{rdma[0].name}: protocol rdma and no RDMA device exists")


@rule(
    "W27",
    why="replies do not tell cached tokens, or lmcache: series are missing from /metrics: weaker evidence",
    fix="vllm serve --enable-prompt-tokens-details; export PROMETHEUS_MULTIPROC_DIR=<empty directory>",
    facts="vLLM `chat_completion/serving.py`, LMCache `observability.py`",
)
def switched_on(look: Look) -> Iterator[Found]:
    """What evidence needs is switched on."""
    for engine in look.engines(Part.ARGS, when=lambda e: any(c.is_store for c in e.connectors)):
        dynamo = engine.program == "dynamo"  # its front end tells cached tokens by itself
        missing = [] if dynamo or "enable-prompt-tokens-details" in engine.args else ["--enable-prompt-tokens-details"]
        if engine.uses_lmcache and engine.knows(Part.ENV) and "PROMETHEUS_MULTIPROC_DIR" not in engine.env:
            missing.append("PROMETHEUS_MULTIPROC_DIR")
        if missing:
            yield Found(f"{engine.name}: {' and '.join(missing)} not set")


@rule(
    "W28",
    why="/reset_prefix_cache takes orders from anybody who reaches it; so does LMCache's /run_script where it is on "
    "(off by default in 0.5.6)",
    fix="bind to 127.0.0.1, or switch it off outside of acceptance",
    facts="vLLM `serve/dev/`, LMCache `internal_api_server/`",
)
def open_endpoints(look: Look) -> Iterator[Found]:
    """Endpoints that clear caches and run code, open to the network."""
    if not look.subject.intent.production:
        return
    for engine in look.engines():
        listens = engine.arg("host", "0.0.0.0") or ""  # noqa: S104 - vLLM's default is what is looked for
        if engine.variable("VLLM_SERVER_DEV_MODE") == "1" and not _is_loopback(listens):
            yield Found(f"{engine.name}: VLLM_SERVER_DEV_MODE=1 on {listens}", engine.env["VLLM_SERVER_DEV_MODE"])
        host = str(engine.setting("internal_api_server_host") or "127.0.0.1")
        if is_true(engine.setting("internal_api_server_enabled")) and not _is_loopback(host):
            told = engine.lmcache["internal_api_server_enabled"]
            yield Found(f"{engine.name}: the internal API of LMCache on {host}", told)


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


@rule(
    "E29",
    why="it removes all keys of all models and tenants from the master",
    fix="cold by construction (the default), or cache_salt",
    facts="vLLM `mooncake/store/worker.py` reset_cache",
)
def reset_external(look: Look) -> Iterator[Found]:
    """`reset_external` wipes everybody behind vLLM's own store connector."""
    if look.subject.intent.resets_external and look.subject.intent.shared_store:
        for engine in look.engines(when=lambda e: e.uses_own_store):
            yield Found(f"{engine.name}: reset_external=true on MooncakeStoreConnector with a shared master")
            return


@rule(
    "E30",
    why="remove_all takes everything, of all tenants",
    fix="cold by construction (the default), or remove this run's keys only",
    facts="Mooncake `master_service.cpp` RemoveAll",
)
def foreign_keys(look: Look) -> Iterator[Found]:
    """`remove_all` in a store that holds other people's keys."""
    if not look.subject.intent.removes_all:
        return
    if look.subject.intent.foreign_keys is None:
        look.give("--master URL, to count the keys that are there")
        return
    look.see()
    if look.subject.intent.foreign_keys:
        yield Found(
            f"the store is to be cleared and holds {look.subject.intent.foreign_keys:,} keys that this run did not make"
        )


@rule(
    "W34",
    why="nothing is stored, so nothing can be warm",
    fix="longer prompts (--mooncake-prompt-tokens)",
    facts="LMCache `cache_engine.py` (save_unfull_chunk false)",
)
def short_prompts(look: Look) -> Iterator[Found]:
    """Prompts that are shorter than a chunk."""
    sizes = {number(engine.setting("chunk_size") or 256) for engine in look.lmcache()}
    if look.subject.workload is None:
        if look.looked:
            look.give("--workload NAME")
        return
    prompt = look.subject.workload.prompt_tokens
    if look.subject.kv is not None:
        look.see()
        sizes.add(look.subject.kv.chunk_tokens)
    chunk = int(max((size for size in sizes if size), default=0))
    if prompt < chunk:
        yield Found(
            f"prompts of {prompt} tokens, chunks of {chunk}", fix=f"--mooncake-prompt-tokens {4 * chunk} or more"
        )


@rule(
    "W38",
    why="what the master knows lives in its memory: a restart loses every key, as designed",
    fix="expect clean misses after it, or run the master with --enable_ha=true",
    facts="Mooncake#864, #1336, #1871",
)
def one_master(look: Look) -> Iterator[Found]:
    """A master without a second one forgets everything when it ends."""
    if not look.subject.intent.injects_faults:
        return
    if look.subject.master_flags is None:
        look.give("--master-flags FILE")
        return
    look.see()
    if not is_true(look.subject.flag("enable_ha")):
        yield Found("faults will be injected and the master runs without enable_ha")


@rule(
    "E39",
    why="the master does not know the call",
    fix="a newer mooncake_master",
    versions="POST /api/v1/remove_all since Mooncake 0.3.12.post1, lease-free /batch_query_keys since 0.3.12",
    facts="Mooncake `master_admin_service.cpp` by tag",
)
def calls(look: Look) -> Iterator[Found]:
    """The master knows the calls that the plan needs."""
    needs = [
        (look.subject.intent.removes_all, "0.3.12.post1", "POST /api/v1/remove_all"),
        (look.subject.intent.polls_keys, "0.3.12", "GET /batch_query_keys without granting leases"),
    ]
    for wanted, since, call in needs:
        if not wanted:
            continue
        if look.below("mooncake-master", since):
            yield Found(
                f"mooncake_master {look.subject.versions['mooncake-master']} has no {call}",
                why=f"it came with {since}",
                fix=f"mooncake_master {since} or newer",
            )
        look.see()


@rule(
    "W43",
    why="every put fails for want of space (-200), and nothing says so",
    fix="global_segment_size > 0 on the engines, or storage nodes of their own (mooncake_client "
    "--global_segment_size=…) that are told here too",
    facts="Mooncake `types.h`; LMCache#1957",
)
def memory_of_the_pool(look: Look) -> Iterator[Found]:
    """Somebody gives memory to the pool."""
    engines = list(look.stores())
    if not engines or look.subject.node_segment_bytes or look.subject.pool_runs:
        return
    nobody = all(engine.segment_bytes == 0 for engine in engines)
    external = any(engine.uses_own_store and engine.store_setting("mode") == "standalone-store" for engine in engines)
    if nobody and not external:
        yield Found(
            "global_segment_size is 0 on every engine, and no storage node was told: nobody gives memory",
            engines[0].store_settings.get("global_segment_size"),
        )


@rule(
    "W54",
    why="masters before 0.3.12 count neither hits nor the items of batched puts: the store rung is out of reach",
    fix="mooncake_master 0.3.12 or newer, or accept less (--mooncake-evidence engine)",
    versions="Mooncake masters before 0.3.12",
    facts="masters 0.3.7.post1 to 0.3.13.post1 were run; Mooncake#1152",
)
def old_master(look: Look) -> Iterator[Found]:
    """The master counts what evidence reads."""
    if look.subject.master_flags is None and "mooncake-master" not in look.subject.versions:
        return
    if look.below("mooncake-master", "0.3.12"):
        yield Found(f"mooncake_master {look.subject.versions['mooncake-master']} has no hit counters")
    look.see()
