"""A server that repeats the key and the header wherever it can, in every spelling: no byte of any output holds them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pytest_mooncake.cli.scaffold import write_suite
from pytest_mooncake.errors import MooncakeError
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.run.instruments import instruments_for
from pytest_mooncake.stack.attach import attach
from tests.support.faulty_server import FaultyServer
from tests.support.replies import (
    DONE,
    MODEL,
    Answering,
    Disconnect,
    Received,
    Reply,
    Stream,
    error,
    event,
    json_reply,
    models,
    stream,
    text,
)
from tests.support.spellings import SPELLINGS, traces_of

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-Live/9f+T2a&Zq7Lw=Xc4_Mn8"
TEAM = "gw/42&Sesame+open=Wide~Door"
TRACES = tuple(trace.encode() for secret in (KEY, TEAM) for trace in traces_of(secret))
SMALL = (
    *("--mooncake-requests=4", "--mooncake-prompt-tokens=64", "--mooncake-output-tokens=4", "--mooncake-concurrency=2"),
    *("--mooncake-api-key-env=THE_KEY", "--mooncake-header-env=THE_HEADER"),
)


def secrets_in(received: Received) -> str:
    """What the server was sent, which it is about to repeat."""
    key, team = received.headers.get("authorization", ""), received.headers.get("x-team", "")
    return " ".join(filter(None, (key.removeprefix("Bearer "), team)))


def raw(head: str) -> Reply:
    """An answer whose first lines are ours, and the last on its connection."""
    return Reply(raw=True, steps=(f"{head}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode(), Disconnect()))


def line(said: str) -> str:
    """For places where a line cannot be broken."""
    return "".join(char if char.isprintable() else " " for char in said)


FAILURES: dict[str, Callable[[str], Reply]] = {
    "in the body of an error": lambda said: error(400, f"bad key {said}"),
    "in a text": lambda said: text(f"<h1>bad key</h1> {said}", status=502),
    "in an error within the stream": lambda said: stream(
        event({"error": {"message": f"no {said}", "code": 401}}), DONE
    ),
    "in a chunk that is no JSON": lambda said: stream(b"data: {bad " + line(said).encode() + b"\n\n"),
    "in an answer that is no stream": lambda said: text(f"key {said}"),
    "in the reason": lambda said: raw(f"HTTP/1.1 418 {line(said)}"),
    "in a redirect": lambda said: raw(f"HTTP/1.1 307 Moved\r\nLocation: http://h/?key={line(said)}"),
    "in what is no HTTP": lambda said: Reply(raw=True, steps=(f"{line(said)}\r\n".encode(), Disconnect())),
    "in a header that is none": lambda said: raw(f"HTTP/1.1 200 OK\r\n{line(said)}\r\nX\0: {line(said)}"),
}
PROBED = error(400, "what nobody generates with is refused")


def repeating(*failures: Callable[[str], Reply]) -> Callable[[Received], Reply]:
    """Replies that repeat both secrets: each time another failure, until all have used every spelling."""
    ways = itertools.cycle(itertools.product(SPELLINGS.values(), failures))

    def answer(received: Received) -> Reply:
        if received.body == b"{}":
            return PROBED
        spell, make = next(ways)
        return make(" and ".join(spell(secret) for secret in secrets_in(received).split()))

    return answer


def welcome(received: Received) -> Reply:
    """A model list that is right, and a chatty one."""
    return models(MODEL, max_model_len=32768, owned_by=secrets_in(received), root=secrets_in(received))


def counters(received: Received) -> Reply:
    """Metrics with labels that repeat what was sent, and one that is none."""
    said = secrets_in(received).replace("\\", "").replace('"', "")
    lines = [f'vllm:prompt_tokens_total{{model_name="{said}",path="{spell(said)}"}} 1' for spell in SPELLINGS.values()]
    return text("\n".join([*(line.replace("\n", " ") for line in lines), "vllm:prompt_tokens_total 1", ""]))


def answering() -> Callable[[Received], Reply]:
    """Right answers, with cached tokens for a prompt that was there, and what was sent as the reason for their end."""
    seen: set[str] = set()
    spellings = itertools.cycle(SPELLINGS.values())

    def answer(received: Received) -> Reply:
        body = received.json()
        said = next(spellings)(KEY)
        if not body.get("stream"):
            return error(400, f"no logprobs for {said} or {TEAM}")
        prompt = str(body["prompt"])
        cached = (len(body["prompt"]) - 1) // 16 * 16 if prompt in seen else 0
        seen.add(prompt)
        return Stream(cached_tokens=cached, finish_reason=said)(received)

    return answer


def tokenized(received: Received) -> Reply:
    """Ids of words."""
    return json_reply(
        {"tokens": [1000 + sum(word.encode()) * 7 % 50_000 for word in received.json()["prompt"].split()]}
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Where somebody runs the suite."""
    write_suite(tmp_path)
    return tmp_path


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "GITHUB_", "CI"))}
    return {**kept, "PYTHONPATH": str(ROOT), "THE_KEY": KEY, "THE_HEADER": f"X-Team: {TEAM}"}


def python(where: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run the interpreter as somebody would, and keep what it prints beside the files."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=where, env=environment(), capture_output=True, timeout=120, check=False
    )
    with (where / "printed.txt").open("ab") as printed:
        printed.write(done.stdout + done.stderr)
    return done


