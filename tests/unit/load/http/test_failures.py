"""One line per failure, safe to print."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.load.http.failures import count_fault, describe, one_line


@given(st.text(max_size=600) | st.binary(max_size=600), st.integers(min_value=1, max_value=300))
def test_any_text_becomes_one_short_printable_line(raw: str | bytes, limit: int) -> None:
    line = one_line(raw, limit)
    assert len(line) <= limit
    assert not any(unicodedata.category(char).startswith("C") for char in line)
    assert line == line.strip()


def test_a_short_text_stays_as_it_is() -> None:
    assert one_line("模型 not found") == "模型 not found"


def test_a_long_text_is_cut_with_a_mark() -> None:
    assert one_line("x" * 300) == "x" * 199 + "…"


@pytest.mark.parametrize(
    ("sent", "output", "moment"),
    [(False, False, "before it was sent"), (True, False, "before the first token"), (True, True, "in the middle")],
)
def test_a_broken_connection_says_how_far_it_came(sent: bool, output: bool, moment: str) -> None:
    assert moment in describe(OSError("gone"), sent=sent, output=output)


def test_an_error_without_text_is_named() -> None:
    assert describe(OSError(), sent=True, output=False).endswith("OSError")


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((8, 8, 4, 4), None),
        ((None, 9, 4, 4), None),
        ((None, None, 4, 4), None),
        ((8, 9, 4, 4), "counted 9 prompt tokens, planned were 8"),
        ((8, None, 4, 4), "does not count prompt tokens"),
        ((8, 8, 4, 5), "produced 5 output tokens, asked for were 4"),
        ((8, 8, 4, 0), "produced 0 output tokens"),
        ((8, 8, 4, None), "without usage"),
    ],
)
def test_counts_are_held_against_the_plan(
    counts: tuple[int | None, int | None, int, int | None], reason: str | None
) -> None:
    prompt_planned, prompt, output_planned, output = counts
    fault = count_fault(prompt_planned=prompt_planned, prompt=prompt, output_planned=output_planned, output=output)
    assert (fault is None) is (reason is None)
    assert (reason or "") in (fault or "")
