"""Recorded sentences in Chinese: known ones are mapped, unknown ones stay, figures are never lost."""

from __future__ import annotations

import ast
import itertools
import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.report.text.phrases import translate
from tests.support.original_report import original_report

PHRASES = tomllib.loads(files("pytest_mooncake.report").joinpath("templates/phrases.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("recorded", "chinese"),
    [
        ("0 evicted keys", "被逐出的键 0 个"),
        ("512 keys", "512 个键"),
        ("131,064 tokens; 0 of 8 replies had none", "131,064 个 Token；0/8 个回复没有命中"),
        ("prompt tokens: client 7, server 8", "Prompt Token：客户端 7，服务端 8"),
        (
            "7.40 req/s × 2.24 s = 16.6 requests in flight, concurrency 8: 107 % too much",
            "7.40 req/s × 2.24 秒 = 16.6 个在途请求，并发数 8：超出 107 %",
        ),
        (
            "round 3 (warm): no_evictions: expected 0 evicted keys, observed 12 evicted keys; "
            "12 keys were evicted: raise global_segment_size or shrink the workload",
            "第 3 轮（有缓存）：no_evictions：应为 被逐出的键 0 个，实测 被逐出的键 12 个；"
            "12 个键被逐出：请增大 global_segment_size 或减小负载",
        ),
        (
            "round 4 (warm): the client was the limit: requests left 40.87 ms late on average, 23.9% of mean TTFT "
            "(at most 5%); use --mooncake-workers or a lower rate",
            "第 4 轮（有缓存）：测量客户端成为瓶颈：请求平均迟发 40.87 ms，为平均 TTFT 的 23.9%（上限 5%）；"
            "请使用 --mooncake-workers 或降低速率",
        ),
        ("the master's counters could not be read (timed out: 5 s)", "无法读取 master 的计数器（timed out: 5 s）"),
        ("the client lagged", "the client lagged"),
        ("the wrong tiers answered", "the wrong tiers answered"),
        ("nobody has ever said this, truly", "nobody has ever said this, truly"),
        ("", ""),
    ],
)
def test_a_recorded_sentence_reads_in_chinese(recorded: str, chinese: str) -> None:
    assert translate(recorded, "zh") == chinese
    assert translate(recorded, "en") == recorded


@pytest.mark.parametrize(("english", "chinese"), [pair for section in PHRASES.values() for pair in section.items()])
def test_every_phrase_is_found_again_with_all_its_figures(english: str, chinese: str) -> None:
    figures = [str(n) for n in range(11, 11 + english.count("{}"))]

    assert chinese.count("{}") == len(figures)
    assert translate(english.format(*figures), "zh") == chinese.format(*figures)


def test_every_law_of_the_original_figures_is_told_in_chinese() -> None:
    details = [translate(f.detail, "zh") for f in original_report().judgement.audit if f.status != "not_applicable"]

    assert [text for text in details if re.search(r"[a-z]{4,} [a-z]{3,} [a-z]{3,}", text)] == []


def sentences_of(path: Path) -> set[str]:
    """What a module may say: its string literals of three words and more, figures filled in, docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    said = {_template(node) for node in ast.walk(tree) if id(node) not in inner}
    return {text for text in said if len(re.findall(r"[A-Za-z]{2,}", text)) > 2}


def _template(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    figures = itertools.count(11)
    parts = node.values if isinstance(node, ast.JoinedStr) else ()
    return "".join(str(part.value) if isinstance(part, ast.Constant) else str(next(figures)) for part in parts)


PIECES = (
    r"at most 11 12, this|this round's own reuse|tokens from 11|the engine's own prefix|with a step of one token|"
    r"11 cached according|11 12 short, within|this version does not count 11|stores finished \(11\)|"
    r"until the engines were idle|11 s by the clock|11 s: 12, the others|^tokens in chunks of 11"
)
"""Told only as parts of sentences, whole ones of which are in the catalogue."""


CHECKS, CACHE = "analysis/evidence/checks", "cache"
AUDIT = "analysis/audit/laws"


@pytest.mark.parametrize(
    "module",
    [
        *(f"{CHECKS}/{name}" for name in ("cold", "warm", "every_round", "miss_causes")),
        *(f"{CHECKS}/{name}" for name in ("correctness", "correct_text", "near_ties")),
        *("analysis/evidence/facts", "analysis/evidence/expected/service"),
        *(f"{CACHE}/{name}" for name in ("probes/gate", "quiesce")),
    ],
)
def test_every_sentence_of_the_checks_is_told_in_chinese(module: str) -> None:
    path = Path(str(files("pytest_mooncake").joinpath(f"{module}.py")))
    untold = {text for text in sentences_of(path) if re.search(r"[a-z]{3,} [a-z]{2,} [a-z]{2,}", translate(text, "zh"))}

    assert {text for text in untold if not re.search(PIECES, text)} == set()


NOT_A_SENTENCE = r"^needs |^TTFT \\+|^Geometry"
"""What a law that does not apply lacks is told in English."""


@pytest.mark.parametrize("module", ["law", "of_rounds", "of_machines", "open_loop"])
def test_every_sentence_of_the_audit_is_told_in_chinese(module: str) -> None:
    path = Path(str(files("pytest_mooncake").joinpath(f"{AUDIT}/{module}.py")))
    untold = {text for text in sentences_of(path) if re.search(r"[a-z]{3,} [a-z]{2,} [a-z]{2,}", translate(text, "zh"))}

    assert {text for text in untold if not re.search(NOT_A_SENTENCE, text)} == set()


@given(st.text(alphabet="abc 0123456789,.;:=×%(){}", max_size=60))
def test_no_figure_is_lost_whatever_was_recorded(text: str) -> None:
    assert sorted(re.findall(r"\d", translate(text, "zh"))) == sorted(re.findall(r"\d", text))
