"""Which endpoint a run may be compared with."""

from __future__ import annotations

import re

import pytest

from pytest_mooncake.errors import UsageError
from pytest_mooncake.plan.models import StackPlan
from pytest_mooncake.plan.sources.endpoints import versus_of

NEW = StackPlan(
    name="attached", kind="attached", urls=("http://new:8000/v1",), model_name="m", api_key_env="KEY", header_env="H"
)


def test_the_old_endpoint_is_asked_for_the_same_model_with_the_same_key() -> None:
    old = versus_of("http://old:8000", NEW)
    assert old is not None
    assert (old.urls, old.model_name, old.api_key_env, old.header_env) == (("http://old:8000",), "m", "KEY", "H")
    assert versus_of(None, NEW) is None


@pytest.mark.parametrize("same", ["http://new:8000/v1", "http://new:8000", "http://new:8000/", "http://NEW:8000/v1/"])
def test_the_same_endpoint_however_written_is_no_comparison(same: str) -> None:
    with pytest.raises(UsageError, match=re.escape("is the endpoint of --mooncake-url itself")):
        versus_of(same, NEW)


@pytest.mark.parametrize(("url", "said"), [("old:8000", "write http://host:port"), ("http://u:p@old", "a password")])
def test_what_is_no_address_is_refused(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        versus_of(url, NEW)


@pytest.mark.parametrize(
    "stack",
    [StackPlan(name="s", kind="simulated"), StackPlan(name="a", kind="attached", urls=("http://a:1", "http://b:1"))],
)
def test_a_run_without_one_endpoint_of_its_own_has_nothing_to_compare(stack: StackPlan) -> None:
    with pytest.raises(UsageError, match="compared with one endpoint"):
        versus_of("http://old:8000", stack)
