"""What one version wrote, every later one reads: a recorded run of each schema, and what its own version made of it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_mooncake.api import Outcome, read_run, report
from pytest_mooncake.history.jsonl import EXPORT_SCHEMA, import_file
from pytest_mooncake.history.store import open_history
from pytest_mooncake.history.store_run import stored_run
from pytest_mooncake.journal.reading import READABLE
from pytest_mooncake.records import REPORT_SCHEMA
from pytest_mooncake.report.content.document import as_text

RECORDS = Path(__file__).resolve().parents[1] / "data" / "records"
VERSIONS = sorted(path.name for path in RECORDS.iterdir() if path.is_dir())
JUDGED_ANEW: Mapping[str, frozenset[str]] = {"journal-1": frozenset({"evidence", "audit"})}
"""Parts of `report.json` that come out otherwise today: faults that were blamed wrongly, laws that were too few."""


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(version: str) -> Outcome:
    return read_run(RECORDS / version)


def told(path: Path) -> Any:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return json.loads(text)


def differences(then: Any, now: Any, at: str = "") -> Iterator[str]:
    """What stood there then and stands there no longer, or otherwise; what is new beside it is none."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key, value in then.items():
            yield from differences(value, now.get(key, "absent"), f"{at}/{key}")
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for place, (one, other) in enumerate(zip(then, now, strict=True)):
            yield from differences(one, other, f"{at}/{place}")
    elif then != now and not (isinstance(then, float) and then == pytest.approx(now, rel=1e-9)):
        yield f"{at}: {then!r} then, {now!r} now"


def test_there_is_a_recorded_run_of_every_schema() -> None:
    assert {told(RECORDS / name / "plan.json")["schema"] for name in VERSIONS} == set(READABLE)
    assert {told(RECORDS / name / "report.json.gz")["schema"] for name in VERSIONS} == {REPORT_SCHEMA}
    first_lines = {(RECORDS / name / "history.jsonl").read_text(encoding="utf-8").splitlines()[0] for name in VERSIONS}
    assert {json.loads(line)["schema"] for line in first_lines} == {EXPORT_SCHEMA}


def test_a_recorded_run_comes_to_the_verdict_that_its_own_version_gave_it(version: str, run: Outcome) -> None:
    then = told(RECORDS / version / "verdict.json")
    assert run.recorded.run_notes.damage == ()
    assert run.recorded.complete
    assert run.judgement.verdict == then["verdict"] == "PASS"
    claims = {claim.id: claim for claim in run.judgement.claims}
    assert {one: claim.verdict for one, claim in claims.items()} == {
        one: claim["verdict"] for one, claim in then["claims"].items()
    }
    for one, claim in then["claims"].items():
        assert claims[one].estimate_ratio == pytest.approx(claim["estimate_ratio"])
        assert claims[one].ci_ratio == pytest.approx(claim["ci_ratio"])


def test_its_report_holds_what_it_held_then(version: str, run: Outcome) -> None:
    then, now = told(RECORDS / version / "report.json.gz"), json.loads(as_text(run.report))
    anew = JUDGED_ANEW.get(version, frozenset())
    assert list(differences({k: v for k, v in then.items() if k not in anew}, now)) == []
    assert {e["status"] for e in now["evidence"]} == {e["status"] for e in then["evidence"]}
    assert "broken" not in {e["status"] for e in now["evidence"]}


def test_its_reports_can_be_written_in_both_languages(run: Outcome, tmp_path: Path) -> None:
    english, chinese = (report(run, tmp_path / lang, lang=lang) for lang in ("en", "zh"))
    assert [path.name for path in english] == [path.name for path in chinese]
    assert {"report.json", "report.md", "report.html", "verdict.json"} <= {path.name for path in english}
    texts = [(tmp_path / lang / "report.md").read_text(encoding="utf-8") for lang in ("en", "zh")]
    assert "PASS" in texts[0]
    assert "通过" in texts[1]


def test_its_place_in_a_history_can_be_imported_and_is_the_one_it_would_get_today(
    version: str, run: Outcome, tmp_path: Path
) -> None:
    with open_history(f"sqlite:///{tmp_path / 'history.sqlite'}") as history:
        import_file(history, RECORDS / version / "history.jsonl")
        (stored,) = history.runs()
    today = stored_run(run.recorded, run.view, run.judgement)
    assert (stored.id, stored.verdict, stored.label) == (today.id, today.verdict, today.label)
    assert dict(stored.metrics) == pytest.approx({name: today.metrics[name] for name in stored.metrics})
    assert stored.fingerprint == today.fingerprint
