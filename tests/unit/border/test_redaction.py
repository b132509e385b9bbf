"""Whatever a server repeats of a secret, however it writes it, is taken out; ordinary text stays as it is."""

from __future__ import annotations

import base64
import json
import pickle
from dataclasses import dataclass
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.border.redaction import MASK, Redactor, secrets_of_headers
from tests.support.spellings import SPELLINGS, traces_of

KEY = "sk-Live/9f+T2a&Zq7Lw=Xc4_Mn8"
REDACTOR = Redactor([KEY])


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_secret_is_found_in_every_spelling(name: str) -> None:
    said = f"wrong key [{SPELLINGS[name](KEY)}] for model qwen"
    told = REDACTOR.redacted(said)
    assert MASK in told
    assert told.startswith("wrong key [")
    assert told.endswith("] for model qwen")
    assert not [trace for trace in traces_of(KEY) if trace in told]


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=60),
    st.sampled_from(sorted(SPELLINGS)),
    st.text(max_size=30),
    st.text(max_size=30),
)
def test_no_piece_of_any_secret_is_left(secret: str, name: str, before: str, after: str) -> None:
    pieces = [secret[at : at + 8] for at in range(len(secret) - 7)]
    told = Redactor([secret]).redacted(f"{before} {SPELLINGS[name](secret)} {after}")
    assert not [piece for piece in pieces if len(set(piece)) > 1 and piece in told]


@given(st.text(max_size=300))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = REDACTOR.redacted(text)
    assert REDACTOR.redacted(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "",
        "HTTP 400: max_tokens is too large: 4096 > 2048",
        "the model `sk-Live` does not exist",
        'vllm:request_success_total{engine="0",finished_reason="length",model_name="Qwen/Qwen3-72B"}',
        "%d items, 100 % of \\d+ at C:\\new\\table &c; 10, 20, 30, 40, 50, 60, 70",
        "dGhlIHF1aWNrIGJyb3duIGZveA== 0xdeadbeef 6e6f7468696e67",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert REDACTOR.redacted(text) is text


def test_the_parts_of_an_authorization_are_secrets_of_their_own() -> None:
    basic = base64.b64encode(b"ada:open-sesame-77").decode()
    redactor = secrets_of_headers({"Authorization": f"Basic {basic}", "X-Key": "token-of-the-gateway"})
    said = f"{basic}; ada:open-sesame-77; open-sesame-77; token-of-the-gateway; ada may come in"
    assert redactor.redacted(said) == "***; ***; ***; ***; ada may come in"


def test_the_name_of_a_scheme_is_no_secret() -> None:
    redactor = secrets_of_headers({"Authorization": f"Bearer {KEY}"})
    assert redactor.redacted("use the Bearer scheme, not Basic") == "use the Bearer scheme, not Basic"
    assert redactor.redacted(f"Bearer {KEY}") in {MASK, f"Bearer {MASK}"}


def test_a_short_secret_is_found_as_a_word_only() -> None:
    redactor = secrets_of_headers({"Authorization": "Bearer test", "X": "k"})
    assert redactor.redacted("the key test is wrong (test); k") == "the key *** is wrong (***); k"
    assert redactor.redacted("the latest attestation of test_time") == "the latest attestation of test_time"
    assert redactor.redacted("dGVzdA== and %74%65st") == "***A== and ***"


def test_a_product_s_name_in_a_secret_does_not_blacken_the_product() -> None:
    redactor = Redactor(["lmcache-mooncake-key-4f1c"])
    for text in ("lmcache:num_hit_tokens", "the Mooncake master", "MooncakeStoreConnector", "pytest-mooncake-tiny"):
        assert redactor.redacted(text) == text
    assert redactor.redacted("invalid: mooncake-key-4f1c") == "invalid: m***"


def test_a_password_in_any_address_is_taken_out() -> None:
    said = "cannot reach postgresql://ada:pw@db/runs or http://proxy:8080/x@y"
    assert Redactor().redacted(said) == "cannot reach postgresql://***@db/runs or http://proxy:8080/x@y"


class Kind(StrEnum):
    COLD = "cold"


@dataclass(frozen=True)
class Inner:
    texts: tuple[str, ...]
    numbers: tuple[int, ...] = (1, 2)
    kind: Kind = Kind.COLD


def test_values_are_cleaned_to_their_depths_and_keep_their_types() -> None:
    value = {"a": [Inner((f"say {KEY}",))], f"key {KEY}": 1, "n": 1.5, "none": None}
    cleaned = REDACTOR.cleaned(value)
    assert cleaned == {"a": [Inner(("say ***",))], "key ***": 1, "n": 1.5, "none": None}
    clean = {"a": [Inner(("ok",))]}
    assert REDACTOR.cleaned(clean) is clean


def test_a_secret_spelt_by_several_texts_is_found() -> None:
    tokens = tuple(KEY[at : at + 3] for at in range(0, len(KEY), 3))
    assert REDACTOR.cleaned(("<s>", *tokens, "end")) == ("<s>", *[MASK] * len(tokens), "end")


def test_the_names_of_metrics_stay_and_their_labels_are_cleaned() -> None:
    redactor = Redactor(["prompt_tokens-of-mine-91"])
    series = {'vllm:prompt_tokens_total{model_name="prompt_tokens-of-mine"}': 1.0, "vllm:prompt_tokens_total": 2.0}
    assert redactor.cleaned(series) == {
        'vllm:prompt_tokens_total{model_name="***"}': 1.0,
        "vllm:prompt_tokens_total": 2.0,
    }
    assert REDACTOR.cleaned({f"vllm:x{KEY}": 1.0}) == {"vllm:x***": 1.0}


def test_what_is_about_to_be_written_keeps_words_that_are_ours() -> None:
    redactor = Redactor(["decided", "interrupted"])
    values = {"reason": "decided", "interrupted": "the server said interrupted"}
    assert redactor.guarded(values) == {"reason": "decided", "interrupted": "the server said ***"}


def test_a_redactor_travels_and_shows_nothing() -> None:
    both = REDACTOR | Redactor(["another-secret-1"])
    travelled = pickle.loads(pickle.dumps(both))
    assert travelled.redacted(f"{KEY} another-secret-1") == "*** ***"
    assert KEY not in repr(both)


def test_a_large_answer_is_looked_through_in_a_moment() -> None:
    series = 'vllm:request_success_total{engine="0",model_name="Qwen/Qwen3-72B"} 12\n' * 20_000
    said = series + json.dumps({"error": KEY}) + series
    assert REDACTOR.redacted(said) == series + '{"error": "***"}' + series
