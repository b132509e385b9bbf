"""Lints of who listens where, and whether those who ask look there."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from pytest_mooncake.stack.preflight.configuration import EngineConfig, Fact, Facts, Severity, Subject, port_of
from pytest_mooncake.stack.preflight.rule import Found, Look, rule
from pytest_mooncake.stack.preflight.values import is_true, whole_number

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_EVERYWHERE = (None, "", "0.0.0.0", "::")  # noqa: S104 - what others bind to is looked for


def host_of(address: str) -> str:
    """Return the host of `host:port` or of a URL, loopback's under one name; empty where there is none."""
    try:
        host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""
    return "127.0.0.1" if host in _LOOPBACK or host.startswith("127.") else host


@rule(
    "E24",
    why="clients cannot register their segments: Mooncake's set-up fails, LMCache says it succeeded",
    fix="mooncake_master --enable_http_metadata_server=true on the port that the clients name, or P2PHANDSHAKE "
    "everywhere",
    facts="Mooncake `master.cpp`; LMCache `mooncakestore_connector.py`",
)
def metadata(look: Look) -> Iterator[Found]:
    """One metadata service that is there."""
    told = _metadata_servers(look)
    if len(told) > 1 and "P2PHANDSHAKE" in told:
        yield Found(
            f"metadata_server differs ({', '.join(sorted(told))})",
            told["P2PHANDSHAKE"],
            why="clients with P2PHANDSHAKE and clients with a server cannot find each other's segments",
            fix="the same metadata_server for all clients",
        )
    for address, fact in told.items():
        if address.startswith(("http://", "https://")):
            yield from _over_http(look, address, fact)


def _metadata_servers(look: Look) -> dict[str, Fact]:
    told = [engine.store_settings.get("metadata_server") for engine in look.stores()]
    server = look.subject.mp_server
    told += [adapter.get("metadata_server") for adapter in (server.adapters if server else ())]
    return {str(fact.value): fact for fact in told if fact is not None and fact.value}


def _over_http(look: Look, address: str, fact: Fact) -> Iterator[Found]:
    subject = look.subject
    if subject.metadata_reachable is True:
        return
    if subject.metadata_reachable is False:
        yield Found(f"metadata_server is {address}, and nobody serves it", fact)
        return
    if subject.metadata_flags is not None:  # a server of its own was told
        return
    if subject.master_flags is None:
        look.give("--master-flags FILE, to see who serves metadata")
        return
    hosts = {host_of(master) for master in subject.masters} - {""}
    if host_of(address) not in hosts:
        known = f" (the master is {', '.join(sorted(subject.masters))})" if hosts else ""
        yield Found(
            f"metadata_server is {address}, which was not seen{known}",
            fact,
            why="it is another host than the master's: whether somebody serves it there is not known from here",
            fix=f"curl '{address}?key=x' answers 404 where it runs",
            severity=Severity.NOTE,
        )
        return
    yield from _of_master(subject, address, fact)


def _of_master(subject: Subject, address: str, fact: Fact) -> Iterator[Found]:
    """The metadata server is to be the master's own."""
    flags: Facts = subject.master_flags or {}
    if not is_true(subject.flag("enable_http_metadata_server")):
        yield Found(
            f"metadata_server is {address}, and nobody serves it: the master runs without enable_http_metadata_server",
            fact,
            fix="mooncake_master --enable_http_metadata_server=true, or metadata_server: P2PHANDSHAKE everywhere",
        )
        return
    asked = port_of(address) or 80
    served = whole_number(subject.flag("http_metadata_server_port")) or 8080
    if asked != served:
        yield Found(
            f"metadata_server is {address}, the master serves metadata on port {served}: clients ask {asked}",
            flags.get("http_metadata_server_port") or fact,
            fix=f"--http_metadata_server_port={asked}, or port {served} in metadata_server",
        )
    bound = subject.flag("http_metadata_server_host")
    if bound not in _EVERYWHERE and host_of(str(bound)) == "127.0.0.1" != host_of(address):
        yield Found(
            f"metadata_server is {address}, the master serves metadata on {bound} only",
            flags.get("http_metadata_server_host"),
            fix="--http_metadata_server_host=0.0.0.0",
        )


