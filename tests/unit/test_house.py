"""The house keeps its shape: few entries a folder, short functions, no circles, tests that mirror the package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pytest_mooncake"
MOST_ENTRIES = 12
MOST_AT_THE_TOP = 16
MOST_LINES = 40
NOT_COUNTED = {"__pycache__", "__init__.py", "py.typed"}
EXEMPT = {"templates", "migrations", "versions", "pipelines"}


def folders() -> Iterator[Path]:
    yield from (path for path in PACKAGE.rglob("*") if path.is_dir() and not EXEMPT & set(path.parts))


def entries(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name not in NOT_COUNTED]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_no_folder_has_more_entries_than_one_can_see_at_a_glance() -> None:
    assert {str(one.relative_to(ROOT)): n for one in folders() if (n := len(entries(one))) > MOST_ENTRIES} == {}
    assert len(entries(PACKAGE)) <= MOST_AT_THE_TOP


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": lines
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES
    }
    assert long == {}


def test_every_unit_test_mirrors_a_module() -> None:
    known = {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in modules()}
    known |= {path.relative_to(PACKAGE).as_posix() for path in folders()}
    strays = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests" / "unit").rglob("test_*.py")
        if path.parent != ROOT / "tests" / "unit" and not mirrors(path, known)
    ]
    assert strays == []


def mirrors(path: Path, known: set[str]) -> bool:
    """Whether a test is called after a module of its room: `test_<module>.py`, or `test_<module>_<aspect>.py`."""
    room = path.parent.relative_to(ROOT / "tests" / "unit").as_posix()
    words = path.stem.removeprefix("test_").split("_")
    names = ("_".join(words[:n]) for n in range(len(words), 0, -1))
    return any(f"{room}/{name}" in known or room.endswith(name) for name in names)


def test_no_test_imports_another_test() -> None:
    pattern = re.compile(r"^\s*from tests\.(?!support\b|plugin\.conftest\b)|^\s*import tests\b", flags=re.MULTILINE)
    found = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if "data" not in path.parts and pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("where", ["acceptance", "docs"])
def test_what_users_copy_imports_the_public_face_alone(where: str) -> None:
    imported = {
        name
        for path in (ROOT / where).rglob("*")
        if path.suffix in {".py", ".md"} and "adr" not in path.parts
        for name in re.findall(
            r"^\s*(?:from|import) (pytest_mooncake[\w.]*)", path.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
    }
    assert imported == {"pytest_mooncake.api"}
