"""Text that somebody wrote, as YAML: the one place where YAML is parsed, and what it refuses.

Only plain YAML is read (no tags of Python's). Files are bounded in size, depth, number of values (aliases counted as
often as they are used, so that a bomb is none) and length of numbers; an anchor may not hold itself, a number must be
finite, a date must exist (it is read as text). Whatever is refused is a `PlanError` of one line with file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pytest_mooncake.border.local_files import open_binary
from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.base import LEAST, MOST

__all__ = ["MOST_BYTES", "Location", "YamlText", "clipped", "parse", "read_bounded"]

Location = tuple[int | str, ...]
"""Keys and places in lists from the root to a value."""

MOST_BYTES = 256 * 1024
"""Of a file; the largest that ships has 3 KB."""
MOST_DEPTH = 50
MOST_VALUES = 50_000
MOST_DIGITS = 64
MOST_SHOWN = 80
"""Characters of a value that a message repeats."""
_INT, _FLOAT, _DATE = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class YamlText:
    """A parsed text: its value, where its keys stand, and how its numbers are written (14.50 is not 14.5)."""

    def __init__(self, node: yaml.Node | None, source: str) -> None:
        self.data: Any = None
        self.texts = dict(_texts(node, ""))
        self._twice: PlanError | None = None
        self._lines: dict[Location, int] = {}
        try:
            self._lines = dict(_lines(source, node, ()))
        except PlanError as error:  # told to those only who ask for lines: other programs take the last one
            self._twice = error

    def lines(self) -> dict[Location, int]:
        """The line of every key and list item.

        Raises:
            PlanError: a key is given twice.
        """
        if self._twice is not None:
            raise self._twice
        return self._lines


def read_bounded(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """The text of a file.

    Raises:
        PlanError: it cannot be read, is larger than any such file, or holds no UTF-8.
    """
    try:
        with open_binary(path) as file:
            held = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlanError(f"{path}: cannot be read ({reason})") from None
    if len(held) > most_bytes:
        raise PlanError(f"{path}: cannot be read (larger than {most_bytes // 1024} KiB); is this the right file?")
    try:
        return held.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = held.count(b"\n", 0, error.start) + 1
        hint = "UTF-16; save it as UTF-8" if held[:2] in (b"\xff\xfe", b"\xfe\xff") else f"line {line}"
        raise PlanError(f"{path}: cannot be read (not UTF-8 text: {hint})") from None


def parse(text: str, source: str) -> YamlText:
    """Parse one document.

    Args:
        text: as it was read.
        source: what messages call it.

    Raises:
        PlanError: it is none, or passes a limit.
    """
    if len(text) > MOST_BYTES:
        raise PlanError(f"{source}: larger than {MOST_BYTES // 1024} KiB; is this the right file?")
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            _measure(node, {}, frozenset())
        found = YamlText(node, source)  # before values are made, which unites merged mappings
        found.data = loader.construct_document(node) if node is not None else None
        return found
    except yaml.YAMLError as error:
        raise PlanError(_syntax(text, source, error)) from None
    finally:
        if loader is not None:
            loader.dispose()


def clipped(value: object, most: int = MOST_SHOWN) -> str:
    """A value as a message shows it: on one line, and never longer than a line.

    >>> clipped("abc" * 100, 12)
    "'abcabcabca…"
    """
    try:
        shown = repr(value)
    except ValueError:  # an int of more digits than Python prints
        shown = "a number of thousands of digits"
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


class _Refused(yaml.MarkedYAMLError):
    """A limit was passed, or a value cannot be; `problem` is the whole sentence."""


def _refuse(problem: str, node: yaml.Node) -> _Refused:
    return _Refused(problem=problem, problem_mark=node.start_mark)


class _Loader(yaml.SafeLoader):
    """Safe YAML within bounds."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a value, unless it lies too deep."""
        self._depth += 1
        if self._depth > MOST_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _Refused(problem=f"nested deeper than {MOST_DEPTH} levels", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make a value, or say on which line none can be made."""
        if node.tag in (_INT, _FLOAT) and len(str(node.value)) > MOST_DIGITS:
            raise _refuse(f"a number of {len(str(node.value)):,} characters; at most {MOST_DIGITS} are read", node)
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, AttributeError, TypeError):
            kind = "date" if node.tag == _DATE else f"value of the kind {node.tag.rpartition(':')[2]!r}"
            raise _refuse(f"{clipped(node.value)} is no {kind}", node) from None
        return _plain(value, node)


# 1e6 is a number to everybody but YAML 1.1, which wants 1.0e+6
_Loader.add_implicit_resolver(_FLOAT, re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))


def _plain(value: Any, node: yaml.Node) -> Any:
    """A value that can be told again: dates as text, numbers of a usual size, text without control characters."""
    if node.tag == _DATE:
        return node.value
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise _refuse(f"{clipped(node.value)} is no finite number", node)
    if isinstance(value, str) and (found := _NOT_TEXT.search(value)):
        raise _refuse(f"the character U+{ord(found[0]):04X} does not belong into text", node)
    if isinstance(value, int | float) and abs(value) > MOST:
        raise _refuse(f"{clipped(node.value)} is larger than any number here", node)
    if isinstance(value, float) and 0 < abs(value) < LEAST:
        raise _refuse(f"{clipped(node.value)} is smaller than any number here but 0", node)
    return value


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]], above: frozenset[int]) -> tuple[int, int]:
    """How many values there are and how deep they lie, an alias counting as often as it is used.

    Raises:
        _Refused: an anchor holds itself, or there are too many, or they lie too deep.
    """
    if id(node) in above:
        raise _refuse("an anchor that holds itself", node)
    if id(node) not in known:
        below = above | {id(node)}
        parts = [_measure(part, known, below) for part in _parts(node)]
        known[id(node)] = 1 + sum(count for count, _ in parts), 1 + max((depth for _, depth in parts), default=0)
    count, depth = known[id(node)]
    if count > MOST_VALUES:
        raise _refuse(f"more than {MOST_VALUES:,} values, aliases counted as often as they are used", node)
    if depth > MOST_DEPTH:
        raise _refuse(f"nested deeper than {MOST_DEPTH} levels, aliases counted where they are used", node)
    return count, depth


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _syntax(text: str, source: str, error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"{source}:{line}: not YAML: the character {_code(error)} is not allowed; is this a text file?"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    where = f"{source}:{mark.line + 1}" if mark else source
    if isinstance(error, _Refused):
        return f"{where}: {problem}"
    if isinstance(error, yaml.composer.ComposerError) and error.context:
        problem = f"{error.context}, {problem}"
    said = " ".join(str(problem).split())
    return f"{where}: not YAML: {said[:200]}; check indentation, colons and quotes on this line and the one above"


def _code(error: yaml.reader.ReaderError) -> str:
    return f"U+{error.character:04X}" if isinstance(error.character, int) else repr(error.character)


def _texts(node: yaml.Node | None, above: str) -> Iterator[tuple[str, str]]:
    """Scalars of nested mappings by dotted name."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name = f"{above}{key.value}"
        if isinstance(value, yaml.ScalarNode):
            yield name, value.value
        else:
            yield from _texts(value, f"{name}.")


def _lines(source: str, node: yaml.Node | None, at: Location) -> Iterator[tuple[Location, int]]:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in seen:
                raise PlanError(f"{source}:{line}: key {clipped(name)} was already given on line {seen[name]}")
            seen[name] = line
            yield (*at, name), line
            yield from _lines(source, value, (*at, name))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*at, index), item.start_mark.line + 1
            yield from _lines(source, item, (*at, index))
