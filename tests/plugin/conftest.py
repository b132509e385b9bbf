"""The plugin's tests run pytest inside pytest, against the simulated stack: real sockets, no model."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import alembic.context
import numpy
import orjson
import pydantic
import pytest
import scipy.stats
import sqlalchemy.dialects.postgresql
import sqlalchemy.dialects.sqlite
import uvloop

from pytest_mooncake.cli.scaffold import write_suite

pytest_plugins = ["pytester"]

LOADED_ONCE = (aiohttp, alembic.context, numpy, orjson, pydantic, scipy.stats, sqlalchemy.dialects, uvloop)
"""Modules that may not be loaded twice; pytester forgets whatever an inner run was the first to import."""

SMALL = (
    "--mooncake-requests=6",
    "--mooncake-prompt-tokens=1024",
    "--mooncake-output-tokens=8",
    "--mooncake-concurrency=2",
)
SIMULATED = ("--mooncake-stack=paced", *SMALL)
PACED = """\
kind: simulated
simulated:
  base_ms: 60
  prefill_us_per_token: 400
  cached_us_per_token: 25
  decode_ms_per_token: 8
"""
"""Slow enough that the client of a busy test machine is not the bottleneck, and still done in seconds."""


Run = Callable[..., pytest.RunResult]


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A repository of a user's with the suite written into it; call it with arguments for pytest."""
    write_suite(pytester.path)
    (pytester.path / "fixtures" / "stacks" / "paced.yaml").write_text(PACED, encoding="utf-8")
    monkeypatch.delenv("CI", raising=False)

    def run(*arguments: str, where: str = "acceptance") -> pytest.RunResult:
        loop_scope = () if "no:asyncio" in arguments else ("-o", "asyncio_default_fixture_loop_scope=function")
        return pytester.runpytest_inprocess(where, "-p", "no:cacheprovider", *loop_scope, *arguments)

    return run
