"""Reports as people and pipelines meet them: files, hooks, JUnit, GitHub, the terminal, and the report command.

One run is recorded; everything here is a replay of it, which sends nothing and takes a moment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner
from wcwidth import wcswidth

from pytest_mooncake.cli import app
from pytest_mooncake.errors import JournalError, UsageError
from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.resolve import resolve
from pytest_mooncake.run.progress import Silent
from pytest_mooncake.run.runner import conduct, open_stack
from tests.plugin.conftest import Run

Replay = Callable[..., pytest.RunResult]
SLOW = """\
kind: simulated
simulated:
  prefill_us_per_token: 500
  cached_us_per_token: 150
"""
"""So slow that the client stays valid however busy the machine is: what the run comes to is asserted on."""
FILES = ("report.json", "report.md", "report.html", "verdict.json", "metrics.prom", "comment.md")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quick run on the simulated stack: INCONCLUSIVE."""
    place = tmp_path_factory.mktemp("recorded")
    (place / "slow.yaml").write_text(SLOW, encoding="utf-8")
    options = Options(
        stack="slow.yaml", requests="6", prompt_tokens="1024", output_tokens="8", concurrency="2", quick=True
    )
    plan = resolve(options, place)
    with open_stack(plan, place / "logs", Silent()) as view:
        conduct(plan, view, place / "run", Silent())
    return place / "run"


@pytest.fixture
def replay(suite: Run, recorded: Path, monkeypatch: pytest.MonkeyPatch) -> Replay:
    """Replay the recorded run with further arguments for pytest."""
    for variable in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "NO_COLOR", "FORCE_COLOR", "PY_COLORS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def again(*arguments: str, where: str = "acceptance/test_performance.py") -> pytest.RunResult:
        return suite(f"--mooncake-replay={recorded}", "--mooncake-report=again", *arguments, where=where)

    return again


