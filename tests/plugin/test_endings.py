"""However a run ends, what was measured is kept and nothing that it started outlives it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_mooncake.journal import TIME_LIMIT, read
from tests.plugin.conftest import SIMULATED, SMALL, Run

LIMIT_S = 60
GONE_S = 5


def wait_for(what: Callable[[], object], limit_s: float = LIMIT_S) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.05)
    return False


@contextmanager
def running(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path, list[psutil.Process]]]:
    """pytest in the middle of a cold round: its process, its record and the processes it started."""
    record = directory / "record"
    command = [sys.executable, "-m", "pytest", "acceptance", "-p", "no:cacheprovider", f"--mooncake-report={record}"]
    log = (directory / "log").open("wb")
    process = subprocess.Popen(
        [*command, *SIMULATED],
        cwd=directory,
        stdout=log,
        stderr=log,
        # a shell that runs the tests in the background has SIGINT ignored in all of them
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        requests = record / "requests.jsonl"
        assert wait_for(lambda: requests.exists() and requests.read_bytes().count(b"\n") >= 9), log.name
        started = psutil.Process(process.pid).children(recursive=True)
        assert started, "the simulated stack is a process of its own"
        yield process, record, started
    finally:
        process.kill()
        process.wait()
        log.close()


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def listening(processes: list[psutil.Process]) -> set[int]:
    return {port_of(c) for p in processes for c in p.net_connections() if c.status == psutil.CONN_LISTEN}


def open_ports(ports: set[int]) -> set[int]:
    return ports & {port_of(c) for c in psutil.net_connections() if c.status == psutil.CONN_LISTEN}


def port_of(connection: Any) -> int:
    return int(connection.laddr.port)


def test_a_killed_run_leaves_no_process_and_no_port_and_keeps_its_records(
    suite: Run, pytester: pytest.Pytester
) -> None:
    with running(pytester.path) as (process, record, started):
        ports = listening(started)
        assert ports
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert wait_for(lambda: gone(started), GONE_S)
        assert not open_ports(ports)
        kept = read(record)
        assert not kept.complete
        assert sum(len(r.requests) for r in kept.rounds) + len(kept.orphans) >= 9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_exits_2_with_its_record_and_its_report(
    suite: Run, pytester: pytest.Pytester, number: signal.Signals
) -> None:
    with running(pytester.path) as (process, record, started):
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 2
        assert gone(started)
        kept = read(record)
        assert kept.end == "interrupted"
        assert (record / "report.json").is_file(), "what was measured is reported too"
    text = (pytester.path / "log").read_text(encoding="utf-8")
    assert "interrupted; what was measured is kept in" in text
    assert "Traceback" not in text
    assert not list(record.glob(".*")), "no file half written"


def test_a_run_whose_time_is_over_is_reported_and_says_which_option_gives_it_more(
    suite: Run, pytester: pytest.Pytester
) -> None:
    result = suite("--mooncake-stack=simulated", *SMALL, "--mooncake-timeout=run=5", "--mooncake-report=short")
    assert result.ret == 1
    assert read(pytester.path / "short").end == TIME_LIMIT
    text = " ".join(result.stdout.str().split())
    assert "the run's time limit of 5 s was reached before it was decided: raise --mooncake-timeout run=S" in text
    assert "interrupted" not in text


def test_a_recording_can_be_judged_on_the_command_line(suite: Run, pytester: pytest.Pytester) -> None:
    assert suite(*SIMULATED, "--mooncake-quick", "--mooncake-report=quick").ret == 0, "a quick run without a fault"
    command = [sys.executable, "-m", "pytest_mooncake.cli.app", "verdict", "quick"]
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (10, "INCONCLUSIVE", "")
    lenient = subprocess.run([*command, "--fail-only"], cwd=pytester.path, capture_output=True, text=True, check=False)
    assert (lenient.returncode, lenient.stdout) == (0, done.stdout)
    done = subprocess.run([*command[:-1], "none"], cwd=pytester.path, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("ERROR: none holds no run")
    assert done.stderr.count("\n") == 1


KILLED_AT_THE_GATE = """\
import os
import signal

