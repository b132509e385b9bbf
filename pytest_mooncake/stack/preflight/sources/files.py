"""A user's files, of whatever kind, put together to the stack that they describe."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pytest_mooncake.errors import PlanError, UsageError
from pytest_mooncake.stack.preflight.configuration import EngineConfig, Facts, MPServer
from pytest_mooncake.stack.preflight.known import EXTRA_KEYS, LMCACHE_KEYS, OWN_STORE_KEYS, nearest
from pytest_mooncake.stack.preflight.sources.commands import ENGINES, Kind, Process, flags_of, mp_server_of, process_of
from pytest_mooncake.stack.preflight.sources.documents import Lined, facts_of, read_file, settings_of
from pytest_mooncake.stack.preflight.sources.engines import Placement, engine_of
from pytest_mooncake.stack.preflight.sources.manifests import Placed, is_manifest, manifest_of
from pytest_mooncake.stack.preflight.sources.shell import Command, Document, read_script
from pytest_mooncake.stack.preflight.values import size_bytes

__all__ = ["Files", "Told", "model_config_of", "read_files"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What a user gives. Each may also be a manifest (Kubernetes, compose, systemd) that holds what is wanted."""

    vllm_args: tuple[Path, ...] = ()
    lmcache_yaml: tuple[Path, ...] = ()
    mooncake_json: tuple[Path, ...] = ()
    master_flags: Path | None = None
    lmcache_server_args: Path | None = None
    model_config: Path | None = None
    manifests: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything was given."""
        return any((self.vllm_args, self.lmcache_yaml, self.mooncake_json, self.master_flags, self.manifests)) or any(
            (self.lmcache_server_args, self.model_config)
        )


@dataclass(slots=True, kw_only=True)
class Told:
    """Everything that the files tell, by part of the stack."""

    engines: list[tuple[Placed, bool]] = field(default_factory=list)
    """Each with whether its environment is known in full."""
    lmcache: list[Facts] = field(default_factory=list)
    mooncake: list[Facts] = field(default_factory=list)
    master: Placed | None = None
    metadata: Placed | None = None
    mp_server: Placed | None = None
    nodes: list[Placed] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)
    services: set[str] = field(default_factory=set)
    manifests: set[Path] = field(default_factory=set)

    def __bool__(self) -> bool:
        """Whether anything of a stack was told."""
        parts = (self.engines, self.lmcache, self.mooncake, self.nodes, self.master, self.metadata, self.mp_server)
        return any(parts)

    def note(self, placed: Placed, *, whole: bool) -> None:
        """Keep a process by its kind."""
        kind = placed.process.kind
        if kind in ENGINES:
            self.engines.append((placed, whole))
        elif kind is Kind.MASTER:
            self.master = placed
        elif kind is Kind.METADATA:
            self.metadata = placed
        elif kind is Kind.MP_SERVER:
            self.mp_server = placed
        else:
            self.nodes.append(placed)

    def node_bytes(self) -> int | None:
        """What storage nodes give to the pool; None where none was told."""
        if not self.nodes:
            return None
        sizes = [flags_of(node.process.words).get("global_segment_size") for node in self.nodes]
        named = [node.process.env.get("MOONCAKE_GLOBAL_SEGMENT_SIZE") for node in self.nodes]
        told = [size or other for size, other in zip(sizes, named, strict=True)]
        return sum(size_bytes(fact.value) or 0 for fact in told if fact) or None

    def mp(self) -> MPServer | None:
        """LMCache's MP server."""
        return mp_server_of(self.mp_server.process) if self.mp_server else None

    def metadata_flags(self) -> Facts | None:
        """The flags of a metadata server of its own."""
        return flags_of(self.metadata.process.words, self.metadata.process.where) if self.metadata else None

    def master_flags(self) -> Facts | None:
        """The master's flags."""
        return flags_of(self.master.process.words, self.master.process.where) if self.master else None

    def engine_configs(self, versions: Mapping[str, str]) -> tuple[EngineConfig, ...]:
        """The engines, each with the files that are its own.

        Raises:
            UsageError: there are other numbers of files than of engines.
        """
        count = max(len(self.engines), len(self.lmcache), len(self.mooncake))
        return tuple(self._engine(index, versions) for index in range(count))

    def _engine(self, index: int, versions: Mapping[str, str]) -> EngineConfig:
        one = _one_of(self.engines, index, "--vllm-args")
        placed, whole = one if one else (None, False)
        process = placed.process if placed else None
        env = process.env if process else {}
        lmcache = self._named(env, "LMCACHE_CONFIG_FILE", "LMCache")
        mooncake = self._named(env, "MOONCAKE_CONFIG_PATH", "Mooncake")
        lmcache = lmcache if lmcache is not None else _one_of(self.lmcache, index, "--lmcache-yaml")
        mooncake = mooncake if mooncake is not None else _one_of(self.mooncake, index, "--mooncake-json")
        return engine_of(
            process,
            name=f"{placed.name} ({process.where})" if whole and placed and process else f"engine {index}",
            lmcache=lmcache,
            mooncake=mooncake,
            versions=versions,
            placement=Placement(
                whole_environment=whole,
                memory_limit_bytes=placed.memory_bytes if placed else None,
                replicas=placed.replicas if placed else 1,
                host=(placed.pod or None) if placed else None,
                services=frozenset(self.services),
            ),
        )

    def _named(self, env: Facts, variable: str, what: str) -> Facts | None:
        """The content of the file that a variable names, where it came inside another file."""
        told = env.get(variable)
        path = str(told.value) if told else ""
        document = self.documents.get(path) or self.documents.get(path.rpartition("/")[2])
        return facts_of(settings_of(document, what), document.where) if document and path else None


