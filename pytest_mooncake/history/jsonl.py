"""A history as a JSONL file, for where no database is shared: written whole, and read whole or not at all.

The first line says what the file is and how much follows; a file that holds less was cut short and is refused. A run
that is there already, unchanged, is left as it is, so that a file may be imported twice.
History of the format (`EXPORT_SCHEMA`):
    1  first
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mooncake.border.local_files import open_binary
from pytest_mooncake.errors import UsageError
from pytest_mooncake.history.store import History
from pytest_mooncake.history.stored_run import Anchor, Finding, StoredRun

__all__ = ["EXPORT_SCHEMA", "Content", "content_of", "export_lines", "import_file", "read_content"]

MOST_BYTES = 512 * 2**20
"""Of a file; a run takes a few KB in it."""
EXPORT_SCHEMA = "pytest-mooncake/history/1"
KINDS: dict[str, type[Any]] = {"run": StoredRun, "finding": Finding, "anchor": Anchor}


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What travels."""

    runs: tuple[StoredRun, ...] = ()
    findings: tuple[Finding, ...] = ()
    anchors: tuple[Anchor, ...] = ()

    @property
    def records(self) -> int:
        """How many lines follow the first."""
        return len(self.runs) + len(self.findings) + len(self.anchors)


def content_of(history: History, label: str | None = None) -> Content:
    """All of a history, or the runs of one label with the findings and anchors that rest on none but them."""
    runs = history.runs(label=label)
    if label is None:
        return Content(runs=runs, findings=history.findings(), anchors=history.anchors())
    ids = {run.id for run in runs}
    return Content(
        runs=runs,
        findings=tuple(one for one in history.findings() if ids.issuperset(one.run_ids)),
        anchors=tuple(one for one in history.anchors() if ids.issuperset(one.run_ids)),
    )


def export_lines(content: Content) -> Iterator[bytes]:
    """The lines of the file, each with its end."""
    import orjson

    yield orjson.dumps({"schema": EXPORT_SCHEMA, "records": content.records}) + b"\n"
    kept: tuple[tuple[str, Sequence[object]], ...] = (
        ("run", content.runs),
        ("finding", content.findings),
        ("anchor", content.anchors),
    )
    for kind, values in kept:
        for value in values:
            yield orjson.dumps({kind: value}) + b"\n"


def import_file(history: History, path: Path) -> tuple[Content, int]:
    """Add what a file holds, all of it or nothing; what the file holds, and how much of it was new.

    Raises:
        UsageError: the file cannot be read, was cut short, or is of another version.
        HistoryError: a run of the same id with other content is there, or the database fails.
    """
    try:
        with open_binary(path) as file:
            held = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if len(held) > MOST_BYTES:
        raise UsageError(f"{path}: larger than {MOST_BYTES // 2**20} MiB, which no export is; nothing was imported")
    lines = held.splitlines(keepends=True)
    content = read_content(lines, str(path))
    return content, history.add_all(content.runs, content.findings, content.anchors)


def read_content(lines: Sequence[bytes], name: str) -> Content:
    """What the lines of a file say.

    Args:
        lines: with their ends.
        name: of the file, for messages.

    Raises:
        UsageError: the first line that does not say what it should; nothing was imported.
    """
    asked = _promised(lines[0] if lines else b"", name)
    if len(lines) - 1 != asked or not lines[-1].endswith(b"\n"):
        raise UsageError(
            f"{name}: {asked} records were written and {len(lines) - 1} are there, so the file was cut short or "
            "changed; nothing was imported; export it again"
        )
    found = [_record(line, f"{name}:{number}") for number, line in enumerate(lines[1:], 2)]
    return Content(
        runs=tuple(_of(found, StoredRun)), findings=tuple(_of(found, Finding)), anchors=tuple(_of(found, Anchor))
    )


def _promised(line: bytes, name: str) -> int:
    """How many records the first line says that follow."""
    head = _json(line, f"{name}:1")
    schema, records = head.get("schema"), head.get("records")
    if schema != EXPORT_SCHEMA or not isinstance(records, int):
        raise UsageError(
            f"{name}: expected an export of a history ({EXPORT_SCHEMA}), found {str(schema)[:60]!r}; nothing was "
            "imported; make the file with pytest-mooncake history export"
        )
    return records


def _json(line: bytes, where: str) -> dict[str, Any]:
    import orjson

    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise UsageError(f"{where}: not a line of JSON; nothing was imported; export the history again") from None
    return value if isinstance(value, dict) else {}


def _record(line: bytes, where: str) -> object:
    from pydantic import TypeAdapter, ValidationError

    value = _json(line, where)
    kind = next(iter(value), "")
    if len(value) != 1 or kind not in KINDS:
        raise UsageError(f"{where}: expected one of {', '.join(KINDS)}, found {kind[:60]!r}; nothing was imported")
    try:
        return TypeAdapter(KINDS[kind]).validate_python(value[kind])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or kind
        raise UsageError(f"{where}: {kind}: {place}: {first['msg']}; nothing was imported") from None


def _of(found: Iterable[object], kind: type[Any]) -> Iterator[Any]:
    return (value for value in found if isinstance(value, kind))
