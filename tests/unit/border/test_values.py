"""Behind `parse_json` and the typed readers there is nothing that cannot be counted with, written or walked."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_mooncake.border.redaction import Redactor
from pytest_mooncake.border.values import (
    MOST_COUNT,
    MOST_NUMBER,
    NotJson,
    finite,
    parse_json,
    shown,
    text_of,
    whole_number_of,
    whole_text,
)
from pytest_mooncake.errors import BorderError, EndpointError

URL = "http://host/v1/models"


def walk(value: Any, depth: int = 0) -> int:
    """How deep a value nests; fails where it holds what it must not."""
    if isinstance(value, float):
        assert math.isfinite(value)
    if isinstance(value, str):
        value.encode()
    if isinstance(value, dict):
        return max((walk(one, depth + 1) for pair in value.items() for one in pair), default=depth + 1)
    if isinstance(value, list):
        return max((walk(one, depth + 1) for one in value), default=depth + 1)
    return depth


def parsed(text: str | bytes) -> tuple[Any, str | None]:
    """What is read, and the line where nothing is."""
    try:
        return parse_json(text, URL), None
    except BorderError as error:
        return None, str(error)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=30,
)
FRAGMENTS = st.lists(
    st.sampled_from(
        [
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            '"',
            "\\ud800",
            "\\udc00",
            "\\",
            "NaN",
            "-Infinity",
            "1e400",
            "9" * 400,
            "1",
            " ",
        ]
    ),
    max_size=30,
).map("".join)


@given(text=VALUES.map(json.dumps) | FRAGMENTS | st.text(max_size=30))
@example(text='"\\ud800"')
@example(text="[NaN]")
@example(text="1e400")
@example(text="9" * 5000)
@example(text="[" * 200_000)
@example(text='{"a":' * 200_000)
@example(text="[" * 65 + "]" * 65)
@example(text="\ud800")
@example(text='{"\\udfff": 1}')
def test_any_text_is_finite_whole_and_shallow_values_or_one_line(text: str) -> None:
    value, line = parsed(text)
    assert line is None or (line.startswith(URL) and line.isprintable() and len(line) < 300)
    assert walk(value) <= 64
    orjson.dumps(value)


@given(data=st.binary(max_size=40))
def test_any_bytes_are_values_or_one_line(data: bytes) -> None:
    value, line = parsed(data)
    assert line is None or line.isprintable()
    walk(value)


@given(value=VALUES)
def test_json_that_anybody_could_mean_is_read_as_it_stands(value: Any) -> None:
    text = json.dumps(value)
    try:
        plain = orjson.loads(text)
    except orjson.JSONDecodeError:
        return
    assert parse_json(text, URL) == plain
    assert parse_json(text, URL, redact=lambda said: said) == plain


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": "\\ud800"}', "half a character"),
        ("[NaN]", "sends NaN, which is no number"),
        ("[1, -Infinity]", "sends -Infinity, which is no number"),
        ("1e400", "a number that is too large"),
        ("-" + "9" * 5000, "a number that is too large"),
        ("[" * 200_000, "nests more than 64 deep"),
        ("[" * 100 + "]" * 100, "nests more than 64 deep"),
        ('{"a":' * 100 + "1" + "}" * 100, "nests more than 64 deep"),
        ('"' + "x" * 2**22 + '"', "sends more than 4 MiB"),
    ],
)
def test_what_is_refused_is_said(text: str, words: str) -> None:
    with pytest.raises(BorderError, match=words) as raised:
        parse_json(text, URL)
    assert not isinstance(raised.value, NotJson)
    assert isinstance(raised.value, EndpointError)
    assert raised.value.exit_code == 4


@pytest.mark.parametrize("text", ["", "<html>", "[1, 2", "{'a': 1}", "nul"])
def test_what_is_no_json_at_all_is_told_from_what_is_refused(text: str) -> None:
    with pytest.raises(NotJson):
        parse_json(text, URL)


def test_sixty_four_levels_and_a_byte_order_mark_are_read() -> None:
    assert walk(parse_json("\ufeff" + "[" * 64 + "]" * 64, URL)) == 64


def test_brackets_inside_texts_are_no_nesting() -> None:
    assert parse_json(json.dumps(["[" * 1000]), URL) == ["[" * 1000]


def test_secrets_are_taken_out_of_decoded_texts_and_keys_at_every_depth() -> None:
    text = '{"my \\u0073ecret": [{"a": "my \\u0073\\u0065cret"}, "secret", 1], "b": "c"}'
    read = parse_json(text, URL, redact=lambda said: said.replace("secret", "***"))
    assert read == {"my ***": [{"a": "my ***"}, "***", 1], "b": "c"}


@pytest.mark.parametrize("value", [0, -1, 1.0, 4096.5, "4096", True, False, None, 2**31, 10**30, 1e30, [], {}, [[[]]]])
def test_what_is_no_whole_number_is_refused_with_what_it_is(value: Any) -> None:
    with pytest.raises(
        BorderError, match=r"^http://host/v1/models: max_model_len is .*expected a whole number from 1 to"
    ):
        whole_number_of(value, URL, "max_model_len")


@pytest.mark.parametrize("value", [1, 4096, MOST_COUNT])
def test_a_whole_number_is_taken(value: int) -> None:
    assert whole_number_of(value, URL, "max_model_len") == value


@pytest.mark.parametrize(
    "value", [None, 3, ["a"], {}, "", "  ", "a\nb", "a\x00", "\x1b[2J", "\x7f", "x" * 5000, "\ud800"]
)
def test_what_is_no_name_is_refused_in_one_printable_line(value: Any) -> None:
    with pytest.raises(BorderError, match=r"^http://host/v1/models: the id ") as raised:
        text_of(value, URL, "the id")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("value", ["Qwen/Qwen2.5-72B", "模型", "/data/my models/x", "a" * 4096])
def test_a_name_is_taken(value: str) -> None:
    assert text_of(value, URL, "the id") == value


@given(value=st.floats())
def test_numbers_that_are_kept_stay_finite_when_summed(value: float) -> None:
    kept = finite(value)
    assert kept is None or (kept == value and math.isfinite(kept * 10_000) and abs(kept) <= MOST_NUMBER)


@given(text=st.text(st.characters()))
def test_every_text_can_be_written_afterwards(text: str) -> None:
    assert orjson.loads(orjson.dumps(whole_text(text))) is not None
    if text.encode("utf-8", "ignore").decode() == text:
        assert whole_text(text) == text


@given(value=VALUES)
def test_what_is_shown_of_a_value_is_short_and_printable(value: Any) -> None:
    assert shown(value).isprintable()
    assert len(shown(value)) < 300


def test_a_field_whose_name_is_a_part_of_a_secret_is_found_all_the_same() -> None:
    redact = Redactor(["choices-key-1"]).redacted
    read = parse_json('{"choices": "choices-key-1", "choices-key-1": 1}', URL, redact=redact)
    assert read == {"choices": "***", "***": 1}
