"""A database behind a history: its address, a connection, its schema brought up to date, its errors in one line.

A password is never shown: addresses are printed without password and query, and what a driver says is cleaned of both.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from pytest_mooncake.border.redaction import Redactor
from pytest_mooncake.errors import HistoryError, MissingPartError, UsageError
from pytest_mooncake.history.sql.schema import HEAD, VERSION_TABLE

__all__ = ["Database", "shown"]

BUSY_S = 30
"""How long a writer waits for the others, on SQLite for the file and on PostgreSQL for a lock."""
CONNECT_S = 10
MIGRATION_LOCK = 7_350_268_114
"""Any number that nobody else uses: of several new versions that start at once, one migrates."""
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
EXPECTED = "expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"


def shown(url: URL) -> str:
    """An address as it may be printed: no password, and no query, which can hold one."""
    return url.set(query={}).render_as_string(hide_password=True)


def parsed(text: str, base: Path) -> URL:
    """The address that somebody gave; a relative SQLite file is taken from `base`.

    Raises:
        UsageError: it is none that we know. The message repeats nothing of it: it may hold a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(f"the history's address cannot be read: {EXPECTED}") from None
    backend = url.drivername.partition("+")[0]
    if backend not in DRIVERS:
        raise UsageError(f"the history's address is of kind '{backend}': {EXPECTED}")
    url = url.set(drivername=DRIVERS[backend])
    if backend != "sqlite":
        return url
    if not url.database or url.database == ":memory:":
        raise UsageError(f"the history's address names no file: {EXPECTED}")
    return url.set(database=str(base / url.database), query={})


class Database:
    """A history's database with a schema that is up to date. `close` gives its connections back.

    Raises:
        UsageError: the address makes no sense, or it must exist and does not.
        MissingPartError: the driver for PostgreSQL is not installed.
        HistoryError: it cannot be reached, is no history, or was written by a newer version.
    """

    def __init__(self, text: str, base: Path, *, must_exist: bool = False) -> None:
        self.url = parsed(text, base)
        self.shown = shown(self.url)
        if must_exist and self.is_file and not Path(str(self.url.database)).is_file():
            raise UsageError(f"no history at {self.shown}: a run with --mooncake-history writes one")
        self._engine = self._made()
        try:
            with self.told():
                self._bring_up_to_date()
        except BaseException:
            self.close()
            raise

    @property
    def is_file(self) -> bool:
        """Whether it is an SQLite file."""
        return self.url.drivername == "sqlite"

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read with.

        Raises:
            HistoryError: the database fails.
        """
        with self.told(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: all of what is written in it, or nothing, also when the writer is killed.

        Raises:
            HistoryError: the database fails; nothing was written.
        """
        with self.told(), self._engine.execution_options(mooncake_writes=True).begin() as connection:
            yield connection

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn what the database says into one line.

        Raises:
            HistoryError: the database failed.
        """
        try:
            yield
        except SQLAlchemyError as error:
            raise HistoryError(f"history {self.shown}: {self._words(error)}") from None

    def _words(self, error: SQLAlchemyError) -> str:
        """The first line of what the driver said, without the password in any spelling."""
        said = str(getattr(error, "orig", None) or error).strip()
        line = next(iter(said.splitlines()), "") or type(error).__name__
        secrets = [str(self.url.password or ""), *(str(value) for value in self.url.query.values())]
        for secret in filter(None, secrets):
            for spelling in {secret, quote(secret, safe=""), quote_plus(secret)}:
                line = line.replace(spelling, "***")
        return Redactor(secrets).redacted(line)

    def _made(self) -> Engine:
        settings = {"timeout": BUSY_S} if self.is_file else {"connect_timeout": CONNECT_S}
        try:
            engine = sa.create_engine(self.url, connect_args=settings)
        except ImportError:
            raise MissingPartError(
                f"history {self.shown}: the driver is missing: pip install 'pytest-mooncake[postgres]'"
            ) from None
        if self.is_file:
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
        else:
            sa.event.listen(engine, "connect", _prepare_postgresql)
        return engine

    def _bring_up_to_date(self) -> None:
        with self.reading() as connection:
            if self._checked_revision(connection) == HEAD:
                return
        with self.writing() as connection:
            if not self.is_file:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            if self._checked_revision(connection) != HEAD:  # somebody else may have been first
                migrate(connection)

    def _checked_revision(self, connection: Connection) -> str | None:
        revision = revision_of(connection)
        if revision is not None and revision > HEAD:
            raise HistoryError(
                f"history {self.shown} has schema {revision} and this version knows {HEAD}: "
                "upgrade pytest-mooncake; nothing was changed"
            )
        return revision


def revision_of(connection: Connection) -> str | None:
    """The schema's revision; `None` of an empty database."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.select(sa.column("version_num")).select_from(sa.table(VERSION_TABLE))).scalar()


def migrate(connection: Connection, revision: str = HEAD) -> None:
    """Bring the schema to `revision`, in the transaction that is open on `connection`."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    command.upgrade(config, revision)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Several processes at once: readers do not wait for the writer, writers wait for each other."""
    connection.isolation_level = None  # else the driver begins and commits where it sees fit
    connection.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000}")
    connection.execute("PRAGMA foreign_keys = ON")
    with contextlib.suppress(sqlite3.OperationalError):  # another writer is at it: the mode stays with the file
        connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(connection: Connection) -> None:
    """A transaction that will write asks for the file at once: to ask later, having read, cannot wait."""
    writes = connection.get_execution_options().get("mooncake_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{BUSY_S}s'")
    connection.commit()