def summary_of(result: pytest.RunResult) -> list[str]:
    """The lines of the plugin's own section."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in result.outlines]
    start = next(n for n, line in enumerate(lines) if re.fullmatch(r"=+ mooncake =+", line))
    return lines[start + 1 : next(n for n in range(start + 1, len(lines) + 1) if n == len(lines) or "====" in lines[n])]


def test_another_writers_file_is_written_and_listed(replay: Replay, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        **{
            "acceptance/conftest": """
                def pytest_mooncake_write_report(report, directory, lang):
                    path = directory / "own.csv"
                    path.write_text(f"{report.verdict.value},{lang}", encoding="utf-8")
                    return path

                def pytest_mooncake_report_written(report, directory, files):
                    (directory / "seen").write_text(files[-1].name, encoding="utf-8")
            """
        }
    )
    result = replay()

    assert (pytester.path / "again" / "own.csv").read_text(encoding="utf-8") == "INCONCLUSIVE,en"
    assert (pytester.path / "again" / "seen").read_text(encoding="utf-8") == "own.csv"
    result.stdout.fnmatch_lines(["*report.json*", "*own.csv*"])


def test_a_report_hook_that_raises_changes_nothing_but_a_line(replay: Replay, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        **{"acceptance/conftest": "def pytest_mooncake_write_report(report):\n    raise OSError('no')\n"}
    )
    result = replay()

    assert result.ret == 0
    result.stdout.fnmatch_lines(["*INCONCLUSIVE*", "WARNING: a report hook of another plugin failed: OSError: no"])
    assert "Traceback" not in result.stdout.str()


def test_junit_holds_the_facts_of_claims_and_run_and_repeats_them_in_the_text(
    replay: Replay, pytester: pytest.Pytester
) -> None:
    result = replay("--junitxml=junit.xml", "-W", "error", where="acceptance")
    assert "warnings" not in result.parseoutcomes()

    root = ElementTree.parse(pytester.path / "junit.xml").getroot()
    (case,) = [c for c in root.iter("testcase") if c.get("name") == "test_claim[ttft_mean]"]
    held = {p.get("name"): p.get("value") for p in case.findall("properties/property")}
    assert held["mooncake.metric"] == "ttft_mean"
    assert held["mooncake.verdict"] == held["mooncake.run_verdict"] == "INCONCLUSIVE"
    assert 0 < float(str(held["mooncake.ratio"])) < 1
    told = case.find("skipped")
    assert told is not None, "a quick run describes its claims"
    assert f"metric=ttft_mean, verdict=INCONCLUSIVE, ratio={held['mooncake.ratio']}" in str(told.text)
    of_run = {p.get("name"): p.get("value") for p in root.findall("testsuite/properties/property")}
    assert (of_run["mooncake.verdict"], of_run["mooncake.simulated"]) == ("INCONCLUSIVE", "true")
    assert of_run["mooncake.gate.correctness"] == "made"


def test_without_the_junit_plugin_the_run_is_the_same(replay: Replay) -> None:
    assert replay("-p", "no:junitxml").ret == 0


def test_on_github_the_step_gets_a_summary_and_one_annotation(
    replay: Replay, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "step.md"))
    result = replay()

    assert len([line for line in result.outlines if line.startswith("::warning title=pytest-mooncake")]) == 1
    assert (pytester.path / "step.md").read_text(encoding="utf-8").startswith("## pytest-mooncake: INCONCLUSIVE\n")
    comment = (pytester.path / "again" / "comment.md").read_text(encoding="utf-8")
    assert len(comment) < 65_536
    assert comment.startswith("<!-- pytest-mooncake -->\n## pytest-mooncake: INCONCLUSIVE\n")


def test_elsewhere_no_workflow_command_is_printed(replay: Replay) -> None:
    assert "::warning" not in replay().stdout.str()


@pytest.mark.parametrize(
    ("arguments", "variables", "coloured"),
    [
        ((), {}, False),  # no terminal
        (("--color=yes",), {}, True),
        (("--color=no",), {"FORCE_COLOR": "1"}, False),
        ((), {"FORCE_COLOR": "1"}, True),
        ((), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_is_where_pytest_has_it(
    replay: Replay,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    variables: dict[str, str],
    coloured: bool,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text = replay(*arguments).stdout.str()

    assert ("Verdict: \x1b[" in text) is coloured
    assert ("\x1b" in text) is coloured


@pytest.mark.parametrize(("columns", "limit"), [("50", 60), ("66", 66), ("100", 100), ("300", 120)])
def test_the_summary_keeps_to_the_width_of_the_terminal(
    replay: Replay, monkeypatch: pytest.MonkeyPatch, columns: str, limit: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = [line for line in summary_of(replay()) if not line.startswith("Files")]

    assert limit - 20 < max(map(wcswidth, lines)) <= limit


def test_quiet_verbose_and_traceback_options_do_what_they_do_elsewhere(replay: Replay) -> None:
    usual = summary_of(replay("-rA", "--tb=line"))
    quiet = summary_of(replay("-q"))
    quietest = replay("-q", "-q").outlines
    verbose = summary_of(replay("-v"))

    assert any("█" in line for line in usual)
    assert not any("█" in line for line in quiet)
    assert any(line.startswith("TTFT (mean)") for line in quiet)
    assert "Verdict: INCONCLUSIVE" in quietest
    assert not any(line.startswith("TTFT (mean)") for line in quietest)
    assert len(verbose) > len(usual) > len(quiet)
    for lines in (usual, quiet, verbose):
        assert "Verdict: INCONCLUSIVE" in lines


@pytest.mark.parametrize("style", ["long", "line", "native"])
def test_no_traceback_style_shows_the_inside_of_the_plugin(replay: Replay, style: str) -> None:
    result = replay(f"--tb={style}")

    assert "Traceback" not in result.stdout.str()
    assert "pytest.fail(" not in result.stdout.str()


def test_that_nothing_real_was_measured_is_said_once_on_the_terminal(replay: Replay) -> None:
    lines = [line for line in replay("-rN").outlines if "SIMULATED" in line]

    assert lines == ["SIMULATED: these figures say nothing about a real stack"]


def command(*arguments: object) -> bytes:
    result = CliRunner().invoke(app.app, ["report", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    assert result.exit_code == 0
    return result.stdout_bytes


@pytest.mark.parametrize("format", ["md", "html", "json", "junit", "github", "openmetrics"])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_recorded_run_is_reported_again_the_same_bytes_every_time(recorded: Path, format: str, lang: str) -> None:
    first = command(recorded, "--format", format, "--lang", lang)

    assert first == command(recorded, "--format", format, "--lang", lang)
    assert len(first) > 500


def test_the_report_command_gives_what_the_run_wrote_itself(recorded: Path, tmp_path: Path) -> None:
    told = command(recorded, "--format", "all", "--output", tmp_path / "out").decode()

    assert told.count("wrote ") == 9
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (recorded / name).read_bytes()
    assert not (tmp_path / "out" / "plan.json").exists()


def test_one_format_is_written_alone_and_the_record_is_left_alone(recorded: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in recorded.iterdir() if path.is_file()}
    command(recorded, "--format", "github", "--lang", "zh", "--output", tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {"summary.md", "comment.md", "annotation.txt"}
    assert {path.name: path.read_bytes() for path in recorded.iterdir() if path.is_file()} == before


def test_a_report_that_cannot_be_made_is_refused_in_one_line(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for arguments, error, words in (
        (("nowhere",), JournalError, "nowhere holds no run"),
        ((recorded, "--format", "pdf"), UsageError, "--format pdf: expected one of json, md, html"),
        ((recorded, "--lang", "fr"), UsageError, "--lang fr: expected one of en, zh"),
        ((recorded, "--format", "all"), UsageError, "give --output DIR"),
        ((recorded, "--output", tmp_path / "file"), UsageError, "cannot be written to"),
    ):
        with pytest.raises(error, match=words) as refused:
            command(*arguments)
        assert "\n" not in str(refused.value)


@pytest.mark.full
def test_the_cold_tax_is_measured_on_a_stack_without_connector_and_carries_the_business_case(
    suite: Run, pytester: pytest.Pytester
) -> None:
    (pytester.path / "fixtures" / "stacks" / "slow.yaml").write_text(SLOW, encoding="utf-8")
    small = ("--mooncake-requests=4", "--mooncake-prompt-tokens=512", "--mooncake-output-tokens=4")
    result = suite("--mooncake-stack=slow", *small, "--mooncake-quick", "--mooncake-cold-tax", "--mooncake-report=tax")

    result.stdout.fnmatch_lines(["*cold tax: cold rounds on an engine without a connector*", "against an engine*"])
    report = json.loads((pytester.path / "tax" / "report.json").read_text(encoding="utf-8"))
    assert report["cold_tax"]["rounds"] == 3
    assert report["economics"]["basis"] == "without_cache"
    assert report["protocol"]["rounds"] == 2
    assert not [e for e in report["evidence"] if e["status"] == "broken"]


def test_a_cold_tax_that_cannot_be_measured_is_refused_before_anything_starts(suite: Run) -> None:
    result = suite("--mooncake-url=http://127.0.0.1:9", "--mooncake-cold-tax")

    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--mooncake-cold-tax starts an engine without the connector; with --mooncake-url*"])
