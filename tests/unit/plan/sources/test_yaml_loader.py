"""YAML files are read safely, and every complaint names file, line and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.models import StackPlan, TargetsPlan, WorkloadPlan
from pytest_mooncake.plan.sources.yaml_loader import load


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(tmp_path: Path, text: str, model: type = WorkloadPlan) -> str:
    with pytest.raises(PlanError) as caught:
        load(written(tmp_path, text), model, name="x")
    return str(caught.value)


def test_values_of_the_file_are_taken_and_the_name_is_filled_in(tmp_path: Path) -> None:
    plan = load(written(tmp_path, "requests: 7\nprompt_tokens: 512\n"), WorkloadPlan, name="mine")
    assert (plan.name, plan.requests, plan.prompt_tokens, plan.output_tokens) == ("mine", 7, 512, 128)


def test_a_misspelt_key_is_refused_with_the_nearest_one_and_its_line(tmp_path: Path) -> None:
    message = complaint(tmp_path, "requests: 3\npromt_tokens: 5\n")
    assert message.endswith("file.yaml:2: unknown key 'promt_tokens'; did you mean 'prompt_tokens'?")


def test_a_misspelt_key_inside_a_block_is_found_there(tmp_path: Path) -> None:
    message = complaint(tmp_path, "kind: local\nstore:\n  nodes: 2\n  segment_byts: 5\n", StackPlan)
    assert "file.yaml:4: unknown key 'store.segment_byts'; did you mean 'segment_bytes'?" in message


def test_a_misspelt_key_inside_a_list_is_found_there(tmp_path: Path) -> None:
    text = 'claims:\n  - metric: ttft_mean\n    title: t\n    ratio: 0.4\n    stated: "x"\n    direktion: lower\n'
    message = complaint(tmp_path, text, TargetsPlan)
    assert "file.yaml:6: unknown key 'claims.0.direktion'; did you mean 'direction'?" in message


def test_a_key_like_no_other_gets_the_list_of_known_ones(tmp_path: Path) -> None:
    message = complaint(tmp_path, "zzz: 1\n")
    assert "known keys:" in message
    assert "concurrency" in message


def test_a_value_out_of_range_names_the_key_and_the_value(tmp_path: Path) -> None:
    message = complaint(tmp_path, "requests: 0\n")
    assert "file.yaml:1: value 0 of 'requests' does not fit" in message


def test_every_finding_has_a_line_of_its_own(tmp_path: Path) -> None:
    assert len(complaint(tmp_path, "requests: 0\nconcurrency: -1\n").splitlines()) == 2


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert "key 'kind' is missing" in complaint(tmp_path, "description: x\n", StackPlan)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    assert "file.yaml:2: key 'requests' was already given on line 1" in complaint(
        tmp_path, "requests: 1\nrequests: 2\n"
    )


@pytest.mark.parametrize("text", ["a: [1,\n", "a: 'x\n", "\ta: 1\n", "a: b: c\n"])
def test_broken_syntax_is_one_line_with_its_place(tmp_path: Path, text: str) -> None:
    message = complaint(tmp_path, text)
    assert "file.yaml:" in message
    assert "not YAML" in message
    assert "\n" not in message


def test_tags_that_would_make_objects_are_refused(tmp_path: Path) -> None:
    message = complaint(tmp_path, "name: !!python/object/apply:os.system ['true']\n")
    assert "not YAML" in message


@pytest.mark.parametrize(("text", "found"), [("- 1\n", "list"), ("word\n", "str")])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str, found: str) -> None:
    assert f"found {found}" in complaint(tmp_path, text)


def test_an_empty_file_is_a_file_without_keys_of_its_own(tmp_path: Path) -> None:
    assert load(written(tmp_path, ""), WorkloadPlan, name="x") == WorkloadPlan(name="x")


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        load(tmp_path / "nowhere.yaml", WorkloadPlan)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(PlanError, match="not UTF-8"):
        load(binary, WorkloadPlan)


@given(st.text(max_size=200))
def test_no_text_whatever_causes_anything_but_a_plan_or_a_plan_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "f.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(path, WorkloadPlan, name="x")
    except PlanError as error:
        complaint = str(error)
    else:
        complaint = ""
    assert not complaint or str(path) in complaint
