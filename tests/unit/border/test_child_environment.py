"""Whoever starts a process says what of the environment it gets: never all of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mooncake.border.child_environment import inherited

PACKAGE = Path(__file__).parents[3] / "pytest_mooncake"
STARTERS = {"Popen", "run", "call", "check_call", "check_output", "create_subprocess_exec", "create_subprocess_shell"}
ALL_OF_IT = {"os.environ", "os.environ.copy()", "dict(os.environ)", "None"}


def careless(source: str) -> Iterator[int]:
    """Lines that start a process with the whole environment."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, _, name = ast.unparse(node.func).rpartition(".")
        if name in STARTERS and owner in {"subprocess", "asyncio"} and not (owner == "asyncio" and name == "run"):
            given = next((ast.unparse(one.value) for one in node.keywords if one.arg == "env"), "None")
            if given in ALL_OF_IT or "**os.environ" in given:
                yield node.lineno


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("subprocess.run(['ls'])", True),
        ("subprocess.Popen(['ls'], env=os.environ)", True),
        ("subprocess.Popen(['ls'], env={**os.environ, 'A': 'b'})", True),
        ("asyncio.create_subprocess_exec('ls', env=None)", True),
        ("subprocess.Popen(['ls'], env=inherited())", False),
        ("asyncio.run(main())", False),
    ],
)
def test_a_child_that_gets_everything_is_seen(source: str, seen: bool) -> None:
    assert bool(list(careless(source))) is seen


def test_no_child_gets_everything() -> None:
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    found = {name: lines for name, path in modules.items() if (lines := list(careless(path.read_text("utf-8"))))}
    assert found == {}


@pytest.mark.parametrize(
    "name", ["API_KEY", "HF_TOKEN", "MC_API_KEY", "MC_AUTH", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "HTTP_COOKIE", "X"]
)
def test_no_secret_and_nothing_unasked_is_inherited(name: str) -> None:
    assert inherited("MC_", environ={name: "s", "PATH": "/bin", "MC_LEVEL": "1"}) == {"PATH": "/bin", "MC_LEVEL": "1"}
