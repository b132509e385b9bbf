"""From everything that was told to the stack that the rules look at."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_mooncake.analysis.audit.model.geometry import geometry_of
from pytest_mooncake.errors import PlanError
from pytest_mooncake.records import KVGeometry
from pytest_mooncake.stack.preflight.configuration import EngineConfig, HostFacts, Intent, Subject, WorkloadShape
from pytest_mooncake.stack.preflight.sources.files import Told
from pytest_mooncake.stack.preflight.values import is_true, whole_number

__all__ = ["geometry_told", "subject_of_files"]


def subject_of_files(
    told: Told,
    *,
    versions: Mapping[str, str],
    model_config: Mapping[str, object] | None,
    intent: Intent,
    workload: WorkloadShape | None = None,
    host: HostFacts | None = None,
) -> Subject:
    """Return the stack that files describe.

    Args:
        told: what they tell.
        versions: of its parts.
        model_config: the model's `config.json`.
        intent: what is planned.
        workload: what will be sent.
        host: the machine, where it is one of the stack's.
    """
    engines = told.engine_configs(versions)
    return Subject(
        engines=engines,
        versions=versions,
        master_flags=told.master_flags(),
        metadata_flags=told.metadata_flags(),
        node_segment_bytes=told.node_bytes(),
        mp_server=told.mp(),
        model_config=model_config,
        kv=geometry_told(engines, model_config),
        workload=workload,
        host=host or HostFacts(),
        intent=intent,
        ports=_ports(told, engines),
    )


def geometry_told(engines: tuple[EngineConfig, ...], config: Mapping[str, object] | None) -> KVGeometry | None:
    """KV bytes of a token by the model's config.json, tokens of a chunk by LMCache's settings."""
    if config is None:
        return None
    first = engines[0] if engines else EngineConfig()
    narrow = (first.arg("kv-cache-dtype") or "").startswith("fp8")
    try:
        size = geometry_of(config, kv_dtype_bytes=1 if narrow else None).kv_bytes_per_token
    except (PlanError, ValueError, TypeError, ZeroDivisionError):  # of a kind whose size nobody here can compute
        return None
    if not size:
        return None
    chunk = whole_number(first.setting("chunk_size")) or 256
    return KVGeometry(bytes_per_token=size, chunk_tokens=chunk, ranks=first.ranks)


def _ports(told: Told, engines: tuple[EngineConfig, ...]) -> dict[str, str]:
    """Every listening service that was told, by name, as `host:port`.

    Where nobody says on which host a service runs, those that one script starts are taken to share one.
    """
    found: dict[str, str] = {}
    for (placed, _), engine in zip(told.engines, engines, strict=False):
        if not placed.process.contained:
            host = placed.pod or engine.host or _script(placed.process.where)
            found[engine.name] = f"{host}:{engine.arg('port', '8000')}"
            if is_true(engine.setting("internal_api_server_enabled")):
                start = whole_number(engine.setting("internal_api_server_port_start")) or 6999
                found[f"{engine.name} (LMCache's internal API)"] = f"{host}:{start}"
    flags = told.master_flags()
    if told.master and flags is not None:
        host = told.master.pod or _script(told.master.process.where)

        def port(name: str, default: int) -> int:
            return (whole_number(flags[name].value) if name in flags else None) or default

        found["master (RPC)"] = f"{host}:{port('rpc_port', port('port', 50051))}"
        found["master (admin)"] = f"{host}:{port('metrics_port', 9003)}"
        if "enable_http_metadata_server" in flags and is_true(flags["enable_http_metadata_server"].value):
            found["metadata server"] = f"{host}:{port('http_metadata_server_port', 8080)}"
    server = told.mp()
    if told.mp_server and server is not None:
        host = told.mp_server.pod or _script(told.mp_server.process.where)
        found["LMCache MP server"] = f"{host}:{server.port('port', 5555)}"
        found["LMCache MP server (HTTP)"] = f"{host}:{server.port('http-port', 8080)}"
    return found


def _script(where: str) -> str:
    return f"{where.rpartition(':')[0] or where}'s host"
