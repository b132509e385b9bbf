"""The page of options is made from their declarations, and what a declaration says of the plan is true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from pytest_mooncake.plan.options import DECLARED, Options, Value
from pytest_mooncake.plan.options.page import page
from pytest_mooncake.plan.resolve import resolve

ROOT = Path(__file__).resolve().parents[4]
ENGINE = {"url": ("http://engine:8000",)}
MACHINE = {"hardware": {"gpus": 8}, "model": {"parameters": 8e9}}

GIVEN: dict[str, tuple[Any, Mapping[str, Any]]] = {
    "url": (("http://engine:8000",), {}),
    "versus": ("http://old:8000", ENGINE),
    "stack": ("simulated", {}),
    "workload": ("kb-qa", {}),
    "requests": ("31", {}),
    "concurrency": ("5", {}),
    "rate": ("poisson:5", {}),
    "prompt_tokens": ("8192", {}),
    "output_tokens": ("64", {}),
    "seed": ("7", {}),
    "trials": ("3,5", {}),
    "quick": (True, {}),
    "sessions": ("2", {}),
    "targets": ("targets.yaml", {}),
    "economics": ("economics.yaml", {}),
    "hardware": ("machine.yaml", {}),
    "goodput": ("ttft_p90_ms<=500", {}),
    "timeout": ("request=5", {}),
    "model": ("some", ENGINE),
    "api_key_env": ("KEY", ENGINE),
    "header_env": ("HEADER", ENGINE),
    "api": ("chat", {}),
    "workers": ("2", {}),
    "master": ("http://master:9003", ENGINE),
    "metadata": ("http://master:8080/metadata", ENGINE),
    "metrics": (("none",), ENGINE),
    "chunk_tokens": ("128", ENGINE),
    "evidence": ("timing", {}),
    "settle": ("fixed:3", {}),
    "store_budget": ("20GB", {}),
    "allow_clear": ("1", {}),
    "label": ("some", {}),
    "lang": ("zh", {}),
    "history": ("sqlite:///some.sqlite", {}),
    "baseline": ("some", {}),
    "steady": (True, {}),
    "cold_tax": (True, {}),
    "keep_stack": (True, {}),
    "report": ("somewhere", {}),
    "releases_per_year": ("12", {}),
    "replay": ("somewhere", {}),
    "dry_run": (True, {}),
}
"""A value for each option that is not its default, and what else has to be given with it."""
FOLLOWS = {"gates", "targets.claims", "evidence", "stack"}
"""What a plan derives from other fields of its own."""


def test_the_page_is_made_from_the_declarations() -> None:
    stands = (ROOT / "docs" / "reference" / "options.md").read_text(encoding="utf-8")
    assert stands == page(), "python -m pytest_mooncake.plan.options.page > docs/reference/options.md"


def test_every_cell_stays_a_cell() -> None:
    rows = [line for line in page().splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4}
    assert len(rows) == len(DECLARED) + 2


@pytest.fixture
def project(tmp_path: Path) -> Path:
    claims = [{"metric": "ttft_mean", "target": "down >= 30 %"}]
    (tmp_path / "targets.yaml").write_text(yaml.safe_dump({"claims": claims}), encoding="utf-8")
    (tmp_path / "economics.yaml").write_text("servers: 3\n", encoding="utf-8")
    (tmp_path / "machine.yaml").write_text(yaml.safe_dump(MACHINE), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("option", DECLARED, ids=lambda option: str(option.field))
def test_an_option_sets_the_fields_of_the_plan_that_it_declares(option: Any, project: Path) -> None:
    given, besides = GIVEN[option.field]
    before = resolve(Options(**besides), project, run_id="run")
    after = resolve(Options(**besides, **{option.field: given}), project, run_id="run")
    changed = set(differences(before, after))
    sets = {name for name in option.sets if name != "stack.store_url"}  # a store instead of engines, below
    assert {name for name in sets if not any(one == name or one.startswith(f"{name}.") for one in changed)} == set()
    strays = {one for one in changed if not any(one == name or one.startswith(f"{name}.") for name in sets)}
    assert strays - FOLLOWS == set() or option.field == "url"


def differences(one: BaseModel, other: BaseModel, before: str = "") -> Iterator[str]:
    for name in type(one).model_fields:
        mine, theirs = getattr(one, name), getattr(other, name)
        if isinstance(mine, BaseModel) and type(mine) is type(theirs):
            yield from differences(mine, theirs, f"{before}{name}.")
        elif mine != theirs:
            yield f"{before}{name}"


def test_a_store_that_runs_is_named_by_the_same_option_as_engines(tmp_path: Path) -> None:
    plan = resolve(Options(url=("mooncakestore://host:50051",)), tmp_path)
    assert (plan.stack.store_url, plan.stack.urls) == ("mooncakestore://host:50051", ())


def test_every_value_is_typed_as_it_is_given() -> None:
    defaults = {Value.TEXT: None, Value.SWITCH: False, Value.REPEATED: (), Value.COUNTED: None}
    assert {option.field: getattr(Options(), option.field) for option in DECLARED} == {
        option.field: defaults[option.value] for option in DECLARED
    }
    without = (Value.SWITCH, Value.COUNTED)
    assert [option.field for option in DECLARED if option.value in without and option.metavar] == []
