"""`pytest-mooncake history` on a file, as people call it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mooncake.cli import app
from pytest_mooncake.history.store import open_history
from tests.support.made_runs import FINGERPRINT, FOUND, made_run

Call = Callable[..., tuple[int, str, str]]
OTHER = "e" * 24


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Exit code, standard output and standard error of a call in a directory with a history of four runs."""
    monkeypatch.chdir(tmp_path)
    with open_history("sqlite:///mooncake-history.sqlite") as history:
        history.add(
            made_run("run-1", label="v1"),
            made_run("run-2", {"warm.ttft_mean_ms": 110.0}, label="v2", started_at="2026-01-02T00:00:00+00:00"),
            made_run("run-3", label="v3", started_at="2026-01-03T00:00:00+00:00", fingerprint=OTHER,
                     parts={"workload.prompt_tokens": 16384}),
            made_run("run-4", label="bad\x1b[31m", started_at="2025-12-03T00:00:00+00:00"),
        )  # fmt: skip
        history.add_finding(FOUND)

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["pytest-mooncake", "history", *arguments])
        with pytest.raises(SystemExit) as ended:
            app.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return called


def test_runs_are_listed_oldest_first_without_control_characters(call: Call) -> None:
    code, out, _ = call("list")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[2:]] == ["run-4", "run-1", "run-2", "run-3"]
    assert "\x1b" not in out


def test_a_list_can_be_of_one_label_or_fingerprint(call: Call) -> None:
    assert "run-2" not in call("list", "--label", "v1")[1]
    assert [line.split()[1] for line in call("list", "--fingerprint", "eee")[1].splitlines()[2:]] == ["run-3"]
    assert "no such run" in call("list", "--label", "v9")[1]


def test_a_fingerprint_that_is_none_is_said(call: Call) -> None:
    code, _, err = call("list", "--fingerprint", "0")
    assert (code, err.count("\n")) == (4, 1)
    assert "--fingerprint 0" in err


def test_a_run_is_shown_with_what_was_found_about_it(call: Call) -> None:
    call("accept", "v1", "--why", "first", "--by", "somebody")
    _, out, _ = call("show", "v1")
    for part in ("run-1", "vllm", "workload.prompt_tokens", FOUND.words, "accepted by somebody", "0.09 to 0.11"):
        assert part in out


def test_two_releases_are_compared_by_their_ratios(call: Call) -> None:
    code, out, _ = call("compare", "v1", "v2")
    row = next(line.split() for line in out.splitlines() if line.startswith("warm.ttft_mean_ms"))
    assert code == 0
    assert row == ["warm.ttft_mean_ms", "100", "110", "1.1", "worse"]


def test_releases_of_other_fingerprints_are_not_compared(call: Call) -> None:
    code, out, err = call("compare", "v1", "v3")
    assert (code, out) == (4, "")
    assert "not comparable" in err
    assert "workload.prompt_tokens 16384 here, 4096 there" in err


@pytest.mark.parametrize(
    "arguments", [("show", "v9"), ("compare", "v1", "v9"), ("accept", "v9", "--why", "x"), ("trend", "--label", "v9")]
)
def test_a_label_that_matches_nothing_is_one_line(call: Call, arguments: tuple[str, ...]) -> None:
    code, _, err = call(*arguments)
    assert (code, err.count("\n")) == (4, 1)


def test_a_trend_is_of_the_newest_fingerprint_and_carries_what_was_found(call: Call) -> None:
    assert f"fingerprint {OTHER}, 1 run," in call("trend")[1]
    out = call("trend", "--fingerprint", FINGERPRINT, "--metric", "warm.ttft_mean_ms")[1]
    assert [line.split()[1] for line in out.splitlines()[3:]] == ["bad?[31m", "v1", "v2"]
    assert "alarm warm.ttft_mean_ms" in out


def test_a_metric_that_no_run_has_is_answered_with_what_there_is(call: Call) -> None:
    code, _, err = call("trend", "--metric", "warm.tftt_mean_ms")
    assert code == 4
    assert "did you mean warm.ttft_mean_ms" in err


def test_runs_without_a_valid_trial_are_shown_as_what_they_are(call: Call) -> None:
    with open_history("sqlite:///mooncake-history.sqlite") as history:
        bare = replace(made_run(label="bare", started_at="2026-03-01T00:00:00+00:00"), metrics={}, rounds=(), claims=())
        history.add(*(replace(bare, id=run_id, verdict="INVALID", fingerprint="d" * 24) for run_id in ("b-1", "b-2")))
    assert "INVALID" in call("trend")[1]
    assert "neither has a valid trial" in call("compare", "b-1", "b-2")[1]
    assert "claim" not in call("show", "b-1")[1]
    assert "no run has any" in call("trend", "--metric", "warm.ttft_mean_ms")[2]
    assert "run b-2 is INVALID" in call("accept", "bare", "--why", "x")[2]


