"""Lints of what all engines of one pool must have in common, else they never find each other's chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pytest_mooncake.cache.preflight.subject import EngineConfig, Finding, Severity, Subject, is_true

__all__ = ["RULES"]


def _values(subject: Subject, read: Callable[[EngineConfig], object]) -> dict[str, object]:
    return {engine.name: read(engine) for engine in subject.engines}


def _differ(subject: Subject, read: Callable[[EngineConfig], object]) -> str | None:
    """Say which engine has which value when they differ."""
    values = _values(subject, read)
    if len({str(value) for value in values.values()}) < 2:
        return None
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _finding(rule: str, what: str, why: str, fix: str) -> Finding:
    severity = Severity.ERROR if rule.startswith("E") else Severity.WARNING
    return Finding(id=rule, severity=severity, what=what, why=why, fix=fix)


def _chunk_tokens(engine: EngineConfig) -> int:
    text = str(engine.setting("chunk_size") or "256")
    return int(text) if text.isdigit() else 256


def e14(subject: Subject) -> Iterator[Finding]:
    """One chunk size, and whole blocks in a chunk."""
    engines = [engine for engine in subject.engines if engine.uses_lmcache and engine.knows("lmcache")]
    different = _differ(subject, _chunk_tokens) if len(engines) == len(subject.engines) else None
    if different:
        yield _finding(
            "E14", f"chunk_size differs ({different})", "keys of different chunks never match", "one chunk_size for all"
        )
    for engine in engines:
        block = engine.args.get("block-size", "")
        if block.isdigit() and _chunk_tokens(engine) % int(block):
            yield _finding(
                "E14",
                f"{engine.name}: chunk_size {_chunk_tokens(engine)} is no multiple of --block-size {block}",
                "chunks that end within a block cannot be loaded",
                f"chunk_size: {(_chunk_tokens(engine) // int(block) + 1) * int(block)}",
            )


def e15(subject: Subject) -> Iterator[Finding]:
    """One hash of chunks in every process."""
    engines = [e for e in subject.engines if e.uses_lmcache and e.knows("lmcache") and e.knows("env")]
    different = _differ(subject, lambda e: e.setting("pre_caching_hash_algorithm") or "builtin")
    if engines and different:
        yield _finding(
            "E15", f"hash algorithms differ ({different})", "equal prompts get different keys", "one algorithm for all"
        )
        return
    builtin = [e for e in engines if not str(e.setting("pre_caching_hash_algorithm") or "builtin").startswith("sha256")]
    seeds = {engine.env.get("PYTHONHASHSEED") for engine in builtin}
    if seeds and (len(seeds) > 1 or seeds & {None, "random", ""}):
        said = ", ".join(f"{engine.name}: {engine.env.get('PYTHONHASHSEED', 'not set')}" for engine in builtin)
        yield _finding(
            "E15",
            f"PYTHONHASHSEED is not one number everywhere ({said})",
            "chunk keys come from Python's hash(): another engine, or this one restarted, never finds what is stored",
            "PYTHONHASHSEED=0 in every process, and pre_caching_hash_algorithm: sha256_cbor",
        )


_IN_KEYS: tuple[tuple[str, Callable[[EngineConfig], object]], ...] = (
    ("--model", lambda e: e.args.get("model")),
    ("--dtype", lambda e: e.args.get("dtype", "auto")),
    ("--kv-cache-dtype", lambda e: e.args.get("kv-cache-dtype", "auto")),
    ("TP × PP", lambda e: e.ranks),
)


def e16(subject: Subject) -> Iterator[Finding]:
    """Model, data types and ranks stand in the keys."""
    for name, read in _IN_KEYS if all(engine.knows("args") for engine in subject.engines) else ():
        different = _differ(subject, read)
        if different:
            yield _finding(
                "E16",
                f"{name} differs ({different})",
                "it is part of the key, as it is spelt: these engines never share a chunk",
                f"the same {name} on every engine",
            )


def e18(subject: Subject) -> Iterator[Finding]:
    """Writers and readers agree on the header of an object."""
    different = _differ(subject, lambda e: is_true(e.store_settings.get("save_chunk_meta", True)))
    if different and all(engine.uses_lmcache for engine in subject.engines):
        yield _finding(
            "E18",
            f"save_chunk_meta differs ({different})",
            "objects with and without a header are read as each other: wrong bytes",
            "the same save_chunk_meta everywhere (false: no copy)",
        )


def e23(subject: Subject) -> Iterator[Finding]:
    """A segment that calls itself localhost is found from no other host."""
    if len({engine.host for engine in subject.engines if engine.host}) < 2:
        return
    for engine in subject.engines:
        name = str(engine.store_settings.get("local_hostname") or "")
        if name == "localhost" or name.startswith("127."):
            yield _finding(
                "E23",
                f"{engine.name}: local_hostname is {name}, and the engines run on several hosts",
                "the other hosts look for its segment on themselves",
                "local_hostname: the address under which the other hosts reach this one",
            )


def e25(subject: Subject) -> Iterator[Finding]:
    """One transport for a pool."""
    different = _differ(subject, lambda e: e.store_settings.get("protocol", "tcp"))
    if different:
        yield _finding(
            "E25",
            f"protocol differs ({different})",
            "a client cannot read a segment of another transport (NotSupportedTransport)",
            "the same protocol for all clients of a pool",
        )


def w36(subject: Subject) -> Iterator[Finding]:
    """How prefill is cut decides TTFT."""
    for name in ("max-num-batched-tokens", "enable-chunked-prefill"):
        different = _differ(subject, lambda e, name=name: e.args.get(name, "default"))  # type: ignore[misc]
        if different:
            yield _finding(
                "W36",
                f"--{name} differs ({different})",
                "a warm round goes to another engine than the cold one, and their TTFT cannot be compared",
                f"the same --{name} on every engine",
            )


RULES = (e14, e15, e16, e18, e23, e25, w36)
