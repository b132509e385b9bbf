"""A history in an SQLite file: what goes in comes out, whole and once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pytest_mooncake.errors import HistoryError, MissingPartError, UsageError
from pytest_mooncake.history.sql import schema
from pytest_mooncake.history.sql.database import Database, migrate, revision_of
from pytest_mooncake.history.store import History, open_history
from pytest_mooncake.history.stored_run import Anchor, Finding, StoredClaim, StoredRound, StoredRun

URL = "sqlite:///history.sqlite"
FINGERPRINT = "a" * 24


def a_run(number: int, **changes: Any) -> StoredRun:
    run = StoredRun(
        id=f"run-{number:03}",
        label=f"v{number // 2}",
        started_at=f"2026-11-24T10:00:{number:02}+00:00",
        verdict="PASS",
        fingerprint=FINGERPRINT,
        parts={"workload.prompt_tokens": 4096, "hardware.cpu": None, "client.api": "auto", "workload.steady": False},
        release={"vllm": "0.32"},
        metrics={"warm.ttft_mean_ms": 0.1 + number, "cold.ttft_mean_ms": 1e3},
        rounds=(
            StoredRound(round=9, kind="cold", requests=30, failed=0, figures={"ttft_p90_ms": 12.5}),
            StoredRound(round=10, kind="warm", requests=30, failed=1),
        ),
        claims=(
            StoredClaim(claim_id="failures", gating=True, verdict="PASS"),
            StoredClaim(claim_id="ttft_mean", gating=True, verdict="PASS", target_ratio=0.4, estimate_ratio=0.2,
                        low_ratio=0.1, high_ratio=0.3),
        ),
    )  # fmt: skip
    return replace(run, **changes)


A_FINDING = Finding(
    kind="alarm",
    fingerprint=FINGERPRINT,
    run_ids=("run-001", "run-002"),
    words="warm mean TTFT +9 %",
    made_at="2026-11-24T11:00:00+00:00",
    metric="warm.ttft_mean_ms",
    run_id="run-002",
    figures={"ratio": 1.09},
)
AN_ANCHOR = Anchor(
    fingerprint=FINGERPRINT, run_ids=("run-001",), label="v0", who="me", at="2026-11-24T12:00:00+00:00", why="first"
)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with open_history(URL, base=tmp_path) as opened:
        yield opened


def test_a_run_comes_out_as_it_went_in(history: History) -> None:
    assert history.add(a_run(1)) == 1
    assert history.runs() == (a_run(1),)
    assert history.run("run-001") == a_run(1)
    assert history.run("run-002") is None


def test_runs_come_oldest_first_and_the_newest_are_kept_by_a_limit(history: History) -> None:
    history.add(a_run(3), a_run(1), a_run(2))
    assert [run.id for run in history.runs()] == ["run-001", "run-002", "run-003"]
    assert [run.id for run in history.runs(limit=2)] == ["run-002", "run-003"]


def test_runs_are_found_by_fingerprint_and_label(history: History) -> None:
    history.add(a_run(1), a_run(2), a_run(3, fingerprint="b" * 24))
    assert [run.id for run in history.runs(fingerprint=FINGERPRINT)] == ["run-001", "run-002"]
    assert [run.id for run in history.runs(label="v1")] == ["run-002", "run-003"]


def test_more_runs_than_one_question_asks_for_keep_their_figures(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_mooncake.history.sql.rows.AT_ONCE", 2)
    history.add(*(a_run(i) for i in range(5)))
    assert history.runs() == tuple(a_run(i) for i in range(5))


def test_a_run_that_is_there_is_not_stored_twice(history: History) -> None:
    history.add(a_run(1))
    turned = replace(a_run(1), rounds=a_run(1).rounds[::-1], claims=a_run(1).claims[::-1])
    assert history.add(turned, a_run(2)) == 1
    assert len(history.runs()) == 2


def test_another_run_of_a_known_id_is_refused_and_nothing_of_the_batch_is_kept(history: History) -> None:
    history.add(a_run(1))
    with pytest.raises(HistoryError, match=r"holds another run run-001: nothing was stored"):
        history.add(a_run(2), a_run(1, verdict="FAIL"))
    assert history.runs() == (a_run(1),)


def test_a_name_is_a_run_or_a_label(history: History) -> None:
    history.add(a_run(1), a_run(2), a_run(3))
    assert history.named("run-002") == (a_run(2),)
    assert history.named("v1") == (a_run(2), a_run(3))


def test_a_name_that_matches_nothing_is_answered_with_what_there_is(history: History) -> None:
    with pytest.raises(UsageError, match="no run there has a label"):
        history.named("v9")
    history.add(a_run(1), a_run(2))
    with pytest.raises(UsageError, match="no run and no label is called 'v9'; newest labels: v1, v0"):
        history.named("v9")


def test_removed_runs_take_their_figures_along_and_leave_findings(history: History, tmp_path: Path) -> None:
    history.add(a_run(1), a_run(2))
    history.add_finding(A_FINDING)
    assert history.remove(["run-001", "run-404"]) == 1
    assert history.runs() == (a_run(2),)
    assert history.findings() == (A_FINDING,)
    with sqlite3.connect(tmp_path / "history.sqlite") as file:
        assert file.execute("select distinct run_id from mooncake_figures").fetchall() == [("run-002",)]


def test_a_finding_is_kept_once_and_never_rewritten(history: History) -> None:
    later = replace(A_FINDING, words="another look", made_at="2026-11-25T11:00:00+00:00")
    assert history.add_finding(A_FINDING, later) == 2
    assert history.add_finding(A_FINDING) == 0
    assert history.findings() == (A_FINDING, later)


def test_findings_are_found_by_kind_fingerprint_and_run(history: History) -> None:
    shift = replace(A_FINDING, kind="change_point", run_id="run-001")
    other = replace(A_FINDING, fingerprint="b" * 24)
    history.add_finding(A_FINDING, shift, other)
    assert history.findings(kind="change_point") == (shift,)
    assert history.findings(run_id="run-001") == (shift,)
    assert history.findings(fingerprint="b" * 24) == (other,)


def test_the_newest_anchor_holds_and_earlier_ones_stay_on_record(history: History) -> None:
    assert history.anchor(FINGERPRINT) is None
    later = replace(AN_ANCHOR, at="2026-11-25T12:00:00+00:00", why="faster")
    assert history.add_all((), (), (later, AN_ANCHOR)) == 2
    assert history.anchor(FINGERPRINT) == later
    assert history.anchors() == (AN_ANCHOR, later)
    assert history.anchor("b" * 24) is None


def test_everything_of_another_history_is_stored_at_once_and_once(history: History) -> None:
    assert history.add_all([a_run(1)], [A_FINDING], [AN_ANCHOR]) == 3
    assert history.add_all([a_run(1)], [A_FINDING], [AN_ANCHOR]) == 0
    with pytest.raises(HistoryError, match="another run"):
        history.add_all([a_run(2), a_run(1, label=None)], [], [])
    assert history.runs() == (a_run(1),)


def test_a_release_is_named_by_its_label_else_by_its_versions() -> None:
    assert a_run(2).release_name == "v1"
    assert a_run(2, label=None).release_name == "vllm 0.32"
    assert a_run(2, label=None, release={}).release_name == "run-002"


def test_the_file_is_beside_where_the_command_was_called(tmp_path: Path) -> None:
    open_history("sqlite:///some.sqlite", base=tmp_path).close()
    assert (tmp_path / "some.sqlite").is_file()


def test_a_history_that_must_be_there_and_is_not_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no history at"):
        open_history(URL, base=tmp_path, must_exist=True)
    assert list(tmp_path.iterdir()) == []


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    open_history(URL, base=tmp_path).close()
    with sqlite3.connect(tmp_path / "history.sqlite") as file:
        file.execute("update mooncake_schema set version_num = '0417'")
    with pytest.raises(HistoryError, match="has schema 0417 and this version knows 0002: upgrade pytest-mooncake"):
        open_history(URL, base=tmp_path)


def test_an_old_schema_migrates_and_keeps_its_runs(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'history.sqlite'}")
    old = a_run(1)
    with engine.begin() as connection:
        migrate(connection, "0001")
        assert revision_of(connection) == "0001"
        row = {"run_id": old.id, "label": old.label, "started_at": old.started_at, "verdict": old.verdict,
               "fingerprint": old.fingerprint, "parts": dict(old.parts), "release": dict(old.release)}  # fmt: skip
        names = [name for name in schema.runs.c.keys() if name != "writer"]  # noqa: SIM118 - a column collection
        table = sa.table("mooncake_runs", *(sa.column(name, schema.runs.c[name].type) for name in names))
        connection.execute(sa.insert(table), row)
    engine.dispose()
    with open_history(URL, base=tmp_path) as history:
        assert history.runs() == (replace(old, metrics={}, rounds=(), claims=(), writer="unknown"),)
        assert history.add(a_run(2)) == 1


def test_the_migrations_make_exactly_the_tables_that_are_read(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(URL, tmp_path)
    with database.reading() as connection:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata) == []
    database.close()


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite").write_text("not a database, only long enough to be told from an empty one" * 20)
    with pytest.raises(HistoryError, match=r"^history sqlite:///.*history.sqlite: file is not a database$"):
        open_history(URL, base=tmp_path)


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="unable to open database file"):
        open_history("sqlite:///nowhere/history.sqlite", base=tmp_path)


def test_a_locked_file_is_told_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_mooncake.history.sql.database.BUSY_S", 0)
    with open_history(URL, base=tmp_path) as history:
        holder = sqlite3.connect(tmp_path / "history.sqlite", isolation_level=None)
        holder.execute("begin immediate")
        with pytest.raises(HistoryError, match="database is locked"):
            history.add(a_run(1))
        holder.execute("rollback")
        holder.close()
        assert history.runs() == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("history.sqlite", "cannot be read"),
        ("mysql://me:secret-word@host/db", "of kind 'mysql'"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("postgresql://me:secret-word@host:port/db", "cannot be read"),
    ],
)
def test_an_address_that_makes_no_sense_is_told_what_was_expected(tmp_path: Path, given: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refusal:
        open_history(given, base=tmp_path)
    assert "postgresql://USER@HOST/DATABASE" in str(refusal.value)
    assert "secret-word" not in str(refusal.value)


def test_a_password_is_never_shown_however_the_server_is_unreachable(tmp_path: Path) -> None:
    url = "postgresql://me:s%2Fcret@127.0.0.1:1/db?sslpassword=other-secret&connect_timeout=2"
    with pytest.raises(HistoryError) as refusal:
        open_history(url, base=tmp_path)
    said = str(refusal.value)
    assert said.startswith("history postgresql+psycopg://me:***@127.0.0.1:1/db: ")
    assert "\n" not in said
    assert all(secret not in said for secret in ("s/cret", "s%2Fcret", "other-secret"))


def test_a_password_that_a_driver_repeats_is_masked(tmp_path: Path) -> None:
    database = Database(URL, tmp_path)
    database.url = sa.make_url("postgresql://me:s%2Fcret@host/db?sslpassword=other")
    cause = ValueError("no way in with s/cret or s%2Fcret or other\nsecond line s/cret")
    with pytest.raises(HistoryError, match=r": no way in with \*\*\* or \*\*\* or \*\*\*$"), database.told():
        raise sa.exc.OperationalError("select 1", {}, cause)
    database.close()


def test_without_the_driver_of_postgresql_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'psycopg'")

    monkeypatch.setattr(sa, "create_engine", missing)
    with pytest.raises(MissingPartError, match=r"\[postgres\]"):
        open_history("postgresql://me@host/db", base=tmp_path)
