"""Whatever a user gets wrong is one line that says what to do, exit code 4, and nothing is left running."""

from __future__ import annotations

import socket
import sys

import psutil
import pytest

from tests.plugin.conftest import SIMULATED, SMALL, Run
from tests.support.faulty_server import FaultyServer, Reply


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def said(result: pytest.RunResult) -> str:
    text = result.stdout.str() + result.stderr.str()
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    assert result.ret == 4
    assert not psutil.Process().children(recursive=True)
    return text


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--mooncake-requests=0"], "--mooncake-requests 0: expected a whole number, at least 1"),
        (["--mooncake-concurrency=-2"], "--mooncake-concurrency -2"),
        (["--mooncake-trials=1"], "one trial has no spread"),
        (["--mooncake-evidence=stare"], "expected one of store, engine, usage, timing"),
        (["--mooncake-stack=lokal"], "did you mean 'local'?"),
        (["--mooncake-workload=long-dokument"], "did you mean 'long-document'?"),
        (["--mooncake-url=localhost:8000"], "write http://host:port"),
        (["--mooncake-url=http://127.0.0.1:1", "--mooncake-stack=local"], "give only one of them"),
        (["--mooncake-api-key-env=KEY"], "give --mooncake-url as well"),
        (["--mooncake-replay=nowhere"], "holds no run"),
        (["--mooncake-rate=fast"], "--mooncake-rate fast: expected N, constant:N, poisson:N"),
        (["--mooncake-workers=ray"], "workers on a Ray cluster are not built yet"),
        (["--mooncake-header-env=VAR"], "give --mooncake-url as well"),
        (["--mooncake-lang=fr"], "expected one of en, zh"),
    ],
)
def test_an_option_that_cannot_be_meant(suite: Run, arguments: list[str], fragment: str) -> None:
    text = said(suite(*arguments))
    assert fragment in text
    assert "ERROR" in text


def test_malformed_yaml_names_file_and_line(suite: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "fixtures" / "workloads" / "mine.yaml").write_text("requests: [1\n", encoding="utf-8")
    assert "mine.yaml:2: not YAML" in said(suite("--mooncake-workload=mine"))


def test_broken_default_fixtures_are_said_without_any_option(suite: Run, pytester: pytest.Pytester) -> None:
    path = pytester.path / "fixtures" / "targets" / "default.yaml"
    path.write_text("claims: []\nconfidenze: 0.9\n", encoding="utf-8")
    assert "default.yaml:2: unknown key 'confidenze'; did you mean 'confidence'?" in said(suite())


def test_ini_values_are_checked_like_options(suite: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmooncake_requests = none\n")
    assert "--mooncake-requests none" in said(suite())


def test_nobody_listens(suite: Run) -> None:
    port = closed_port()
    assert f"127.0.0.1:{port}" in said(suite(f"--mooncake-url=http://127.0.0.1:{port}"))


def test_a_report_directory_that_holds_a_run_is_refused_before_anything_starts(
    suite: Run, pytester: pytest.Pytester
) -> None:
    directory = pytester.path / "mine"
    directory.mkdir()
    (directory / "plan.json").write_text("{}", encoding="utf-8")
    assert "already holds a run" in said(suite(*SIMULATED, "--mooncake-report=mine"))


@pytest.mark.parametrize("more", [(), ("--mooncake-dry-run",)])
@pytest.mark.parametrize("report", ["mine", "."])
def test_a_report_directory_that_holds_something_else_is_refused_and_left_alone(
    suite: Run, pytester: pytest.Pytester, report: str, more: tuple[str, ...]
) -> None:
    (pytester.path / "mine" / "logs").mkdir(parents=True)
    (pytester.path / "mine" / "logs" / "production.log").write_text("mine\n", encoding="utf-8")
    before = sorted(pytester.path.iterdir())
    assert "which no run put there" in said(suite(*SIMULATED, f"--mooncake-report={report}", *more))
    assert sorted(pytester.path.iterdir()) == before
    assert [p.name for p in (pytester.path / "mine" / "logs").iterdir()] == ["production.log"]


def test_a_prompt_longer_than_the_context_window(suite: Run) -> None:
    text = said(suite("--mooncake-stack=simulated", *SMALL[:1], "--mooncake-prompt-tokens=40000"))
    assert "40,0" in text or "40000" in text
    assert "--mooncake-prompt-tokens" in text


@pytest.mark.parametrize("options", [("-n2", *SIMULATED), ("-n2",)])
def test_a_run_spread_over_xdist_workers_is_refused(
    pytester: pytest.Pytester, suite: Run, options: tuple[str, ...]
) -> None:
    result = pytester.runpytest_subprocess("acceptance", *options)
    text = result.stdout.str() + result.stderr.str()
    assert result.ret == 4
    assert "cannot be spread over xdist workers" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_fixtures_of_the_users_own_may_have_our_names(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def stack():
            return "bricks"

        @pytest.fixture(params=["strong", "weak"])
        def claim(request):
            return request.param

        @pytest.fixture
        def run(stack):
            return stack

        def test_theirs(run, claim):
            assert (run, claim) in {("bricks", "strong"), ("bricks", "weak")}
        """
    )
    result = pytester.run(sys.executable, "-m", "pytest", "-p", "no:asyncio", "-p", "no:cacheprovider", *workers)
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    assert "mooncake" not in result.stdout.str().partition("plugins:")[2].partition("\n")[2]


def test_an_ordinary_run_loads_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            heavy = {"scipy", "numpy", "aiohttp", "pydantic", "yaml", "tabulate", "jinja2", "psutil", "orjson"}
            assert not heavy & set(sys.modules)
        """
    )
    result = pytester.run(
        sys.executable, "-m", "pytest", "-p", "no:asyncio", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"
    )
    result.assert_outcomes(passed=1)


def answering(body: str | bytes) -> Reply:
    return Reply(
        headers=(("Content-Type", "application/json"),), steps=(body.encode() if isinstance(body, str) else body,)
    )


@pytest.mark.parametrize(
    ("path", "body", "fragment"),
    [
        ("/v1/models", '{"data": [{"id": "\\ud800"}]}', "/v1/models sends half a character"),
        (
            "/v1/models",
            '{"data": [{"id": "m", "max_model_len": 0}]}',
            "max_model_len is 0, expected a whole number from 1",
        ),
        ("/v1/models", '{"data": [{"id": ["m"]}]}', "the id of a model is a list, expected a text"),
        ("/v1/models", "[" * 200_000, "/v1/models sends JSON that nests more than 64 deep"),
        ("/tokenize", "[" * 200_000, "/tokenize sends JSON that nests more than 64 deep"),
        ("/tokenize", '{"tokens": [1, -1]}', "/tokenize: the id of a token is -1, expected a whole number from 0"),
        ("/tokenize", b"1" * (5 * 2**20), "/tokenize sends an answer larger than 4 MiB"),
    ],
)
def test_an_answer_that_cannot_be_meant(suite: Run, path: str, body: str | bytes, fragment: str) -> None:
    with FaultyServer({path: answering(body)}) as server:
        text = said(suite(f"--mooncake-url={server.url}", "--mooncake-quick"))
    assert fragment in text
    assert len(server.requests_to("/v1/completions")) <= 1  # which only asks whether there is such a path
