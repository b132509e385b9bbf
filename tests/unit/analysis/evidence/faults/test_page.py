"""The table of blame in the documentation is the one that the checks use."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pytest_mooncake.analysis.evidence.checks import cold, correct_text, correctness, every_round, warm
from pytest_mooncake.analysis.evidence.faults import SECTIONS, Blame, blame_of, fault_of
from pytest_mooncake.analysis.evidence.faults.page import page
from pytest_mooncake.records import Fault, Kind
from tests.support.attached_cluster import Cluster, evidence_of

ROOT = Path(__file__).resolve().parents[5]
OBSERVATIONS = [one for _, section in SECTIONS for one in section]


def test_the_page_is_generated_from_the_catalogue() -> None:
    stands = (ROOT / "docs" / "explanation" / "faults.md").read_text(encoding="utf-8")
    assert stands == page(), "python -m pytest_mooncake.analysis.evidence.faults.page > docs/explanation/faults.md"


def test_every_observation_has_one_name_and_a_reason() -> None:
    assert len({one.id for one in OBSERVATIONS}) == len(OBSERVATIONS)
    assert all(one.seen and one.why and "|" not in one.seen + one.why for one in OBSERVATIONS)


def test_every_check_of_a_round_is_in_the_catalogue() -> None:
    known = {one.check for one in OBSERVATIONS}
    for this in Cluster(chunk=256).trial([9000, 2048]):
        assert set(evidence_of(this, this if this.kind is Kind.WARM else None)) <= known


@pytest.mark.parametrize("module", [every_round, cold, warm, correctness, correct_text])
def test_no_check_names_a_fault_by_itself(module: object) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    naming = {
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Fault"
    }
    assert naming == set()


def test_what_a_shared_store_shows_is_blamed_by_another_column() -> None:
    assert blame_of("no_evictions", "evicted_served") is Blame.PRODUCT
    assert blame_of("no_evictions", "evicted_served", shared=True) is Blame.NONE
    assert fault_of("warm_external_tokens") is Fault.PRODUCT
    assert fault_of("cold_no_external_hits", shared=True) is Fault.INSTRUMENT
    with pytest.raises(KeyError):
        blame_of("no_evictions", "unheard_of")


def test_a_shared_store_is_never_blamed_for_more_than_one_of_our_own() -> None:
    order = [Blame.NONE, Blame.UNKNOWN, Blame.INSTRUMENT, Blame.PRODUCT]
    assert all(order.index(one.shared) <= order.index(one.ours) for one in OBSERVATIONS)
