"""The client's use of aiohttp's internals holds from the oldest version that is supported to the one installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECK = """
import aiohttp, asyncio
from tests.support.faulty_server import FaultyServer
from tests.support.measured_rounds import measure, planned, spec_for
from pytest_mooncake.load.http import exchange
from pytest_mooncake.load.http.exchange import Exchange

late = []
perform = Exchange.perform

async def noting(self, transport):
    await perform(self, transport)
    late.append(self.read_late)

Exchange.perform = noting

async def main():
    async with FaultyServer() as server:
        records, _ = await measure(spec_for(server.url, requests=planned(4), concurrency=2))
    assert [r.error for r in records] == [None] * 4, records
    assert late == [False] * 4, "stamped on arrival"
    print(aiohttp.__version__)

asyncio.run(main())
"""


def oldest() -> str:
    """The least aiohttp of `pyproject.toml`."""
    found = re.search(r'"aiohttp>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert found
    return found.group(1)


def seen_with(*paths: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT)))}
    command = [sys.executable, "-c", CHECK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_the_installed_aiohttp_is_stamped_on_arrival() -> None:
    assert seen_with() != ""


@pytest.mark.full
def test_the_oldest_supported_aiohttp_is_stamped_on_arrival(tmp_path: Path) -> None:
    version = oldest()
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        str(tmp_path),
        f"aiohttp=={version}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        pytest.skip(f"aiohttp {version} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
    assert seen_with(tmp_path) == version
