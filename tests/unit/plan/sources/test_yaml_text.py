"""Whatever somebody hands in as YAML is a value within bounds, or one line with its place; quickly in either case."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.errors import PlanError
from pytest_mooncake.plan.models import EconomicsPlan, StackPlan, TargetsPlan, WorkloadPlan
from pytest_mooncake.plan.sources.figures import FiguresFile, read_figures
from pytest_mooncake.plan.sources.yaml_loader import MOST_FINDINGS, load
from pytest_mooncake.plan.sources.yaml_text import MOST_BYTES, clipped, parse
from pytest_mooncake.stack.preflight.sources.documents import read_file, settings_of

SIDES = "cold: {}\nwarm: {}\n"
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000))
REFUSED = {
    "a date that does not exist": ("date: 2024-02-30\n", ":1: '2024-02-30' is no date"),
    "a time that does not exist": ("date: 2024-02-28T25:61:00Z\n", "is no date"),
    "an anchor in itself": ("a: &a [*a]\n", ":1: an anchor that holds itself"),
    "an anchor in its own mapping": ("a: &a {b: *a}\n", "an anchor that holds itself"),
    "an anchor merged into itself": ("a: &a {<<: *a}\n", "an anchor that holds itself"),
    "3,000 brackets": ("a: " + "[" * 3000, ":1: nested deeper than 50 levels"),
    "200,000 brackets": ("[" * 200_000, ":1: nested deeper than 50 levels"),
    "3,000 lines of brackets": ("[\n" * 3000, ":51: nested deeper than 50 levels"),
    "3,000 mappings": ("{a: " * 3000, "nested deeper"),
    "3,000 dashes": ("- " * 3000 + "x", "nested deeper"),
    "3,000 question marks": ("? " * 3000, "nested deeper"),
    "3,000 anchors, each in the next": (CHAIN, "nested deeper than 50 levels, aliases counted where they are used"),
    "an alias bomb": (BOMB, ":5: more than 50,000 values"),
    "a bomb of merge keys": (MERGES, "more than 50,000 values"),
    "6,000 digits": ("requests: " + "1" * 6000, ":1: a number of 6,000 characters"),
    "6,000 digits behind the point": ("requests: 1." + "1" * 6000, "a number of 6,002 characters"),
    "6,000 hexadecimal digits": ("requests: 0x" + "f" * 6000, "a number of 6,002 characters"),
    "60 hexadecimal digits": ("requests: 0x" + "f" * 60, "is larger than any number here"),
    "a number of base 60": ("requests: 1" + ":1" * 30, "is larger than any number here"),
    "no number": ("cold: {ttft_ms: {mean: .nan}}\n", ":1: '.nan' is no finite number"),
    "no finite number": ("cold:\n  ttft_ms: {mean: -.inf}\n", ":2: '-.inf' is no finite number"),
    "a number that overflows": ("requests: 1.0e+999\n", "is no finite number"),
    "a number that overflows without a point": ("requests: 1e999\n", "is no finite number"),
    "a number that underflows": ("network_gbps: 1.0e-300\n", "is smaller than any number here but 0"),
    "a control character": ("a: \x01\n", ":1: not YAML: the character U+0001 is not allowed"),
    "an escaped control character": ('x: 1\ndescription: "\\x1b[31m"\n', ":2: the character U+001B does not belong"),
    "a zero byte in a path": ('model: {config: "a\\0b"}\n', "the character U+0000 does not belong"),
    "a lone surrogate": ('description: "\\ud800"\n', "the character U+D800 does not belong"),
    "a list as a key": ("? [a]\n: b\n", "unhashable key"),
    "a key given twice": ("requests: 1\nrequests: 1\n", ":2: key 'requests' was already given on line 1"),
    "a merge of no mapping": ("<<: 1\n", ":1: not YAML: expected a mapping"),
    "two documents": ("a: 1\n---\nb: 2\n", ":2: not YAML: expected a single document"),
    "an alias of nothing": ("a: *b\n", ":1: not YAML: found undefined alias 'b'"),
    "a tag that says otherwise": ("requests: !!int foo\n", "'foo' is no value of the kind 'int'"),
    "a tag on nothing": ("requests: !!int ''\n", "'' is no value of the kind 'int'"),
    "a tag of a flag": ("requests: !!bool foo\n", "'foo' is no value of the kind 'bool'"),
    "a tag of a date": ("date: !!timestamp foo\n", "'foo' is no date"),
    "a number as a key": (f"1: 2\n{SIDES}", "keys should be strings"),
    "nothing": ("", ":1: key 'cold' is missing"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_usable_yaml_is_a_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanError) as refused:
        load(path, FiguresFile)
    assert said in str(refused.value)
    assert all(line.startswith(f"{path}:") for line in str(refused.value).splitlines())
    assert max(map(len, str(refused.value).splitlines())) < len(str(path)) + 500


BYTES = {
    "bytes": (bytes(range(256)), "not UTF-8 text: line 2"),
    "another encoding": (b"x: 1\ndescription: caf\xe9\n", "not UTF-8 text: line 2"),
    "UTF-16": ("a: 1".encode("utf-16"), "save it as UTF-8"),
    "10 MB": (b"a: 1\n" * 2_000_000, f"larger than {MOST_BYTES // 1024} KiB"),
}


@pytest.mark.parametrize(("held", "said"), BYTES.values(), ids=BYTES)
@pytest.mark.parametrize("name", ["f.yaml", "f.csv"])
def test_what_is_no_text_is_a_line(tmp_path: Path, held: bytes, said: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(held)
    with pytest.raises(PlanError) as refused:
        read_figures(path, tmp_path)
    assert str(refused.value).startswith(f"{path}: cannot be read (")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_directory_and_endless_bytes_are_a_line(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"cannot be read \(Is a directory\)"):
        load(tmp_path, FiguresFile)
    with pytest.raises(PlanError, match="larger than"):
        load(Path(os.devnull).with_name("zero"), FiguresFile)


def test_a_pipe_that_nobody_writes_to_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.yaml")
    with pytest.raises(PlanError, match="key 'cold' is missing"):
        load(tmp_path / "f.yaml", FiguresFile)


def test_dates_are_text_a_byte_order_mark_is_none_of_it_and_merges_are_made(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    text = "date: 2024-02-28\ncold: {ttft_ms: &t {mean: 3, p50: 1}}\nwarm: {ttft_ms: {<<: *t, mean: 2}}\n"
    path.write_text(text, encoding="utf-8-sig")
    figures = load(path, FiguresFile)
    assert figures.date == "2024-02-28"
    assert (figures.warm.ttft_ms.mean, figures.warm.ttft_ms.p50) == (2, 1)


def test_a_file_of_another_kind_has_its_first_findings_said_and_the_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(SIDES + "".join(f"k{i}: 1\n" for i in range(9000)), encoding="utf-8")
    with pytest.raises(PlanError) as refused:
        load(path, FiguresFile)
    lines = str(refused.value).splitlines()
    assert len(lines) == MOST_FINDINGS + 1
    assert lines[-1] == f"{path}: and 8,980 more"


@pytest.mark.parametrize("value", ["'inf'", "'nan'", "'1e999'", "1e999", ".inf"])
def test_no_number_of_a_plan_is_infinite(tmp_path: Path, value: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(f"servers: {value}\n", encoding="utf-8")
    with pytest.raises(PlanError, match="finite number"):
        load(path, EconomicsPlan)


def test_numbers_may_be_written_as_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("servers: 1e2\nserver_cost_per_month: 5E+4\n", encoding="utf-8")
    assert load(path, EconomicsPlan).servers == 100


def test_a_value_is_shown_in_one_short_line() -> None:
    assert clipped("a\n" * 1000, 12) == "'a\\na\\na\\na…"
    assert clipped(10**6000) == "a number of thousands of digits"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("requests," + "1" * 6000, "does not fit"),
        ("cold.ttft_ms.mean," + "1" * 6000, "does not fit"),
        ("cold.ttft_ms.mean,nan", "does not fit"),
        ("cold.ttft_ms.mean,1e300", "less than or equal to 1000000000000000000"),
        ("cold.ttft_ms.mean,1e-300", "smaller than any number here but 0"),
        ("cold.ttft_ms.mean,1\ncold.ttft_ms,2", ":2: 'cold.ttft_ms' was already given on line 1"),
        ("." * 3000 + ",1", "unknown key"),
        ("\x1b[31m,1", "unknown key '\\x1b[31m'"),
        ('"' + "x" * 200_000 + '",1', "no CSV table"),
    ],
    ids=["digits", "float", "nan", "large", "small", "overwritten", "dots", "control", "field"],
)
def test_a_table_is_held_to_the_same(tmp_path: Path, row: str, said: str) -> None:
    path = tmp_path / "f.csv"
    path.write_text(row + "\n", encoding="utf-8")
    with pytest.raises(PlanError) as refused:
        read_figures(path, tmp_path)
    assert said in str(refused.value)
    assert max(map(len, str(refused.value).splitlines())) < len(str(path)) + 500


@pytest.mark.parametrize("text", [text for text, _ in REFUSED.values()])
def test_a_connectors_own_file_is_read_or_refused_in_a_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "l.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        assert isinstance(settings_of(read_file(path), "LMCache's settings"), dict)
    except PlanError as refused:
        assert str(refused).startswith(str(path))  # noqa: PT017 - either is right, a traceback is not


def test_a_connectors_file_of_10_mb_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "l.yaml"
    path.write_text("a: 1\n" * 2_000_000, encoding="utf-8")
    with pytest.raises(PlanError, match="larger than 1 MiB"):
        read_file(path)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a": ' * 100_000, '{"a": ' + "1" * 6000 + "}"])
def test_a_connectors_json_that_nobody_can_mean_is_a_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanError) as refused:
        settings_of(read_file(path), "Mooncake's settings")
    assert len(str(refused.value).splitlines()) == 1


WORDS = [
    "a",
    "b",
    "1",
    "2024-02-30",
    ".inf",
    ".nan",
    "0x",
    "_",
    "~",
    "=",
    "[",
    "]",
    "{",
    "}",
    '"',
    "|",
    ">",
    "#",
    "%",
    "<<",
]
PIECES = st.sampled_from(
    [*WORDS, ": ", "\n", "- ", ", ", "&a ", "*a", "? ", "!!int ", "!!float ", "'", "\t", "  ", "---\n"]
)


@given(st.lists(PIECES, max_size=60).map("".join))
def test_no_text_makes_anything_but_a_value_or_a_line(text: str) -> None:
    try:
        parse(text, "f.yaml").lines()
    except PlanError as refused:
        assert str(refused).startswith("f.yaml")  # noqa: PT017
        assert "\n" not in str(refused)  # noqa: PT017


@given(st.lists(PIECES, max_size=40).map("".join), st.sampled_from([FiguresFile, StackPlan, TargetsPlan, WorkloadPlan]))
def test_no_text_makes_anything_but_a_plan_or_lines(
    tmp_path_factory: pytest.TempPathFactory, text: str, model: type
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "f.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load(path, model, name="x")
    except PlanError as refused:
        assert str(refused).startswith(str(path))  # noqa: PT017
