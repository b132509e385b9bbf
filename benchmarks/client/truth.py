"""The server that clients are compared against: in C (`server.c`) where gcc is, else the client's own scripted one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from pathlib import Path
from tempfile import mkdtemp

import orjson

from pytest_mooncake.load.workers.child_environment import child_environment

__all__ = ["Load", "Server", "compiled", "each", "serving"]

_HERE = Path(__file__).parent
_WAIT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the server does and how many streams are open at once, `waves` times one after another."""

    streams: int
    tokens: int
    gap_ms: float
    ttft_ms: float = 50.0
    waves: int = 2

    @property
    def requests(self) -> int:
        """Requests of the whole load."""
        return self.waves * self.streams

    @property
    def title(self) -> str:
        """The load in words."""
        rate = f"{self.chunks_per_s:,.0f} chunks/s"
        return f"{self.streams} streams, {self.tokens} tokens, one every {self.gap_ms:g} ms ({rate})"

    @property
    def chunks_per_s(self) -> float:
        """What is offered."""
        return self.streams * 1000 / self.gap_ms


@dataclass(slots=True, kw_only=True)
class Server:
    """A running server. After its end `truth` maps request ids to stamps (arrival of the request, then each write).

    The C server knows each request by its ordinal too, `r000017`, which is the text of its first chunk.
    """

    url: str
    is_compiled: bool
    truth: Mapping[str, Sequence[int]] = field(default_factory=dict)
    arrivals_ns: Sequence[int] = ()
    cpu_s: float | None = None


def each(truth: Mapping[str, Sequence[int]]) -> list[Sequence[int]]:
    """The stamps of every request once, in order of arrival; the C server's `truth` has them under two names."""
    return sorted({id(stamps): stamps for stamps in truth.values()}.values(), key=itemgetter(0))


@cache
def compiled(name: str) -> Path | None:
    """`name.c` compiled, once; `None` where there is no gcc."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    program = Path(mkdtemp(prefix="mooncake-client-")) / name
    subprocess.run([compiler, "-O2", "-o", program, _HERE / f"{name}.c"], check=True)
    return program


@contextmanager
def serving(load: Load, program: Path | None) -> Iterator[Server]:
    """Run `program` (the compiled server), for `None` the scripted one; its truth is there when the context ends."""
    command = [str(program)] if program else [sys.executable, "-m", "pytest_mooncake.load.calibration.reference_server"]
    sizes = [str(load.ttft_ms), str(load.gap_ms), str(load.tokens)]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *sizes], stdin=pipe, stdout=pipe, env=child_environment()) as process:
        try:
            port = int(process.stdout.readline()) if process.stdout else 0
            server = Server(url=f"http://127.0.0.1:{port}", is_compiled=program is not None)
            yield server
            output, _ = process.communicate(b"", _WAIT_S)
            _read: Callable[[Server, bytes], None] = _read_lines if program else _read_json
            _read(server, output)
        finally:
            process.kill()


def _read_json(server: Server, output: bytes) -> None:
    server.truth = orjson.loads(output)
    server.arrivals_ns = sorted(stamps[0] for stamps in server.truth.values())


def _read_lines(server: Server, output: bytes) -> None:
    *lines, cpu_s = output.decode().splitlines()
    truth: dict[str, Sequence[int]] = {}
    for line in lines:
        ordinal, request_id, *stamps = line.split()
        truth[f"r{int(ordinal):06d}"] = truth[request_id] = [int(stamp) for stamp in stamps]
    server.truth = truth
    server.arrivals_ns = sorted(int(line.split(" ", 3)[2]) for line in lines)
    server.cpu_s = float(cpu_s)
