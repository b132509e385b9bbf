from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_mooncake.errors import EndpointError, PlanError, WorkloadError
from pytest_mooncake.plan.models import WorkloadPlan
from pytest_mooncake.workload.build import build
from pytest_mooncake.workload.tokens import user_text
from pytest_mooncake.workload.tokens.pools import WordPool, pool_of_ids
from pytest_mooncake.workload.tokens.user_text import MOST_TEXTS, fetch_own_text, read_texts
from tests.support.tokenizer_server import one_token_a_word, serving, view_of

POOL = pool_of_ids(range(200), "test")


def test_text_files_are_read_in_order_of_their_names_and_empty_ones_left_out(tmp_path: Path) -> None:
    for name, text in (("b.md", "second"), ("a.md", "first"), ("c.md", " \n"), ("d.txt", "other")):
        (tmp_path / name).write_text(text)
    (tmp_path / "e.md").mkdir()
    assert read_texts("*.md", tmp_path) == ("first", "second")
    assert read_texts(f"{tmp_path}/*.md", Path("/nowhere")) == ("first", "second")


@pytest.mark.parametrize(
    "record",
    [
        {"text": "hello"},
        {"prompt": "hello"},
        {"content": "hello"},
        {"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": None}, 3]},
        {"messages": [{"role": "user", "content": "hello"}]},
    ],
)
def test_records_of_every_common_form_are_read(tmp_path: Path, record: object) -> None:
    (tmp_path / "lines.jsonl").write_text(json.dumps(record) + "\n\n" + json.dumps(record) + "\n")
    (tmp_path / "list.json").write_text(json.dumps([record]))
    (tmp_path / "one.json").write_text(json.dumps(record))
    assert read_texts("lines.jsonl", tmp_path) == ("hello", "hello")
    assert read_texts("*.json", tmp_path) == ("hello", "hello")


def test_turns_of_a_conversation_become_one_text(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "question"}, {"from": "gpt", "value": "answer"}]
    (tmp_path / "talk.jsonl").write_text(json.dumps({"conversations": turns}))
    assert read_texts("talk.jsonl", tmp_path) == ("question\n\nanswer",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"text": "a"}\noops\n', r"x\.jsonl:2: not JSON; expected"),
        ("x.jsonl", b'{"text": "a"}\n' + b"[" * 200_000, r"x\.jsonl:2: nests too deeply"),
        ("x.json", b"[" * 200_000, r"x\.json: nests too deeply"),
        ("x.json", b"9" * 6000, r"x\.json: not JSON"),
        ("x.jsonl", b'{"text": "\xff"}\n', r"x\.jsonl: cannot be read \(not UTF-8 text\)"),
        ("x.jsonl", b"x" * (32 * 2**20 + 1), r"x\.jsonl:1: a line of more than 32 MiB"),
        ("x.jsonl", b'{"text": "a"}\n{"id": 3}\n', r"x\.jsonl:2: no text in it; expected"),
        ("x.json", b"[3]", r"x\.json: record 0: no text in it"),
        ("x.md", b"\xff\xfe\xfa", r"x\.md: cannot be read \(not UTF-8 text\)"),
        ("x.md", b"  ", r"only empty texts in 1 file"),
    ],
)
def test_files_without_usable_text_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PlanError, match=message):
        read_texts(name, tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.md"])
def test_half_a_character_is_replaced_so_that_the_text_can_be_sent(tmp_path: Path, name: str) -> None:
    said = "text" if name == "a.md" else '{"text": "a\\ud800b"}'
    (tmp_path / name).write_text(said)
    (text,) = read_texts(name, tmp_path)
    assert text == ("text" if name == "a.md" else "a\ufffdb")


def test_of_a_long_text_the_beginning_is_read_wherever_a_character_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_text, "MOST_CHARACTERS", 3)
    (tmp_path / "a.md").write_text("aä€" * 10)
    assert read_texts("a.md", tmp_path) == ("aä€",)


def test_lines_end_where_json_lines_do(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"text": "a\u2028b"}\r\n{"text": "c"}'.encode())
    assert read_texts("a.jsonl", tmp_path) == ("a\u2028b", "c")


@pytest.mark.parametrize("pattern", ["none/*.md", "", "."])
def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(PlanError, match=r"no such file \(looked in .*\); give a pattern like docs/\*\.md"):
        read_texts(pattern, tmp_path)


def test_no_more_texts_are_read_than_a_workload_could_use(tmp_path: Path) -> None:
    (tmp_path / "many.jsonl").write_text('{"text": "x"}\n' * (MOST_TEXTS + 5))
    assert len(read_texts("many.jsonl", tmp_path)) == MOST_TEXTS


async def test_prompts_of_own_text_have_exact_lengths_and_the_texts_own_tokens(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(700)]
    (tmp_path / "a.md").write_text(" ".join(words))
    plan = WorkloadPlan(name="w", requests=2, prompt_tokens=600, output_tokens=4, documents="*.md")
    async with serving(one_token_a_word) as (tokenizer, _):
        work = await build(plan, view_of(tokenizer.url), http=tokenizer.session, base=tmp_path)
        expected = await tokenizer.tokenize(" ".join(words))
    prompt = work.requests("n")[0].prompt
    assert expected is not None
    assert (len(prompt), work.requests("n")[0].prompt_tokens) == (600, 600)
    assert prompt[16:] == expected.ids[16:600]


async def test_own_text_behind_a_bare_gateway_is_sent_as_words(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("alpha beta gamma")
    plan = WorkloadPlan(name="w", requests=1, prompt_tokens=50, output_tokens=4, documents="a.md")
    async with serving(lambda _: {}, status=404) as (tokenizer, _):
        work = await build(plan, view_of(tokenizer.url), http=tokenizer.session, base=tmp_path)
    request = work.requests("n")[0]
    assert str(request.prompt).split()[17:20] == ["beta", "gamma", "alpha"]
    assert request.prompt_tokens is None


async def test_only_as_much_is_tokenised_as_the_longest_prompt_needs() -> None:
    async with serving(one_token_a_word) as (tokenizer, asked):
        await fetch_own_text(tokenizer, POOL, ["word " * 20_000], most_tokens=100)
        assert len(asked) == 1


async def test_a_server_that_stops_tokenising_is_an_error() -> None:
    async with serving(lambda _: {}, status=500) as (tokenizer, _):
        with pytest.raises(EndpointError, match="stopped answering"):
            await fetch_own_text(tokenizer, POOL, ["text"], most_tokens=100)
        assert len((await fetch_own_text(tokenizer, WordPool(), ["text"], most_tokens=9)).symbols) > 500


async def test_texts_that_are_no_tokens_are_refused() -> None:
    async with serving(lambda _: {"tokens": []}) as (tokenizer, _):
        with pytest.raises(WorkloadError, match="made no tokens of 1 texts"):
            await fetch_own_text(tokenizer, POOL, ["text"], most_tokens=100)