import pytest_mooncake.run.instruments


async def killed(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)


pytest_mooncake.run.instruments.run_gate = killed
"""
SIGNALLED_WHILE_REPORTING = """\
import os
import signal

import pytest_mooncake.report.formats.html as html

render = html.render


def signalled(report, lang="en"):
    os.kill(os.getpid(), signal.{first})
    text = render(report, lang)
    os.kill(os.getpid(), signal.{second})
    return text


html.render = signalled
import pytest_mooncake.report.formats.write as files

files.HTML = files.Text("report.html", files.HTML.mark, signalled)
files.OF_A_RUN = tuple(files.HTML if text.name == "report.html" else text for text in files.OF_A_RUN)
files.write_reports.__globals__["OF_A_RUN"] = files.OF_A_RUN
"""
HISTORY = "--mooncake-history=sqlite:///kept.sqlite"


def in_a_process(pytester: pytest.Pytester, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command,
        cwd=pytester.path,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def command(pytester: pytest.Pytester, *arguments: str) -> subprocess.CompletedProcess[str]:
    called = [sys.executable, "-m", "pytest_mooncake.cli.app", *arguments]
    return subprocess.run(called, cwd=pytester.path, capture_output=True, text=True, check=False, timeout=LIMIT_S)


def test_a_run_killed_at_its_gate_is_no_pass_for_anybody(suite: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "conftest.py").write_text(KILLED_AT_THE_GATE, encoding="utf-8")
    options = (*SIMULATED, "--mooncake-trials=2", "--mooncake-report=killed")
    assert in_a_process(pytester, "acceptance/test_performance.py", *options).returncode == -signal.SIGKILL
    (pytester.path / "conftest.py").unlink()

    done = command(pytester, "verdict", "killed")
    assert (done.returncode, done.stdout.splitlines()[0]) == (11, "INVALID")
    assert "correctness gate: planned and not made" in done.stdout.splitlines()[1]
    assert suite("--mooncake-replay=killed", "--mooncake-report=again", where="acceptance/test_performance.py").ret == 1
    assert '"verdict": "INVALID"' in (pytester.path / "again" / "report.json").read_text(encoding="utf-8")
    assert command(pytester, "report", "killed", "--format", "json").stdout.count('"verdict": "INVALID"') == 1
    assert command(pytester, "history", "add", "killed").returncode == 4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("SIGTERM", "SIGTERM"),
        pytest.param("SIGHUP", "SIGINT", marks=pytest.mark.full),
        pytest.param("SIGINT", "SIGINT", marks=pytest.mark.full),
    ],
)
def test_signals_while_reports_are_written_wait_for_reports_and_history(
    suite: Run, pytester: pytest.Pytester, first: str, second: str
) -> None:
    text = SIGNALLED_WHILE_REPORTING.format(first=first, second=second)
    (pytester.path / "conftest.py").write_text(text, encoding="utf-8")
    options = ("--mooncake-stack=simulated", *SMALL, "--mooncake-quick", "--mooncake-report=out", HISTORY)
    done = in_a_process(pytester, "acceptance/test_performance.py", *options)

    assert done.returncode == 2, done.stdout + done.stderr
    assert "interrupted; what was measured is kept in" in done.stdout
    assert "Verdict: " in done.stdout
    out = pytester.path / "out"
    assert read(out).complete
    assert read(out).history is not None
    assert {"report.json", "report.md", "report.html", "verdict.json"} <= {path.name for path in out.iterdir()}
    assert not list(out.glob(".*")), "no file half written"
    listed = command(pytester, "history", "list", "--history", "sqlite:///kept.sqlite")
    assert read(out).plan.run_id in listed.stdout
