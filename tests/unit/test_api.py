"""The public face: light to import, whole, documented, and enough to use the product without pytest."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_mooncake import api
from pytest_mooncake.plugin import fixtures
from scripts.api_page import page

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "tests" / "data" / "records" / "journal-2"
FIGURES = ROOT / "tests" / "data" / "spec_figures.yaml"
HEAVY = (
    "aiohttp",
    "asyncio",
    "bokeh",
    "jinja2",
    "numpy",
    "orjson",
    "pydantic",
    "pytest",
    "scipy",
    "sqlalchemy",
    "yaml",
)


def test_importing_it_loads_nothing_but_the_standard_library() -> None:
    told = f"import sys, pytest_mooncake.api; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_name_of_it_is_there_and_documented_and_no_other_is() -> None:
    for name in api.__all__:
        value = getattr(api, name)
        assert isinstance(value, str) or inspect.getdoc(value), name
    assert set(api.__all__) <= set(dir(api))
    assert sorted(api.__all__) == sorted(set(api.__all__))
    with pytest.raises(AttributeError, match="no attribute 'Verdikt'"):
        _ = api.Verdikt  # type: ignore[attr-defined]


def test_what_is_loaded_when_used_is_what_the_types_say() -> None:
    text = inspect.getsource(api).partition("if TYPE_CHECKING:")[2].partition("__all__ = [")[0]
    for name, (module, its_name) in api._LOADED_WHEN_USED.items():
        assert name in api.__all__
        imported = next(line for line in text.splitlines() if f"from {module} import" in line and its_name in line)
        assert name in imported


def test_the_page_is_generated_from_the_module() -> None:
    stands = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert stands == page(), "python -m scripts.api_page > docs/reference/api.md"


def test_every_fixture_has_the_prefix_and_its_short_name_is_an_alias_of_it() -> None:
    for name in (name for name in fixtures.__all__ if not name.startswith("mooncake_")):
        assert f"mooncake_{name}" in fixtures.__all__
        assert inspect.getdoc(getattr(fixtures, name)) == f"Short for `mooncake_{name}`."


def test_a_recorded_run_is_read_and_judged_and_nothing_is_written() -> None:
    before = {path.name: path.read_bytes() for path in RECORD.iterdir()}
    run = api.read_run(str(RECORD))
    assert isinstance(run, api.Outcome)
    assert run.judgement.verdict is api.Verdict.PASS
    assert run.files == ()
    assert run.directory == RECORD
    assert run.warm.summary.requests == 9
    assert all(one.kind is api.Kind.COLD for one in run.cold.rounds)
    assert {path.name: path.read_bytes() for path in RECORD.iterdir()} == before


def test_what_is_no_record_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(api.JournalError, match=r"plan\.json"):
        api.read_run(tmp_path)


def test_reports_of_a_run_are_written_where_one_says_and_in_its_language(tmp_path: Path) -> None:
    run = api.read_run(RECORD)
    files = api.report(run, tmp_path / "out", lang="zh")
    assert all(path.is_file() and path.parent == tmp_path / "out" for path in files)
    assert json.loads((tmp_path / "out" / "verdict.json").read_bytes())["verdict"] == "PASS"
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in api.report(run.report, str(tmp_path / "out"), lang="zh")] == before


def test_reports_never_stand_among_the_files_of_another_run_or_of_somebody_else(tmp_path: Path) -> None:
    run = api.read_run(RECORD)
    (tmp_path / "report.md").write_text("mine", encoding="utf-8")
    with pytest.raises(api.UsageError, match=r"report\.md is there already"):
        api.report(run, tmp_path)
    (tmp_path / "plan.json").write_text("{}", encoding="utf-8")
    with pytest.raises(api.UsageError, match="the record of another run"):
        api.report(run, tmp_path)
    with pytest.raises(api.UsageError, match="lang fr: expected one of en, zh"):
        api.report(run, tmp_path / "out", lang="fr")  # type: ignore[arg-type]


def given() -> Any:
    return yaml.safe_load(FIGURES.read_text(encoding="utf-8"))


def test_figures_are_judged_from_a_file_or_a_mapping_alike(tmp_path: Path) -> None:
    of_file, of_mapping = api.judge(FIGURES, economics="default"), api.judge(given(), economics="default")
    assert of_file.judgement.claims == of_mapping.judgement.claims
    assert of_file.verdict is of_mapping.verdict
    assert (of_file.run_id, of_mapping.run_id) == (FIGURES.stem, "figures")
    assert api.report(of_mapping, tmp_path)


def test_texts_in_a_mapping_keep_the_digits_that_a_number_loses() -> None:
    sides = {"ttft_ms": {"mean": "1200"}, "request_throughput": "2.50"}
    told = api.judge({"cold": sides, "warm": {**sides, "request_throughput": 2.5}}).plan["figures"]["halves"]
    assert told["cold.request_throughput"] == pytest.approx(0.005)
    assert told["warm.request_throughput"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cold": {"ttft_mss": {"mean": 1}}}, "figures: unknown key 'cold.ttft_mss'; did you mean 'ttft_ms'?"),
        ({"warm": None}, "figures: value None of 'warm' does not fit"),
        ({"cold": {"request_throughput": float("nan")}}, "figures: value nan of 'cold.request_throughput'"),
        ({"cold": {"requests": True}}, "figures: .*cold.requests"),
    ],
)
def test_a_mapping_that_says_what_does_not_belong_is_refused_without_line_numbers(
    change: Mapping[str, object], said: str
) -> None:
    with pytest.raises(api.PlanError, match=said):
        api.judge({**given(), **change})


def test_names_of_targets_and_costs_are_looked_up_from_the_base(tmp_path: Path) -> None:
    with pytest.raises(api.UsageError, match="targets defualt: no such name; did you mean 'default'"):
        api.judge(given(), targets="defualt")
    own = tmp_path / "fixtures" / "targets" / "own.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("claims:\n  - metric: ttft_mean\n    target: down >= 99 %\n", encoding="utf-8")
    found = api.judge(given(), targets="own", base=tmp_path)
    assert [target.metric for target in found.targets] == ["ttft_mean"]


def test_figures_of_a_claim_stand_in_one_line() -> None:
    run = api.read_run(RECORD)
    assert api.facts_line(run.judgement.claims[0]).startswith("metric=ttft_mean, verdict=PASS, ratio=0.18")


def test_a_recorded_plan_and_stack_can_be_held_against_each_other() -> None:
    run = api.read_run(RECORD)
    assert api.misfit(run.recorded.plan, run.view) is None
    assert all(isinstance(one.severity, api.Severity) for one in api.lint_stack(run.recorded.plan, run.view))