def _one_of(values: list[T], index: int, flag: str) -> T | None:
    if not values:
        return None
    if len(values) == 1:
        return values[0]
    if index >= len(values):
        raise UsageError(f"{flag} was given {len(values)} times and there are more engines: give it once, or for each")
    return values[index]


def read_files(files: Files) -> Told:
    """Read all files.

    Raises:
        PlanError: one cannot be read, or is no configuration of anything known.
    """
    told = Told()
    for path in files.manifests:
        if not _as_manifest(read_file(path), path, told):
            raise PlanError(f"{path}: is no Kubernetes manifest (render a chart: helm template), compose file or unit")
    for path in files.vllm_args:
        _of_script(path, told, ENGINES)
    if files.master_flags:
        _of_script(files.master_flags, told, {Kind.MASTER})
    if files.lmcache_server_args:
        _of_script(files.lmcache_server_args, told, {Kind.MP_SERVER})
    told.lmcache += [_settings(path, told, LMCACHE_KEYS, "LMCache") for path in files.lmcache_yaml]
    told.mooncake += [_settings(path, told, EXTRA_KEYS | OWN_STORE_KEYS, "Mooncake") for path in files.mooncake_json]
    if files.manifests and not told:
        raise PlanError(f"{files.manifests[0]}: starts nothing that is known here (vLLM, LMCache, Mooncake)")
    return told


def _as_manifest(document: Document, path: Path, told: Told, *, processes: bool = True) -> bool:
    """Note what a manifest tells, once however often it is given; False where it is none.

    `processes` is False where only the settings in it are asked for.
    """
    if path in told.manifests:
        return True
    if not is_manifest(document):
        return False
    told.manifests.add(path)
    manifest = manifest_of(document)
    told.documents |= manifest.documents
    told.services |= manifest.services
    for placed in manifest.placed if processes else ():
        told.note(placed, whole=True)
    return True


_MISSING = {
    Kind.VLLM: "no engine's command in it: write it as in a shell (vllm serve MODEL …)",
    Kind.MASTER: "no command of mooncake_master in it: write it as in a shell (mooncake_master --rpc_port=50051 …)",
    Kind.MP_SERVER: "no command of LMCache's MP server in it: write it as in a shell (lmcache server --port 5555 …)",
}


