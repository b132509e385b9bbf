"""What a bomb takes in memory: each read in a process of its own, which says by how much it grew."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faulty_server import FaultyServer, Reply, text

MIB = 2**20
ROOT = Path(__file__).parents[2]
MOST_GROWTH_MIB = 200

PRELUDE = """
import asyncio, resource, sys
from pathlib import Path
import aiohttp, orjson, numpy, prometheus_client.parser
from pytest_mooncake.border.http import open_session
from pytest_mooncake.cache.keys import count_keys
from pytest_mooncake.cache.scrape import Source, scrape
from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.records import Store
from pytest_mooncake.stack.attach import attach
from pytest_mooncake.stack.local.host.http import get
from pytest_mooncake.workload.tokens.user_text import read_texts
from pytest_mooncake.workload.tokens.server_tokenizer import ServerTokenizer
from pytest_mooncake.workload.layouts.trace import read_trace

where = sys.argv[1]

async def models():
    plan = StackPlan.model_validate({"name": "a", "kind": "attached", "urls": (where,)})
    return await attach(plan, environ={}, progress=lambda _: None)

async def asked(read):
    async with open_session() as session:
        return await read(session)

def mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = mib()
try:
    said = "read: " + str(__READ__)[:200]
except MooncakeError as error:
    said = str(error)
print(round(mib() - before), said)
"""

READS = {
    "/v1/models": "asyncio.run(models())",
    "/tokenize": "asyncio.run(asked(lambda s: ServerTokenizer(session=s, url=where, model='m').tokenize('x')))",
    "/metrics": "asyncio.run(asked(lambda s: scrape(s, (Source(name='master', url=where + '/metrics'),))))",
    "/get_all_keys": "asyncio.run(asked(lambda s: count_keys(s, Store(master_url=where))))",
    "/health": "get(int(where.rpartition(':')[2]), '/health', 60)",
    "trace": "len(read_trace(Path(where)))",
    "documents": "len(read_texts(Path(where).name, Path(where).parent))",
}


def grown(read: str, where: str) -> tuple[int, str]:
    """By how many MiB a process grew that read, and what it said."""
    source = PRELUDE.replace("__READ__", READS[read])
    done = subprocess.run(
        [sys.executable, "-c", source, where], capture_output=True, text=True, timeout=120, cwd=ROOT, check=True
    )
    assert "Traceback" not in done.stderr
    size, _, said = done.stdout.strip().partition(" ")
    return int(size), said


def packed(body: bytes) -> Reply:
    return Reply(
        headers=(("Content-Type", "application/json"), ("Content-Encoding", "gzip")), steps=(body,), chunked=True
    )


def of_spaces(size: int) -> bytes:
    """A gzip of so many spaces, made without holding them."""
    import zlib

    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(b" " * MIB) for _ in range(size // MIB)), packer.flush()])


BOMB = of_spaces(2**32)
"""4 MB that are 4 GiB."""


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("/v1/models", packed(BOMB)),
        ("/tokenize", packed(BOMB)),
        ("/metrics", packed(BOMB)),
        ("/get_all_keys", packed(BOMB)),
        ("/health", packed(BOMB)),
        ("/v1/models", text('{"data":[' + "[]," * (4 * MIB // 3 - 10) + "1]}")),
        ("/tokenize", text('{"tokens":[' + "{}," * (4 * MIB // 3 - 10) + "1]}")),
        ("/tokenize", text('{"tokens":[' + "1," * (2 * MIB - 10) + "1]}")),
        ("/metrics", text('vllm:a{x="' + "y" * 15 * MIB + '"} 1\n')),
        ("/metrics", Reply(steps=(b"vllm:prompt_tokens_total 1\n" * 40_000,) * 200, chunked=True)),
        ("/get_all_keys", Reply(steps=(b"some-key-of-somebody-else@1@0@ff\n" * 32_768,) * 100, chunked=True)),
    ],
)
async def test_no_answer_takes_more_memory_than_its_limit(path: str, reply: Reply) -> None:
    async with FaultyServer({path: reply}) as server:
        size, said = await asyncio.to_thread(grown, path, server.url)
    assert size < MOST_GROWTH_MIB, said
    assert said.isprintable()


def row(stamp: int, blocks: int = 1) -> bytes:
    request = {"timestamp": stamp, "input_length": 512 * blocks, "output_length": 1, "hash_ids": [0] * blocks}
    return json.dumps(request, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("spaces.jsonl.gz", of_spaces(2**31), "spaces.jsonl.gz:1: a line of more than 4 MiB; expected"),
        ("lines.jsonl.gz", gzip.compress(row(0) * 600_000), "unpacks to more than 100 times its size"),
        ("blocks.jsonl.gz", gzip.compress(row(0, 2 * MIB) * 30), "a line of more than 4 MiB"),
        ("blocks.jsonl.gz", gzip.compress(row(0, MIB) * 60), "unpacks to more than 100 times its size"),
    ],
)
def test_no_packed_trace_takes_more_memory_than_its_limit(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    size, said = grown("trace", str(tmp_path / name))
    assert words in said
    assert size < MOST_GROWTH_MIB


@pytest.mark.parametrize("name", ["long.md", "long.jsonl", "long.json"])
def test_no_document_takes_more_memory_than_its_limit(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with file.open("wb") as sparse:
        sparse.truncate(2**31)
    size, said = grown("documents", str(file))
    assert size < MOST_GROWTH_MIB, said
    assert said.isprintable()
