"""Where secrets may go: to the origins of the engines that were named, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.plan.secrets.credentials import Credentials, credentials_of, origin

ENVIRON = {"KEY": "hush", "EXTRA": "X-Team: blue"}


def stack(*urls: str, **fields: Any) -> StackPlan:
    return StackPlan.model_validate({"name": "attached", "kind": "attached", "urls": urls, **fields})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://h:1/metrics", "http://h:1/v1", True),
        ("http://h", "http://H:80/x", True),
        ("https://h", "https://h:443", True),
        ("http://h:1", "https://h:1", False),
        ("http://h:1", "http://h:2", False),
        ("http://h:1", "http://h.evil:1", False),
        ("http://[::1]:8", "http://[::1]:8/metrics", True),
    ],
)
def test_an_origin_is_scheme_host_and_port(one: str, other: str, same: bool) -> None:
    assert (origin(one) == origin(other)) is same


def test_secrets_go_to_every_engine_and_to_nobody_else() -> None:
    found = credentials_of(stack("http://a:1/v1", "http://b:1", api_key_env="KEY", header_env="EXTRA"), ENVIRON)
    assert found.headers_for("http://a:1/metrics") == {"Authorization": "Bearer hush", "X-Team": "blue"}
    assert found.headers_for("http://b:1/tokenize") == found.headers
    assert found.headers_for("http://a:9003/metrics") == {}
    assert "hush" not in repr(found)
    assert "blue" not in repr(found)


def test_without_variables_nothing_is_sent() -> None:
    found = credentials_of(stack("http://a:1"), {})
    assert found.headers_for("http://a:1") == {}
    assert found.redacted("as it is") == "as it is"
    assert found.remedy == Credentials().remedy


def test_what_a_server_repeats_is_redacted() -> None:
    found = credentials_of(stack("http://a:1", api_key_env="KEY", header_env="EXTRA"), ENVIRON)
    assert found.redacted("hush of blue: hush") == "*** of ***: ***"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"api_key_env": "KEY"}, "is the key in $KEY (--mooncake-api-key-env) the right one?"),
        ({"header_env": "EXTRA"}, "is the header in $EXTRA (--mooncake-header-env) the right one, or is a key wanted"),
        ({"api_key_env": "KEY", "header_env": "EXTRA"}, "and the header in $EXTRA (--mooncake-header-env)?"),
    ],
)
def test_who_is_refused_is_told_what_to_look_at(fields: dict[str, str], said: str) -> None:
    assert said in credentials_of(stack("http://a:1", **fields), ENVIRON).remedy
