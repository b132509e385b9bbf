"""Recorded sentences in Chinese: known ones are mapped, unknown ones stay, figures are never lost."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.report.phrases import told
from tests.unit.report.originals import original_report

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
        ("nobody has ever said this, truly", "nobody has ever said this, truly"),
        ("", ""),
    ],
)
def test_a_recorded_sentence_reads_in_chinese(recorded: str, chinese: str) -> None:
    assert told(recorded, "zh") == chinese
    assert told(recorded, "en") == recorded


@pytest.mark.parametrize(("english", "chinese"), [pair for section in PHRASES.values() for pair in section.items()])
def test_every_phrase_is_found_again_with_all_its_figures(english: str, chinese: str) -> None:
    figures = [str(n) for n in range(11, 11 + english.count("{}"))]

    assert chinese.count("{}") == len(figures)
    assert told(english.format(*figures), "zh") == chinese.format(*figures)


def test_every_law_of_the_original_figures_is_told_in_chinese() -> None:
    details = [told(f.detail, "zh") for f in original_report().judgement.audit if f.status != "not_applicable"]

    assert [text for text in details if re.search(r"[a-z]{4,} [a-z]{3,} [a-z]{3,}", text)] == []


@given(st.text(alphabet="abc 0123456789,.;:=×%(){}", max_size=60))
def test_no_figure_is_lost_whatever_was_recorded(text: str) -> None:
    assert sorted(re.findall(r"\d", told(text, "zh"))) == sorted(re.findall(r"\d", text))