def test_a_worse_release_is_accepted_only_when_its_loss_is_named(call: Call) -> None:
    assert call("accept", "v1", "--why", "first")[0] == 0
    code, _, err = call("accept", "v2", "--why", "newer")
    assert code == 4
    assert "warm.ttft_mean_ms is 10.0% worse" in err
    code, out, _ = call("accept", "v2", "--why", "newer", "--although", "warm.ttft_mean_ms", "--by", "me")
    assert (code, out) == (0, f"accepted by me: v2 (1 run, fingerprint {FINGERPRINT})\n")


def test_a_history_travels_as_a_file(call: Call, tmp_path: Path) -> None:
    assert call("export", "all.jsonl")[0] == 0
    code, out, _ = call("import", "all.jsonl", "--history", "sqlite:///second.sqlite")
    assert code == 0
    assert "5 records, 5 of them new" in out
    assert call("list", "--history", "sqlite:///second.sqlite")[1] == call("list")[1]
    assert not list(tmp_path.glob("*.part"))


def test_half_a_file_is_not_imported(call: Call, tmp_path: Path) -> None:
    call("export", "all.jsonl")
    (tmp_path / "half.jsonl").write_bytes((tmp_path / "all.jsonl").read_bytes()[:-30])
    code, _, err = call("import", "half.jsonl", "--history", "sqlite:///second.sqlite")
    assert (code, err.count("\n")) == (4, 1)
    assert "nothing was imported" in err
    assert "no such run" in call("list", "--history", "sqlite:///second.sqlite")[1]


def test_otava_gets_its_files(call: Call, tmp_path: Path) -> None:
    assert call("export", "--otava", "otava", "--fingerprint", FINGERPRINT)[0] == 0
    assert len((tmp_path / "otava" / "mooncake.csv").read_text(encoding="utf-8").splitlines()) == 4
    assert "type: csv" in (tmp_path / "otava" / "otava.yaml").read_text(encoding="utf-8")
    assert call("export", "--otava", "otava", "--label", "v9")[0] == 4


@pytest.mark.parametrize("target", ["export", "otava"])
def test_a_place_that_cannot_be_written_to_is_said(call: Call, tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    arguments = ("export", "file/all.jsonl") if target == "export" else ("export", "--otava", "file/otava")
    code, _, err = call(*arguments)
    assert (code, err.count("\n")) == (4, 1)


def test_an_export_without_a_file_goes_to_standard_output(call: Call) -> None:
    code, out, err = call("export")
    assert (code, out.count("\n"), err) == (0, 6, "")


def test_pruning_lists_first_and_removes_on_yes(call: Call) -> None:
    assert "2 runs would be removed" in call("prune", "--keep", "1")[1]
    assert "run-1" in call("list")[1]
    assert "removed 1 run" in call("prune", "--before", "2026-01-01", "--yes")[1]
    assert "run-4" not in call("list")[1]
    assert "nothing to remove" in call("prune", "--before", "2026-01-01")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give --keep N or --before DATE"),
        (("--keep", "1", "--before", "2026-01-01"), "one of the two"),
        (("--before", "yesterday"), "expected a date like 2026-01-31"),
    ],
)
def test_pruning_is_told_what_goes(call: Call, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = call("prune", *arguments)
    assert code == 4
    assert words in err


def test_a_history_that_is_not_there_is_not_made_by_looking(call: Call, tmp_path: Path) -> None:
    code, _, err = call("list", "--history", "sqlite:///none.sqlite")
    assert (code, err.count("\n")) == (4, 1)
    assert not (tmp_path / "none.sqlite").exists()


def test_the_trend_is_written_as_a_page(call: Call, tmp_path: Path) -> None:
    code, out, err = call("trend", "--fingerprint", "fff", "--html", "trend.html")
    text = (tmp_path / "trend.html").read_text(encoding="utf-8")
    assert (code, out, err) == (0, "", "wrote trend.html: 3 runs\n")
    assert text.startswith("<!DOCTYPE html>")
    assert FOUND.words in text
    assert "\x1b" not in text


def test_a_page_that_cannot_be_written_is_said_in_a_line(call: Call) -> None:
    code, _, err = call("trend", "--html", "none/trend.html")
    assert (code, err.count("\n")) == (4, 1)
    assert "none/trend.html: cannot be written" in err


@pytest.mark.parametrize("method", ["tested", "ruptures"])
def test_a_trend_dates_a_shift_and_names_its_release_whoever_finds_it(call: Call, tmp_path: Path, method: str) -> None:
    with open_history(base=tmp_path) as history:
        history.add(*(
            made_run(f"s-{n:02}", {"warm.ttft_mean_ms": (100.0 if n < 14 else 130.0) + n % 3}, label=f"s{n}",
                     started_at=f"2026-03-{n + 1:02}T00:00:00+00:00", fingerprint="5" * 24)
            for n in range(20)
        ))  # fmt: skip
    out = call("trend", "--fingerprint", "555", "--metric", "warm.ttft_mean_ms", "--changes", method)[1]
    assert "shift of warm.ttft_mean_ms: +29." in out
    assert "since s14 (14 runs before, 6 from it on)" in out
