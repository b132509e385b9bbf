"""Kubernetes manifests, docker compose files and systemd units: the commands in them, with environment and files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pytest_mooncake.errors import PlanError
from pytest_mooncake.stack.preflight.configuration import Fact, Facts
from pytest_mooncake.stack.preflight.sources.commands import Kind, Process, process_of
from pytest_mooncake.stack.preflight.sources.documents import Lined, nested, values_in
from pytest_mooncake.stack.preflight.sources.shell import Document, expand, read_script
from pytest_mooncake.stack.preflight.values import whole_number

__all__ = ["Manifest", "Placed", "is_manifest", "manifest_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A process of a manifest: where it runs, how often, what memory it may take."""

    process: Process
    name: str
    pod: str
    replicas: int = 1
    memory_bytes: int | None = None


@dataclass(slots=True, kw_only=True)
class Manifest:
    """What a manifest starts, the files in it by name, and names that are no machine's own."""

    placed: list[Placed] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)
    services: set[str] = field(default_factory=set)


_UNIT = re.compile(r"^\s*\[Service\]\s*$", re.MULTILINE)
_EXEC = re.compile(r"^\s*ExecStart\s*=", re.MULTILINE)


def is_manifest(document: Document) -> bool:
    """Whether a text is a manifest of any kind that is read here."""
    if _UNIT.search(document.text) and _EXEC.search(document.text):
        return True
    if not re.search(r"^\s*(\"?kind\"?|services|\{?\s*\"services\")\s*:", document.text, re.MULTILINE):
        return False
    try:
        values = values_in(document)
    except PlanError:
        return False
    return bool(values) and all(
        isinstance(value, Lined) and (_is_kubernetes(value) or _is_compose(value)) for value in values
    )


def _is_kubernetes(value: Lined) -> bool:
    return "apiVersion" in value and "kind" in value


def _is_compose(value: Lined) -> bool:
    services = value.get("services")
    return isinstance(services, Lined) and any(
        isinstance(one, Lined) and one.keys() & {"image", "command", "build", "entrypoint"} for one in services.values()
    )


def manifest_of(document: Document) -> Manifest:
    """Read a manifest.

    Raises:
        PlanError: a command in it is none.
    """
    if _UNIT.search(document.text):
        return _unit(document)
    manifest = Manifest()
    values = [value for value in values_in(document) if isinstance(value, Lined)]
    objects = [one for value in values for one in _objects(value)]
    for one in objects:
        _note_object(one, document, manifest)
    maps = {_name(one): one for one in objects if one.get("kind") == "ConfigMap"}
    for one in objects:
        if one.get("kind") != "ConfigMap":
            manifest.placed += _pods(one, document, maps)
    for value in values:
        if _is_compose(value):
            _compose(value, document, manifest)
    return manifest


def _objects(value: Lined) -> Iterator[Lined]:
    items = value.get("items")
    if value.get("kind") == "List" and isinstance(items, list):
        yield from (one for one in items if isinstance(one, Lined))
    elif _is_kubernetes(value):
        yield value


def _name(one: Lined) -> str:
    metadata = one.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _note_object(one: Lined, document: Document, manifest: Manifest) -> None:
    data = one.get("data")
    if one.get("kind") == "ConfigMap" and isinstance(data, Lined):
        for key, text in data.items():
            if isinstance(text, str):
                line = data.lines.get(key, 1) + (1 if "\n" in text else 0)
                manifest.documents[key] = Document(text, document.where, line)
    if one.get("kind") == "Service":
        manifest.services.add(_name(one))


def _pods(one: Lined, document: Document, maps: Mapping[str, Lined]) -> Iterator[Placed]:
    """Containers anywhere in an object: Deployment, StatefulSet, LeaderWorkerSet, Job, and others' own kinds."""
    for place, pod in enumerate(nested(one)):
        containers = pod.get("containers")
        listed = list(containers) if isinstance(containers, list) else []
        listed += [pod["mainContainer"]] if "mainContainer" in pod else []
        for container in listed:
            if isinstance(container, Lined):
                yield from _container(container, document, maps, f"{_name(one)}/{place}", _replicas(one))


def _replicas(one: Lined) -> int:
    spec = one.get("spec")
    return (whole_number(spec.get("replicas")) if isinstance(spec, dict) else None) or 1


def _container(
    container: Lined, document: Document, maps: Mapping[str, Lined], pod: str, replicas: int
) -> Iterator[Placed]:
    where = f"{document.where}:{container.line}"
    env = _environment(container, document, maps)
    known = {name: str(fact.value) for name, fact in env.items()}
    words = [*_texts(container.get("command")), *_texts(container.get("args"))]
    words = [re.sub(r"\$\(([A-Za-z_]\w*)\)", lambda m: known.get(m[1], m[0]), word) for word in words]
    name = str(container.get("name", "container"))
    for process in _processes(words, env, where, str(container.get("image", ""))):
        memory = _quantity(container)
        yield Placed(process=process, name=name, pod=pod, replicas=replicas, memory_bytes=memory)


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(one) for one in value if one is not None] if isinstance(value, list) else []


def _processes(words: list[str], env: Facts, where: str, image: str) -> Iterator[Process]:
    """The parts of a stack that a container's command starts."""
    source, _, line = where.rpartition(":")
    script = read_script(shlex.join(words), source, first_line=int(line), env=env)
    found = [process for command in script.commands if (process := process_of(command))]
    if not found and words and words[0].startswith("-") and re.search(r"vllm|llm-d", image):
        found = [Process(kind=Kind.VLLM, words=tuple(words), env=env, where=where)]
    yield from found


