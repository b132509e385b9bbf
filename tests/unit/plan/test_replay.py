"""A record is judged by what is given when it is judged again, and else as it was run."""

from __future__ import annotations

from pathlib import Path

from pytest_mooncake.plan.options import Options
from pytest_mooncake.plan.replay import judged_by
from pytest_mooncake.plan.resolve import resolve


def test_without_other_targets_a_record_is_judged_as_it_was(tmp_path: Path) -> None:
    recorded = resolve(Options(stack="simulated"), tmp_path)
    assert judged_by(recorded, Options(stack="local", requests="3"), tmp_path) == recorded


def test_targets_costs_and_language_may_be_others(tmp_path: Path) -> None:
    recorded = resolve(Options(stack="simulated"), tmp_path)
    (tmp_path / "mine.yaml").write_text("claims:\n  - {metric: ttft_p90, target: down 10 %}\n", encoding="utf-8")
    (tmp_path / "costs.yaml").write_text("servers: 77\n", encoding="utf-8")
    given = Options(targets="mine.yaml", lang="zh", goodput="ttft_ms<=9", economics="costs.yaml")
    other = judged_by(recorded, given, tmp_path)
    assert [claim.metric for claim in other.targets.claims] == ["ttft_p90", "goodput"]
    assert (other.lang, other.economics.servers) == ("zh", 77)
    assert (other.stack, other.workload, other.run_id) == (recorded.stack, recorded.workload, recorded.run_id)


def test_a_service_level_alone_is_added_to_the_records_own_targets(tmp_path: Path) -> None:
    recorded = resolve(Options(stack="simulated"), tmp_path)
    counted = judged_by(recorded, Options(goodput="ttft_ms<=9"), tmp_path)
    assert counted.targets.claims[:-1] == recorded.targets.claims
    assert counted.targets.claims[-1].metric == "goodput"
