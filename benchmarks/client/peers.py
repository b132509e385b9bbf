"""Peers: how each is installed, what it is asked to do, and where it leaves what it measured of each request.

Each lives in a virtual environment of its own in the user's cache directory; vLLM's is the one of the real stack. All
get the same closed loop, a local tokenizer (no model hub is asked) and the options that spare them work of their own.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import re
import sqlite3
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client.contestants import Job
from pytest_mooncake.stack.local.host.paths import cache_dir

__all__ = ["PEERS", "Peer", "Told", "python_of", "tokenizer"]

_INSTALL_S = 1800
_ORDINAL = re.compile(rb"r\d{6}")
_COUNTED = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a client says of one request, ms; `key` is what the server knows it by. No gaps where it exports none."""

    key: str
    ttft_ms: float
    gaps_ms: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A client that others wrote."""

    name: str
    version: str
    package: str | None
    """What pip installs; `None` for what comes with the real stack."""
    module: str
    """What its start imports."""
    command: Callable[[Job, Path, str], list[str]]
    """Arguments behind its Python, for a job, its directory and a tokenizer."""
    read: Callable[[Path], Iterator[Told]]
    environment: tuple[tuple[str, str], ...] = tuple(_COUNTED.items())


def tokenizer() -> str | None:
    """A tokenizer on this machine: that of a model which the local stack has built; `None` where it never ran."""
    found = sorted((cache_dir() / "models").glob("*/tokenizer.json"))
    return str(found[0].parent) if found else None


def python_of(peer: Peer) -> tuple[Path | None, str]:
    """The Python that can run `peer`, installed now if it is not yet, else why there is none."""
    if peer.package is None:
        there = importlib.util.find_spec(peer.module.partition(".")[0]) is not None
        return (Path(sys.executable), "") if there else (None, "not installed here: comes with the real stack")
    place = cache_dir() / "peers" / f"{peer.package.partition('[')[0]}-{peer.version}"
    python, complete = place / "bin" / "python", place / ".complete"
    if complete.exists():
        return python, ""
    venv.create(place, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "-q", f"{peer.package}=={peer.version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S)
    except subprocess.TimeoutExpired:
        return None, f"not installed within {_INSTALL_S} s"
    if done.returncode:
        return None, f"cannot be installed: {(done.stderr.strip().splitlines() or ['pip says nothing'])[-1][:120]}"
    complete.touch()
    return python, ""


def _vllm(job: Job, directory: Path, tokens: str) -> list[str]:
    return [
        *("-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend", "openai", "--base-url", job.url),
        *("--model", "scripted", "--tokenizer", tokens, "--dataset-name", "random", "--random-input-len", "16"),
        *("--random-output-len", str(job.tokens), "--num-prompts", str(job.requests), "--ignore-eos"),
        *("--max-concurrency", str(job.streams), "--save-result", "--save-detailed", "--disable-tqdm"),
        *("--result-dir", str(directory), "--result-filename", "told.json"),
    ]


def _read_vllm(directory: Path) -> Iterator[Told]:
    told = json.loads((directory / "told.json").read_bytes())
    for text, ttft_s, gaps_s in zip(told["generated_texts"], told["ttfts"], told["itls"], strict=True):
        yield Told(key=text[:7], ttft_ms=ttft_s * 1e3, gaps_ms=tuple(gap * 1e3 for gap in gaps_s))


def _aiperf(job: Job, directory: Path, tokens: str) -> list[str]:
    return [
        *("-m", "aiperf", "profile", "--model", "scripted", "--url", job.url, "--endpoint-type", "completions"),
        *("--streaming", "--tokenizer", tokens, "--concurrency", str(job.streams)),
        *("--request-count", str(job.requests), "--isl", "16", "--osl", str(job.tokens), "--ui", "none"),
        *("--use-server-token-count", "--export-level", "records", "--output-artifact-dir", str(directory / "told")),
    ]


def _read_aiperf(directory: Path) -> Iterator[Told]:
    for line in (directory / "told" / "profile_export.jsonl").read_bytes().splitlines():
        record = json.loads(line)
        metrics = record["metrics"]
        yield Told(
            key=record["metadata"]["x_request_id"],
            ttft_ms=metrics["time_to_first_token"]["value"],
            gaps_ms=tuple(metrics.get("inter_chunk_latency", {}).get("value", ())),
        )


def _guidellm(job: Job, directory: Path, tokens: str) -> list[str]:
    return [
        *(
            "-m",
            "guidellm",
            "run",
            "--backend",
            f"kind=openai_http,target={job.url},model=scripted,request_format=/v1/completions",
        ),
        *(
            "--profile",
            f"kind=concurrent,streams={job.streams}",
            "--constraint",
            f"kind=max_requests,count={job.requests}",
        ),
        *("--tokenizer", f"kind=hf_auto,model={tokens}", "--disable-console"),
        *("--data", f"kind=synthetic_text,prompt_tokens=16,output_tokens={job.tokens}"),
        *("--output", f"kind=json,path={directory / 'told.json'}"),
    ]


def _read_guidellm(directory: Path) -> Iterator[Told]:
    told = json.loads((directory / "told.json").read_bytes())
    for request in told["benchmarks"][0]["requests"]["successful"]:
        times = request["info"]["timings"]
        yield Told(key=request["output"][:7], ttft_ms=(times["first_token_iteration"] - times["request_start"]) * 1e3)


def _evalscope(job: Job, directory: Path, tokens: str) -> list[str]:
    run = "from evalscope.cli.cli import run_cmd; run_cmd()"
    return [
        *("-c", run, "perf", "--model", "scripted", "--url", f"{job.url}/v1/completions", "--api", "openai"),
        *("--tokenizer-path", tokens, "--parallel", str(job.streams), "--number", str(job.requests), "--stream"),
        *("--dataset", "random", "--min-prompt-length", "16", "--max-prompt-length", "16", "--prefix-length", "0"),
        *("--max-tokens", str(job.tokens), "--min-tokens", str(job.tokens), "--no-test-connection"),
        *("--outputs-dir", str(directory / "told"), "--no-timestamp"),
    ]


def _read_evalscope(directory: Path) -> Iterator[Told]:
    place = next((directory / "told").rglob("benchmark_data.db"))
    with contextlib.closing(sqlite3.connect(place)) as database:
        rows = database.execute("SELECT response_messages, first_chunk_latency, inter_token_latencies FROM result")
        for messages, ttft_s, gaps in rows:
            # A pickle of the answer: searched, never loaded.
            ordinal = _ORDINAL.search(base64.b64decode(messages))
            yield Told(
                key=ordinal.group().decode() if ordinal else "",
                ttft_ms=ttft_s * 1e3,
                gaps_ms=tuple(gap * 1e3 for gap in json.loads(gaps)),
            )


PEERS = (
    Peer(
        name="vllm bench serve",
        version="0.32.0",
        package=None,
        module="vllm.benchmarks.serve",
        command=_vllm,
        read=_read_vllm,
    ),
    Peer(
        name="EvalScope",
        version="1.14.1",
        package="evalscope[perf]",
        module="evalscope.perf.main",
        command=_evalscope,
        read=_read_evalscope,
    ),
    Peer(name="AIPerf", version="0.13.0", package="aiperf", module="aiperf.cli", command=_aiperf, read=_read_aiperf),
    Peer(
        name="GuideLLM",
        version="0.8.1",
        package="guidellm",
        module="guidellm.benchmark",
        command=_guidellm,
        read=_read_guidellm,
    ),
)