@rule(
    "E31",
    why="one of them ends, or answers the other's probes (metadata server, LMCache MP and store service all default "
    "to 8080)",
    fix="give one of them another port",
    facts="Mooncake#2268; defaults of vLLM, LMCache and Mooncake",
)
def ports(look: Look) -> Iterator[Found]:
    """Two services on one address."""
    taken: dict[str, list[str]] = {}
    for service, address in look.subject.ports.items():
        look.see()
        taken.setdefault(address, []).append(service)
    for address, services in taken.items():
        if len(services) > 1:
            yield Found(f"{' and '.join(sorted(services))} both claim {address}")


@rule(
    "E52",
    why="the clients find no master there: Mooncake's set-up fails, LMCache says it succeeded",
    fix="one port: mooncake_master --rpc_port and the clients' master address",
    facts="Mooncake `master.cpp` (rpc_port, else port, else 50051); Mooncake#868",
)
def master_port(look: Look) -> Iterator[Found]:
    """Clients ask where the master listens."""
    subject = look.subject
    port = subject.master_port
    if port is None:
        if subject.masters:
            look.give("--master-flags FILE, to see where the master listens")
        return
    look.see()
    flags: Facts = subject.master_flags or {}
    told = flags.get("rpc_port") or flags.get("port")
    for address in subject.masters:
        yield from _asked(subject, address, port, told)


def _asked(subject: Subject, address: str, port: int, told: Fact | None) -> Iterator[Found]:
    if "://" in address:
        scheme = address.partition("://")[0]
        if not is_true(subject.flag("enable_ha")):
            yield Found(
                f"clients look the master up in {scheme} ({address}), and it runs without enable_ha",
                why=f"without high availability the master tells {scheme} nothing: clients find no leader there",
                fix="--enable_ha=true with its etcd_endpoints or ha_backend, or the master's own host:port",
            )
        return
    asked = port_of(address) or 50051
    if asked != port:
        yield Found(f"the master listens on {port}, clients ask {address}", told)


@rule(
    "W55",
    why="clients ask 50051 unless they are told: what looks like 50052 to them is a client's own port",
    fix="name the port in every client's master address, or --rpc_port=50051",
    facts="Mooncake `master.cpp`, `real_client_main.cpp`; Mooncake#868",
)
def unusual_port(look: Look) -> Iterator[Found]:
    """A master on another port than 50051, of which no client was told."""
    subject = look.subject
    if subject.master_port is None or subject.masters:
        return
    look.see()
    if subject.master_port != 50051:
        flags: Facts = subject.master_flags or {}
        told = flags.get("rpc_port") or flags.get("port")
        yield Found(f"the master listens on {subject.master_port}, not on the clients' 50051", told)


@rule(
    "E53",
    why="the engine waits for the server until its time limit and ends, or finds another server",
    fix="one port: lmcache server --port and lmcache.mp.port",
    versions="LMCache 0.5 (default 5555 on both sides)",
    facts="LMCache `multiprocess/config.py`; vLLM `lmcache_mp_connector.py`",
)
def mp_port(look: Look) -> Iterator[Found]:
    """Engines ask where LMCache's MP server listens."""
    server = look.subject.mp_server
    for engine in look.engines(when=lambda e: e.uses_mp):
        if server is None:
            look.give("--lmcache-server-args FILE, the MP server's command")
            continue
        listens = server.port("port", 5555)
        for port, told in _mp_ports(engine):
            if port != listens:
                yield Found(f"{engine.name} asks port {port}, the MP server listens on {listens}", told)


def _mp_ports(engine: EngineConfig) -> Iterator[tuple[int, Fact]]:
    for connector in engine.connectors:
        if connector.name != "LMCacheMPConnector":
            continue
        told = Fact(connector.extra, connector.where)
        urls = connector.extra.get("lmcache.mp.server_urls")
        if isinstance(urls, list | str):
            named = urls if isinstance(urls, list) else urls.split(",")
            yield from ((port, told) for url in named if (port := port_of(str(url).strip())) is not None)
            return
        yield whole_number(connector.extra.get("lmcache.mp.port")) or 5555, told
