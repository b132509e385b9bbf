"""The dry run says what a run would put into the store and take out of it, without asking anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mooncake.dry_run import plan_lines
from pytest_mooncake.options import Options
from pytest_mooncake.plan.resolve import resolve


def lines(tmp_path: Path, **options: object) -> dict[str, str]:
    printed = plan_lines(resolve(Options(**options), tmp_path))  # type: ignore[arg-type] # options are what varies
    return {line.split()[0]: " ".join(line.split()[1:]) for line in printed}


def test_the_bytes_and_objects_of_a_cold_round_are_told(tmp_path: Path) -> None:
    said = lines(tmp_path)["stores"]
    assert "252 MB of KV a cold round, 1,920 objects (512 B a token), into 8.6 GB of store" in said
    assert "removed again" in said


def test_what_lies_above_the_budget_would_be_refused(tmp_path: Path) -> None:
    assert lines(tmp_path)["budget"] == "the run will store 0.252 GB of at most 8.59 GB"
    said = lines(tmp_path, store_budget="100MB")["budget"]
    assert said.startswith("REFUSED: the run would store 0.252 GB, the budget is 0.1 GB")


def test_an_attached_store_gives_a_fifth_of_what_is_free(tmp_path: Path) -> None:
    said = lines(tmp_path, url=("http://127.0.0.1:1",))
    assert said["budget"].startswith("20% of what is free in the store")
    assert "told once the model's geometry is known" in said["stores"]
    assert "not known" in lines(tmp_path, url=("http://127.0.0.1:1",), store_budget="1GB")["budget"]


@pytest.mark.parametrize(
    ("times", "said"),
    [(None, "nothing: cold rounds"), ("1", "if it holds no keys of somebody else"), ("2", "whosever keys it holds")],
)
def test_what_would_be_cleared_is_told(tmp_path: Path, times: str | None, said: str) -> None:
    assert said in lines(tmp_path, allow_clear=times)["clears"]


def test_how_it_waits_is_told(tmp_path: Path) -> None:
    assert lines(tmp_path, settle="fixed:5")["settles"] == "5 s by the clock after a cold round"
    assert "counters stand still" in lines(tmp_path)["settles"]