def _of_script(path: Path, told: Told, kinds: Collection[Kind]) -> None:
    document = read_file(path)
    before = _count(told, kinds)
    if not _as_manifest(document, path, told):
        script = read_script(document.text, document.where)
        told.documents |= script.documents
        found = [process for command in script.commands if (process := process_of(command))]
        if not any(process.kind in kinds for process in found):
            found += _bare(script.commands, kinds)
        for process in found:
            told.note(Placed(process=process, name="", pod=""), whole=False)
    elif path in told.manifests and before:
        return
    if _count(told, kinds) == before:
        raise PlanError(f"{path}: {_MISSING[Kind.VLLM if Kind.VLLM in kinds else next(iter(kinds))]}")


def _count(told: Told, kinds: Collection[Kind]) -> int:
    kept = [placed for placed, _ in told.engines]
    kept += [placed for placed in (told.master, told.mp_server, told.metadata) if placed]
    return sum(placed.process.kind in kinds for placed in kept)


_OF_VLLM: tuple[str, ...] = (
    "--kv-transfer-config",
    "--kv-offloading",
    "--no-enable-prefix-caching",
    "--enable-prefix-caching",
)
_OF_VLLM += ("--tensor-parallel-size", "--block-size", "--max-model-len", "--served-model-name")
_OF_VLLM += ("--gpu-memory-utilization",)
_TELLING = {
    Kind.VLLM: _OF_VLLM,
    Kind.MASTER: ("rpc_port", "metrics_port", "eviction_", "default_kv_lease_ttl", "enable_http_metadata_server"),
    Kind.MP_SERVER: ("--l2-adapter", "--l1-size-gb", "--chunk-size", "--http-port"),
}


def _bare(commands: Iterable[Command], kinds: Collection[Kind]) -> list[Process]:
    """Arguments alone, or behind a launcher that is not known: taken for the part that was asked for."""
    kind = Kind.VLLM if Kind.VLLM in kinds else next(iter(kinds))
    for command in commands:
        names = [word.replace("_", "-") if kind is not Kind.MASTER else word.lstrip("-") for word in command.words]
        if any(name.startswith(_TELLING[kind]) for name in names):
            first = next(place for place, word in enumerate(command.words) if word.startswith("-"))
            start = first if kind is not Kind.VLLM or first == 0 else max(first - 1, 0)
            return [Process(kind=kind, words=command.words[start:], env=command.env, where=command.where)]
    return []


def _settings(path: Path, told: Told, known: Collection[str], what: str) -> Facts:
    """Settings of LMCache or Mooncake: the file's, or those in a manifest's ConfigMap."""
    document = read_file(path)
    if _as_manifest(document, path, told, processes=not told.engines):
        return _in_manifest(path, told, known, what)
    settings = settings_of(document, what)
    if not _speaks_of(settings, known):
        shown = ", ".join(list(settings)[:4]) or "nothing"
        raise PlanError(f"{path}: is no configuration of {what}: none of its keys ({shown}) is known to it")
    return facts_of(settings, document.where)


def _speaks_of(settings: Lined, known: Collection[str]) -> bool:
    return any(key in known or nearest(key, known, cutoff=0.85) for key in settings)


def _in_manifest(path: Path, told: Told, known: Collection[str], what: str) -> Facts:
    for document in told.documents.values():
        if document.where == str(path):
            try:
                settings = settings_of(document, what)
            except PlanError:
                continue
            if any(key in known for key in settings):
                return facts_of(settings, document.where)
    raise PlanError(f"{path}: is a manifest, and none of its ConfigMaps holds settings of {what}")


_OF_A_MODEL = {"architectures", "model_type", "hidden_size", "num_hidden_layers", "text_config"}


def model_config_of(path: Path) -> Lined:
    """Read a model's `config.json`.

    Raises:
        PlanError: it is none.
    """
    config = settings_of(read_file(path), "a model (config.json)")
    if not config.keys() & _OF_A_MODEL:
        raise PlanError(f"{path}: is no model's config.json: it has none of {', '.join(sorted(_OF_A_MODEL))}")
    return config
