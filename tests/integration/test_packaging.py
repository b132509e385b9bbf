"""What users install holds what users need: the package, its data files and the suite, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    (path,) = directory.glob("*.whl")
    return zipfile.ZipFile(path)


def test_every_file_of_the_package_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pytest_mooncake").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here <= set(wheel.namelist())
    assert "pytest_mooncake/py.typed" in here


def test_the_suite_and_its_inputs_are_packed(wheel: zipfile.ZipFile) -> None:
    packed = {name.removeprefix("pytest_mooncake/packed/") for name in wheel.namelist() if "/packed/" in name}
    suite = {
        path.relative_to(ROOT).as_posix()
        for name in ("acceptance", "fixtures")
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix in {".py", ".yaml"}
    }
    assert packed >= suite | {"conftest.py"}


def test_nothing_else_is_shipped(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"pytest_mooncake"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name or name.endswith(".pyc")]


def test_pytest_finds_the_plugin_and_the_shell_the_command(wheel: zipfile.ZipFile) -> None:
    (name,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    text = wheel.read(name).decode()
    assert "[pytest11]\nmooncake = pytest_mooncake.plugin" in text
    assert "pytest-mooncake = pytest_mooncake.cli.app:main" in text
