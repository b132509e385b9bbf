from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import UsageError
from pytest_mooncake.stack.addresses import admin_url, engine_url, metrics_url


@pytest.mark.parametrize(
    "text",
    [
        "http://h:8000",
        "http://h:8000/",
        "http://h:8000/v1",
        "http://h:8000/v1/",
        " http://h:8000//v1// ".replace("//v1", "/v1"),
    ],
)
def test_every_spelling_of_a_base_url_becomes_one(text: str) -> None:
    assert engine_url(text) == "http://h:8000"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h", "https://h"),
        ("http://h/team/v1", "http://h/team"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
        ("http://h/v1x", "http://h/v1x"),
    ],
)
def test_the_rest_of_an_address_is_kept(text: str, expected: str) -> None:
    assert engine_url(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("h:8000", "expected http(s)://host:port"),
        ("", "expected http(s)://host:port"),
        ("http://", "expected http(s)://host:port"),
        ("ftp://h", "expected http(s)://host:port"),
        ("http://a b", "expected http(s)://host:port"),
        ("http://h:99999", "Port out of range"),
        ("http://h:x", "expected http(s)://host:port"),
        ("http://h:0", "port 0 is no port"),
        ("http://[::1", "expected http(s)://host:port"),
        ("http://h/v1?key=SECRET", "takes no '?…'"),
        ("http://h/v1#a", "takes no '?…'"),
        ("http://h:1/v1/completions", "give the base of the API, not one of its paths: http://h:1"),
        ("http://h:1/v1/chat/completions", "give the base of the API, not one of its paths: http://h:1"),
        ("http://h:1/v1/models/", "give the base of the API, not one of its paths: http://h:1"),
        ("http://h:1/completions", "give the base of the API, not one of its paths: http://h:1"),
        ("mooncakestore://h:50051", "names a store and no engine"),
        ("http://user:SECRET@h:1", "no credentials in an address"),
        ("http://SECRET@h", "no credentials in an address"),
        ("http://user:SECRET@h:x", "expected http(s)://host:port"),
        ("http://h:x/?key=SECRET", "expected http(s)://host:port"),
        ("mooncakestore://user:SECRET@h:50051", "names a store and no engine"),
    ],
)
def test_an_address_that_cannot_be_meant_is_one_line_without_secrets(text: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        engine_url(text)
    message = str(raised.value)
    assert says in message
    assert message.startswith("--mooncake-url")
    assert "SECRET" not in message
    assert "\n" not in message


@given(st.text(max_size=30))
def test_whatever_is_written_is_an_address_or_a_usage_error(text: str) -> None:
    said = url = ""
    try:
        url = engine_url(text)
    except UsageError as error:
        said = str(error)
    assert said.isprintable()
    assert said or engine_url(url) == url


@given(st.from_regex(r"http://[a-z]{1,5}(:[1-9][0-9]{0,3})?(/[a-z0-9]{0,3}){0,3}", fullmatch=True))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert engine_url(engine_url(text)) == engine_url(text)
    assert admin_url(admin_url(text)) == admin_url(text)
    assert metrics_url(metrics_url(text)) == metrics_url(text)


def test_an_admin_address_is_taken_with_or_without_its_metrics_page() -> None:
    assert admin_url("http://h:9003/metrics") == admin_url("http://h:9003/") == "http://h:9003"
    with pytest.raises(UsageError, match="--mooncake-master"):
        admin_url("h:9003")


def test_a_metrics_address_without_a_path_means_the_usual_one() -> None:
    assert metrics_url("http://h:1") == metrics_url("http://h:1/metrics/") == "http://h:1/metrics"
    assert metrics_url("http://h:1/a/prom") == "http://h:1/a/prom"