def accept(where: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run the acceptance suite."""
    suite = ("-m", "pytest", "acceptance", "-p", "no:cacheprovider", "-rA", "--junitxml=junit.xml")
    return python(where, *suite, "--mooncake-report=report", "--mooncake-history=sqlite:///runs.sqlite", *options)


def judge_again(where: Path) -> None:
    """The commands that read the record."""
    for arguments in (("report", "report"), ("verdict", "report"), ("history", "list", "--history", "runs.sqlite")):
        python(where, "-c", "from pytest_mooncake.cli.app import main; main()", *arguments)


def files_with_secrets(where: Path) -> Iterator[str]:
    """Every file below, with what it holds of a secret."""
    for path in (one for one in where.rglob("*") if one.is_file()):
        content = path.read_bytes()
        yield from (f"{path.name}: {trace!r}" for trace in TRACES if trace in content)


def test_failed_requests_that_repeat_the_secrets_leave_none(repository: Path) -> None:
    routes: dict[str, Answering] = {
        "/v1/models": welcome,
        "/version": lambda received: json_reply({"version": secrets_in(received)}),
        "/metrics": counters,
        "/tokenize": tokenized,
        "/v1/completions": repeating(*FAILURES.values()),
    }
    count = len(FAILURES) * len(SPELLINGS)
    with FaultyServer(routes) as server:
        every = (f"--mooncake-requests={count}", f"--mooncake-concurrency={count}")
        done = accept(repository, f"--mooncake-url={server.url}", *SMALL, *every)
    judge_again(repository)
    assert done.returncode == 1, done.stdout.decode()
    assert len(server.requests_to("/v1/completions")) > count, "every way to repeat a secret was tried"
    requests = (repository / "report" / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(requests) == count
    assert sum("***" in one for one in requests) > 0.9 * count, "and seen (some break their line at once)"
    assert sorted(files_with_secrets(repository)) == []


def test_a_run_that_succeeds_beside_a_chatty_server_leaves_none(repository: Path) -> None:
    routes: Mapping[str, Answering] = {
        "/v1/models": welcome,
        "/metrics": counters,
        "/tokenize": tokenized,
        "/v1/completions": answering(),
    }
    keys = "\n".join(f"vllm@{spell(KEY)}@{spell(TEAM)}" for spell in SPELLINGS.values())
    master = {"/metrics": text(f'master_key_count{{who="{TEAM}"}} 0\n'), "/get_all_keys": text(keys)}
    with FaultyServer(routes) as server, FaultyServer(master) as store:
        done = accept(
            repository, f"--mooncake-url={server.url}", f"--mooncake-master={store.url}", *SMALL, "--mooncake-quick"
        )
    judge_again(repository)
    assert done.returncode in {0, 1}, done.stdout.decode()
    assert (repository / "report" / "report.json").is_file(), done.stdout.decode()
    assert sorted(files_with_secrets(repository)) == []
    events = (repository / "report" / "events.jsonl").read_bytes()
    assert b'model_name=\\"***' in events
    assert b"***" in (repository / "report" / "requests.jsonl").read_bytes()


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize(("path", "times"), [("/v1/models", len(SPELLINGS)), ("/tokenize", 3)])
async def test_a_refusal_that_repeats_the_secrets_says_none(path: str, times: int, how: str, tmp_path: Path) -> None:
    environ = {"THE_KEY": KEY, "THE_HEADER": f"X-Team: {TEAM}"}
    async with FaultyServer({"/v1/models": welcome, "/metrics": counters, path: repeating(FAILURES[how])}) as server:
        options = Options(url=(server.url,), api_key_env="THE_KEY", header_env="THE_HEADER", prompt_tokens="64")
        plan = resolve(options, tmp_path)
        said: list[str] = []
        for _ in range(times):
            try:
                view = await attach(plan.stack, environ=environ, progress=said.append)
                async with instruments_for(plan, view, environ, lambda name, **values: said.append(f"{name} {values}")):
                    pass
            except MooncakeError as refusal:
                said.append(str(refusal))
    assert len(server.requests_to(path)) >= times
    told = "\n".join(said).encode()
    assert [trace for trace in TRACES if trace in told] == []


def test_a_refusal_on_the_terminal_and_in_junit_holds_no_secret(repository: Path) -> None:
    with FaultyServer({"/v1/models": repeating(FAILURES["in the body of an error"])}) as server:
        done = accept(repository, f"--mooncake-url={server.url}", *SMALL)
    assert done.returncode == 4
    assert b"bad key ***" in done.stdout
    assert sorted(files_with_secrets(repository)) == []


def test_a_model_that_is_called_like_the_key_is_refused_and_not_named(repository: Path) -> None:
    with FaultyServer({"/v1/models": lambda received: models(secrets_in(received).split()[0])}) as server:
        done = accept(repository, f"--mooncake-url={server.url}", *SMALL)
    assert done.returncode == 4
    assert b"lists a model whose name repeats the key or the header" in done.stdout
    assert sorted(files_with_secrets(repository)) == []


def test_a_lint_of_a_chatty_server_says_nothing_secret(repository: Path) -> None:
    with FaultyServer({"/v1/models": repeating(FAILURES["in the body of an error"])}) as server:
        done = python(
            repository, "-c", "from pytest_mooncake.cli.app import main; main()", "doctor", "--url", server.url
        )
    assert done.returncode == 4
    assert sorted(files_with_secrets(repository)) == []
