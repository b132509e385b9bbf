"""Files that hold settings: bounded, as YAML or JSON, each key with the line on which it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from pytest_mooncake.border.local_files import open_binary
from pytest_mooncake.border.values import NotJson, parse_json
from pytest_mooncake.errors import BorderError, PlanError
from pytest_mooncake.stack.preflight.configuration import Fact, Facts
from pytest_mooncake.stack.preflight.sources.shell import Document

__all__ = ["MOST_BYTES", "Lined", "facts_of", "nested", "read_file", "settings_of", "values_in"]

MOST_BYTES = 2**20
"""A rendered chart of a large cluster takes a few hundred KiB."""
_MOST_NODES = 200_000
_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


class Lined(dict[str, object]):
    """A mapping that knows on which line it begins and where its keys stand."""

    line: int
    lines: Mapping[str, int]


def read_file(path: Path) -> Document:
    """Read a text file.

    Raises:
        PlanError: it cannot be read, is binary, empty or too large to be a configuration.
    """
    try:
        with open_binary(path) as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as problem:
        raise PlanError(f"{path}: cannot be read ({problem.strerror or problem})") from None
    if len(data) > MOST_BYTES:
        raise PlanError(f"{path}: is larger than {MOST_BYTES // 2**20} MiB, which no configuration is: give its text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PlanError(f"{path}: is no text (UTF-8) but binary: give a configuration or a command") from None
    if "\0" in text:
        raise PlanError(f"{path}: is no text but binary: give a configuration or a command")
    if not text.strip():
        raise PlanError(f"{path}: is empty: give a configuration or a command")
    return Document(text, str(path))


def values_in(document: Document) -> list[object]:
    """Read all YAML documents (JSON is YAML) of a text; mappings are `Lined`.

    Raises:
        PlanError: it is no YAML; the message names file and line.
    """
    found = []
    try:
        loader = yaml.SafeLoader(document.text)
        while loader.check_node():
            # a node that is used many times over is walked as often: its uses are bounded, not its text
            found.append(_Maker(loader, document).make(loader.get_node(), 0))
    except yaml.YAMLError as problem:
        raise _not_yaml(document, problem) from None
    except RecursionError:
        raise PlanError(f"{document.where}: nests deeper than any configuration does") from None
    return [value for value in found if value is not None]


def _not_yaml(document: Document, problem: yaml.YAMLError) -> PlanError:
    mark = getattr(problem, "problem_mark", None)
    line = f":{mark.line + document.line}" if mark else ""
    if "{{" in document.text:
        hint = "it holds templates of Helm: render it (helm template RELEASE CHART) and give the manifest"
        return PlanError(f"{document.where}{line}: not YAML; {hint}")
    reason = getattr(problem, "problem", None) or str(problem).partition("\n")[0]
    return PlanError(f"{document.where}{line}: not YAML ({reason})")


class _Maker:
    """Makes values of nodes, in a bounded number of steps."""

    def __init__(self, loader: yaml.SafeLoader, document: Document) -> None:
        self.loader = loader
        self.document = document
        self.made = 0

    def make(self, node: yaml.Node | None, depth: int) -> object:
        self.made += 1
        if self.made > _MOST_NODES or depth > 64:
            raise PlanError(f"{self.document.where}: has more or deeper values than any configuration")
        if isinstance(node, yaml.CollectionNode) and node.tag not in _TAGS:
            raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag!r} is unknown", node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.make(item, depth + 1) for item in node.value]
        if not isinstance(node, yaml.ScalarNode):
            return None
        return self._scalar(node)

    def _scalar(self, node: yaml.ScalarNode) -> object:
        """A plain value. PyYAML's own constructors raise anything at a tag that does not fit (`!!int ''`)."""
        try:
            return self.loader.construct_object(node)
        except ValueError:  # a date that is none
            return node.value
        except (TypeError, LookupError, AttributeError):
            said = f"{node.value[:40]!r} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark) from None

    def _mapping(self, node: yaml.MappingNode, depth: int) -> Lined:
        self.loader.flatten_mapping(node)  # merge keys
        found, lines = Lined(), {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):  # what an unrendered template looks like, above all
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
            name = str(key.value)
            found[name] = self.make(value, depth + 1)
            lines[name] = key.start_mark.line + self.document.line
        found.lines = lines
        found.line = node.start_mark.line + self.document.line
        return found


def settings_of(document: Document, what: str) -> Lined:
    """Read a document that holds one mapping; `what` says whose settings are expected.

    Raises:
        PlanError: it holds anything else; the message names file and line.
    """
    if document.where.endswith(".json"):
        _require_json(document)
    values = values_in(document)
    if len(values) == 1 and isinstance(values[0], Lined):
        return values[0]
    found = "nothing" if not values else "several documents" if len(values) > 1 else type(values[0]).__name__
    raise PlanError(f"{document.where}: expected settings of {what} (key: value), found {found}")


def _require_json(document: Document) -> None:
    """Raise where a JSON file is none: what reads it takes no YAML."""
    try:
        parse_json(document.text, document.where)
    except NotJson:
        raise PlanError(f"{document.where}: not JSON, which is what its readers take") from None
    except BorderError as problem:
        raise PlanError(str(problem)) from None


def facts_of(settings: Mapping[str, object], where: str) -> Facts:
    """Settings as facts, each with its line where that is known."""
    lines = settings.lines if isinstance(settings, Lined) else {}
    return {
        str(key): Fact(value, f"{where}:{lines[key]}" if key in lines else where) for key, value in settings.items()
    }


def nested(value: object) -> Iterator[Lined]:
    """All mappings inside a value, itself first."""
    if isinstance(value, Lined):
        yield value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        yield from nested(item)
