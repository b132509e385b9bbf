"""A report of answers whose chunks nobody tells the tokens of: in every form, with ITL said to be unknown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pytest_mooncake.plan.models import EconomicsPlan
from pytest_mooncake.records import Round
from pytest_mooncake.report.content.build import build
from pytest_mooncake.report.content.document import Report
from pytest_mooncake.report.formats.terminal import summary_lines
from pytest_mooncake.report.formats.write import write_reports
from tests.support import runs
from tests.support.report_schema import validated

SAID = "ITL unknown: the server does not tell how many tokens each chunk carries (28 of 28 answers)."
SAID_ZH = "ITL 未知：服务端未告知每个数据块含多少 Token（28/28 个回复）。"


def unsplit(one: Round) -> Round:
    return replace(one, requests=tuple(replace(r, chunk_tokens=(), output_tokens=12) for r in one.requests))


def report() -> Report:
    rounds = tuple(map(unsplit, runs.rounds()))
    return build(runs.plan(), runs.view(), rounds, runs.judgement(), runs.ENVIRONMENT, economics=EconomicsPlan())


def test_every_form_of_the_report_says_that_itl_is_unknown_and_shows_gaps_instead(tmp_path: Path) -> None:
    files = {path.name: path for path in write_reports(report(), tmp_path, lang="en")}
    document = validated(files["report.json"].read_text(encoding="utf-8"))
    assert SAID in document["notes"][-1]
    warm = document["summary"]["warm"]
    assert (warm["itl_ms"]["mean"], warm["chunk_gap_ms"]["mean"], warm["unsplit"]) == (None, 10.0, 12)
    assert warm["tpot_ms"]["mean"] == 20 / (12 - 4)
    for name in ("report.md", "report.html"):
        assert SAID.partition(" (")[0] in files[name].read_text(encoding="utf-8")
    assert SAID in " ".join(summary_lines(report(), columns=1000))
    assert "NaN" not in json.dumps(document)


def test_it_is_said_in_chinese(tmp_path: Path) -> None:
    write_reports(report(), tmp_path, lang="zh")
    assert SAID_ZH in "".join(summary_lines(report(), lang="zh", columns=1000))
    assert SAID_ZH.partition("（")[0] in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_where_every_chunk_is_told_nothing_is_said() -> None:
    assert not any("ITL" in note for note in runs.report().notes)
