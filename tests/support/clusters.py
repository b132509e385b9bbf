"""A cluster behind one address, and the suite called against it as a user calls it.

The cluster is `tests/data/clusters/cluster.py`: it serves, counts and goes wrong as its options say.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mooncake.cli.scaffold import write_suite

CLUSTER = Path(__file__).parents[1] / "data" / "clusters" / "cluster.py"
TARGETS = """\
claims:
  - metric: ttft_mean
    target: down >= 60 %
  - metric: request_throughput
    target: up >= 150 %
"""
SLOW = ("--cold", "1000", "--warm", "200")
"""Slow enough that a busy test machine is not what the verdict is about."""
LIMIT_S = 240
CHAT = ("--chat-only", "--no-metrics")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A cluster, how the suite is called, and what must come out.

    `verdicts` are the right ones; `said` must stand among the reasons, the gates or the evidence; `lines` in the
    terminal's output.
    """

    name: str
    cluster: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    prompt_tokens: int = 2048
    verdicts: frozenset[str] = frozenset({"PASS"})
    said: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()


FAILED = frozenset({"FAIL"})
NOT_PASSED = frozenset({"FAIL", "INVALID", "INCONCLUSIVE"})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def cluster(*options: str) -> Iterator[str]:
    """Start a cluster; its address."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(CLUSTER), str(port), *options], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def accept(directory: Path, url: str, case: Case) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Call the suite as a user does; what it printed, and its report."""
    write_suite(directory)
    (directory / "two.yaml").write_text(TARGETS, encoding="utf-8")
    command = (
        *(sys.executable, "-m", "pytest", "acceptance", "-p", "no:cacheprovider"),
        *("-o", "asyncio_default_fixture_loop_scope=function"),
        f"--mooncake-url={url}",
        *("--mooncake-requests=10", "--mooncake-concurrency=5", "--mooncake-output-tokens=8"),
        f"--mooncake-prompt-tokens={case.prompt_tokens}",
        *("--mooncake-targets=two.yaml", "--mooncake-trials=3", "--mooncake-settle=fixed:0.2"),
        *("--mooncake-report=record", *case.options),
    )
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **dict(case.environ), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    report = directory / "record" / "report.json"
    assert report.exists(), done.stdout[-4000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return done, found


EXIT_OF = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 10, "INVALID": 11}


TRIES = 2
"""A busy machine can leave a run undecided, or its client too coarse; it never makes one pass or fail."""


def assert_right(case: Case, directory: Path) -> None:
    """Run the suite against the case's cluster and hold every output to what is right."""
    for attempt in range(TRIES):
        here = directory / str(attempt)
        here.mkdir()
        with cluster(*SLOW, *case.cluster) as url:
            done, report = accept(here, url, case)
        if report["verdict"] in case.verdicts or report["verdict"] in {"PASS", "FAIL"}:
            break
    told = done.stdout[-6000:]
    assert report["verdict"] in case.verdicts, told
    assert done.returncode == (0 if report["verdict"] == "PASS" else 1), told
    assert verdict_command(here) == EXIT_OF[report["verdict"]]
    text = json.dumps(report, ensure_ascii=False)
    for words in case.said:
        assert words in text, told
        assert words in done.stdout, told
    for words in ("Traceback", "restarted", *case.unsaid):
        assert words not in done.stdout, told


def verdict_command(directory: Path) -> int:
    """Exit code of `pytest-mooncake verdict record`."""
    command = [sys.executable, "-c", "from pytest_mooncake.cli.app import main; main()", "verdict", "record"]
    return subprocess.run(command, cwd=directory, capture_output=True, timeout=LIMIT_S, check=False).returncode
