"""Rounds over TLS: measured where the certificate is trusted, a failed record that names it where it is not."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faulty_server import FaultyServer, Stream
from tests.support.measured_rounds import only_record, planned, spec_for

ROUND = """
import asyncio, json, sys
from pytest_mooncake.load.event_loop import new_event_loop
from tests.support.measured_rounds import measure, planned, spec_for

factory = new_event_loop if sys.argv[2] == "uvloop" else asyncio.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    records, _ = runner.run(measure(spec_for(sys.argv[1], requests=planned(8), concurrency=2)))
names = ("error", "connected_ns", "sent_ns", "first_byte_ns", "first_token_ns", "last_token_ns")
print(json.dumps([[getattr(record, name) for name in names] for record in records]))
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate for 127.0.0.1 that signed itself; its key lies beside it."""
    place = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    name = ["-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        files = ["-keyout", str(place.with_name("key.pem")), "-out", str(place)]
        subprocess.run([*command, *name, *files], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed: no certificate to test TLS with")
    return place


def context(certificate: Path) -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return found


async def test_a_certificate_that_nobody_signed_is_a_failed_record_that_names_it(certificate: Path) -> None:
    async with FaultyServer(tls=context(certificate)) as server:
        record = await only_record(spec_for(server.url, requests=planned(1)))
    assert record.error is not None
    assert record.error.startswith("connection failed before it was sent")
    assert "certificate verify failed" in record.error
    assert record.sent_ns is None


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_round_over_tls_is_measured_where_the_certificate_is_trusted(certificate: Path, loop: str) -> None:
    """In a process of its own: which authorities are trusted is read when a process starts."""
    answer = Stream(first_token_s=0.2, gap_s=0.005)
    with FaultyServer({"/v1/completions": answer}, tls=context(certificate)) as server:
        done = subprocess.run(
            [sys.executable, "-c", ROUND, server.url, loop],
            env={**os.environ, "SSL_CERT_FILE": str(certificate), "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert [error for error, *_ in records] == [None] * 8
    for _, *times in records:
        assert times == sorted(times)
        _, sent, _, first, last = times
        assert first - sent > 2 * (last - first), "a request counts as sent when it was, not when its answer comes"


async def test_plain_http_to_a_port_that_speaks_tls_is_a_failed_record(certificate: Path) -> None:
    async with FaultyServer(tls=context(certificate)) as server:
        record = await only_record(spec_for(server.url.replace("https:", "http:"), requests=planned(1)))
    assert record.error is not None
    assert record.error.startswith("connection failed before the first token")