def _environment(container: Lined, document: Document, maps: Mapping[str, Lined]) -> dict[str, Fact]:
    env: dict[str, Fact] = {}
    for source in _mappings(container.get("envFrom")):
        reference = source.get("configMapRef")
        data = _data(maps, reference)
        prefix = str(source.get("prefix") or "")
        env |= {f"{prefix}{key}": Fact(str(value), document.where) for key, value in data.items()}
    for one in _mappings(container.get("env")):
        name, value = str(one.get("name", "")), one.get("value")
        told = one.get("valueFrom")
        if value is None and isinstance(told, dict):
            reference = told.get("configMapKeyRef")
            key = str(reference.get("key", "")) if isinstance(reference, dict) else ""
            value = _data(maps, reference).get(key, f"$({name})")
        known = {key: str(fact.value) for key, fact in env.items()}
        text = re.sub(r"\$\(([A-Za-z_]\w*)\)", lambda m, known=known: known.get(m[1], m[0]), str(value or ""))  # type: ignore[misc]
        env[name] = Fact(text, f"{document.where}:{one.line}")
    return env


def _mappings(value: object) -> list[Lined]:
    return [one for one in value if isinstance(one, Lined)] if isinstance(value, list) else []


def _data(maps: Mapping[str, Lined], reference: object) -> Mapping[str, object]:
    found = maps.get(str(reference.get("name"))) if isinstance(reference, dict) else None
    data = found.get("data") if found else None
    return data if isinstance(data, dict) else {}


_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|K|M|G|T|m)?")
_FACTORS: dict[str, float] = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
}
_FACTORS |= {"T": 10**12, "m": 10**-3}


def _quantity(container: Lined) -> int | None:
    """Bytes of `resources.limits.memory`."""
    resources = container.get("resources")
    limits = resources.get("limits") if isinstance(resources, dict) else None
    match = _QUANTITY.fullmatch(str(limits.get("memory", ""))) if isinstance(limits, dict) else None
    return None if match is None else int(float(match[1]) * _FACTORS.get(match[2] or "", 1))


def _compose(value: Lined, document: Document, manifest: Manifest) -> None:
    services = value.get("services")
    configs = value.get("configs")
    for name, config in configs.items() if isinstance(configs, dict) else ():
        if isinstance(config, Lined) and isinstance(config.get("content"), str):
            line = config.lines.get("content", 1) + 1
            manifest.documents[name] = Document(str(config["content"]), document.where, line)
    for name, service in services.items() if isinstance(services, dict) else ():
        if isinstance(service, Lined):
            manifest.placed += _service(name, service, document)
            for mounted in _mappings(service.get("configs")):
                source, target = str(mounted.get("source")), str(mounted.get("target"))
                if source in manifest.documents:
                    manifest.documents[target] = manifest.documents[source]


def _service(name: str, service: Lined, document: Document) -> Iterator[Placed]:
    where = f"{document.where}:{service.line}"
    env = _of_compose(service.get("environment"), document, service)
    words = [*_split(service.get("entrypoint")), *_split(service.get("command"))]
    shared = str(service.get("network_mode", "")) == "host"
    deploy = service.get("deploy")
    replicas = whole_number(deploy.get("replicas")) if isinstance(deploy, dict) else None
    for process in _processes(words, env, where, str(service.get("image", ""))):
        yield Placed(process=process, name=name, pod="" if shared else name, replicas=replicas or 1)


def _split(value: object) -> list[str]:
    """A command of compose: a list, or a text that is split as a shell does; `$$` is a `$`."""
    if isinstance(value, list):
        words = [str(one) for one in value]
    else:
        try:
            words = shlex.split(value) if isinstance(value, str) else []
        except ValueError as problem:
            raise PlanError(f"a command of the compose file is none ({problem}): {str(value)[:60]!r}") from None
    return [expand(word.replace("$$", "\0"), {}).replace("\0", "$") for word in words]


def _of_compose(value: object, document: Document, service: Lined) -> dict[str, Fact]:
    where = f"{document.where}:{service.lines.get('environment', service.line)}"
    if isinstance(value, list):
        pairs: Iterable[tuple[str, object]] = [(a, c) for a, b, c in (str(o).partition("=") for o in value) if b]
    elif isinstance(value, Lined):
        pairs = value.items()
    else:
        return {}
    texts = ((key, "" if one is None else str(one)) for key, one in pairs)
    return {key: Fact(expand(text, {}), where) for key, text in texts}


def _unit(document: Document) -> Manifest:
    """Read a systemd unit: `Environment=` and `ExecStart=` of its `[Service]`."""
    manifest = Manifest()
    env: dict[str, Fact] = {}
    commands: list[tuple[str, int]] = []
    for line, text in _lines(document):
        key, _, value = text.partition("=")
        if key.strip() == "Environment":
            for word in _words(value, f"{document.where}:{line}"):
                name, _, setting = word.partition("=")
                env[name] = Fact(setting, f"{document.where}:{line}")
        elif key.strip() == "ExecStart":
            commands.append((value.strip().lstrip("-@:+!"), line))
    for value, line in commands:
        where = f"{document.where}:{line}"
        words = _words(value, where)
        for process in _processes(words, env, where, ""):
            manifest.placed.append(Placed(process=process, name="service", pod=""))
    return manifest


def _lines(document: Document) -> Iterator[tuple[int, str]]:
    """Lines of a unit, continued ones joined, comments left out."""
    joined, first = "", document.line
    for line, text in enumerate(document.text.splitlines(), document.line):
        if text.strip().startswith(("#", ";")):
            continue
        first = line if not joined else first
        joined += text.rstrip().removesuffix("\\") + " "
        if not text.rstrip().endswith("\\"):
            yield first, joined.strip()
            joined = ""


def _words(text: str, where: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as problem:
        raise PlanError(f"{where}: not a command line ({problem})") from None
