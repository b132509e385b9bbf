"""Several writers at once lose nothing, and one that is killed leaves no half run: on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from pytest_mooncake.errors import HistoryError
from pytest_mooncake.history.sql import schema
from pytest_mooncake.history.sql.database import Database, migrate, revision_of
from pytest_mooncake.history.store import open_history
from tests.support.history_writers import EACH, WRITERS
from tests.support.made_runs import ACCEPTED, FOUND, made_run
from tests.support.postgres import Server, server_in

ROOT = Path(__file__).resolve().parents[2]
MODULE = "tests.support.history_writers"


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_in(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that was never a history."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/h.sqlite"
    server: Server = request.getfixturevalue("postgres")
    return server.new_database()


def start(url: str, name: str, count: int, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", MODULE, url, name, str(count), *more],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_eight_writers_at_once_on_a_new_database_lose_nothing(url: str) -> None:
    writers = [start(url, f"writer-{number}", EACH) for number in range(WRITERS)]
    ended = [(writer.communicate(timeout=120)[1], writer.returncode) for writer in writers]
    assert ended == [("", 0)] * WRITERS
    with open_history(url) as history:
        runs = history.runs()
    assert {run.id for run in runs} == {f"writer-{n}-{i}" for n in range(WRITERS) for i in range(EACH)}
    assert all(run == made_run(run.id) for run in runs)


def test_a_writer_killed_before_its_run_is_whole_leaves_nothing_and_bars_nobody(url: str) -> None:
    open_history(url).close()
    with start(url, "killed", 1, "stop") as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "inserted\n"
        finally:
            writer.kill()
    with open_history(url) as history:
        assert history.runs() == ()
        assert history.add(made_run()) == 1
    with contextlib.closing(Database(url, ROOT)) as database, database.reading() as connection:
        rows = connection.execute(sa.select(sa.func.count()).select_from(schema.rounds)).scalar()
    assert rows == len(made_run().rounds)


def test_tables_of_the_first_version_are_brought_up_to_date_with_what_is_in_them(url: str) -> None:
    with engine_at(url).begin() as connection:
        migrate(connection, "0001")
        connection.execute(
            sa.text(
                "INSERT INTO mooncake_runs (run_id, label, started_at, verdict, fingerprint, parts, release) VALUES "
                "('old', 'v0', '2025-01-01T00:00:00+00:00', 'PASS', 'f', '{\"a\": 1}', '{\"vllm\": \"0.30\"}')"
            )
        )
    with open_history(url) as history:
        (old,) = history.runs()
        assert (old.id, old.parts, old.release, old.writer) == ("old", {"a": 1}, {"vllm": "0.30"}, "unknown")
        history.add_all((), (FOUND,), (ACCEPTED,))
        assert (history.findings(), history.anchors()) == ((FOUND,), (ACCEPTED,))


def test_the_migrated_tables_are_those_that_the_code_speaks_of(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    open_history(url).close()
    with engine_at(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, schema.metadata) == []
        assert revision_of(connection) == schema.HEAD


def test_a_history_of_a_newer_version_is_left_alone(url: str) -> None:
    open_history(url).close()
    with engine_at(url).begin() as connection:
        connection.execute(sa.text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(HistoryError, match=r"9999.*upgrade pytest-mooncake"):
        open_history(url)


def test_whoever_opens_a_new_history_at_the_same_time_finds_it_whole(url: str) -> None:
    failed: list[BaseException] = []

    def opened(number: int) -> None:
        try:
            with open_history(url) as history:
                history.add(made_run(f"thread-{number}"))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=opened, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    with open_history(url) as history:
        assert len(history.runs()) == 4


@pytest.mark.full
@pytest.mark.parametrize("spelling", ["secret-word", "p@ss/w:rd"])
def test_a_password_is_in_no_message(postgres: Server, spelling: str) -> None:
    with pytest.raises(HistoryError) as caught:
        open_history(postgres.url_with(user="nobody_here", password=spelling))
    assert spelling not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.full
def test_a_server_that_is_not_there_is_said_in_one_line() -> None:
    with pytest.raises(HistoryError) as caught:
        open_history("postgresql://somebody:secret-word@127.0.0.1:1/history")
    assert "secret-word" not in str(caught.value)
    assert "\n" not in str(caught.value)


def engine_at(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)
