"""Bring a database file to the newest revision of its kind, or refuse it."""

import enum
import sqlite3
from pathlib import Path
from typing import cast

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.engine.interfaces import DBAPIConnection

from pilotage.errors import refuse
from pilotage.reasons import Reason

HERE = Path(__file__).parent / "migrations"


class Kind(enum.StrEnum):
    """The two databases: they never share a file, and may be on two hosts."""

    JOBS = "jobs"
    CREDENTIALS = "credentials"


def configuration(kind: Kind) -> Config:
    """Return Alembic's configuration for one kind of database."""
    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(HERE / kind.value / "versions"))
    return config


def engine(path: Path) -> sqlalchemy.Engine:
    """Make an engine on a file whose transactions include changes of tables.

    The driver's own transaction handling commits before DDL; it is switched off and BEGIN is said here.
    """
    made = sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=sqlalchemy.NullPool)

    @sqlalchemy.event.listens_for(made, "connect")
    def _manual(connection: DBAPIConnection, _record: object) -> None:
        cast(sqlite3.Connection, connection).isolation_level = None

    @sqlalchemy.event.listens_for(made, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return made


def upgrade(path: Path, kind: Kind) -> None:
    """Run every revision that the file lacks, in one transaction.

    Raises STORE_UNAVAILABLE when the file is no database of ours, is of a newer release, or cannot be written.
    """
    config = configuration(kind)
    made = engine(path)
    try:
        with made.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (CommandError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        raise refuse(
            Reason.STORE_UNAVAILABLE,
            f"The database {path} cannot be brought to this release ({type(error).__name__}); "
            "is it a newer release's, damaged, or not writable?",
        ) from error
    finally:
        made.dispose()
