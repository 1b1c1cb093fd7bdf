"""Bringing the tables of a history up to date, by one process at a time."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from ..errors import HistoryRefused
from .address import HistoryAddress
from .engine import WRITES
from .tables import REVISION

#: Key of PostgreSQL's advisory lock under which tables are changed, and of the one that keeps filing, which shares it,
#: apart from erasing and trimming, which do not: "tcmi" and "tcfi" as numbers.
MIGRATION_LOCK = 0x74636D69
FILING_LOCK = 0x74636669

_FOLDER = Path(__file__).parent / "migrations"

_version = sa.table("alembic_version", sa.column("version_num"))


def revision_of(connection: sa.Connection) -> str | None:
    """The revision that a database is at; None for an empty one."""
    if not sa.inspect(connection).has_table(_version.name):
        return None
    return connection.scalar(sa.select(_version.c.version_num))


def migrate(engine: sa.Engine, address: HistoryAddress) -> bool:
    """Make or change the tables where that is needed. True if it was.

    All changes are one transaction: a process that is killed meanwhile leaves the tables as they were.

    Raises:
        HistoryRefused: the tables are of a later version of Tiercast.
    """
    with engine.connect() as connection:
        found = revision_of(connection)
    if found == REVISION:
        return False
    with engine.connect().execution_options(**WRITES) as connection, connection.begin():
        if address.dialect == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        return _migrate(connection, address)


def _migrate(connection: sa.Connection, address: HistoryAddress) -> bool:
    found = revision_of(connection)
    if found == REVISION:
        return False
    # Loaded here: it takes 0.2 s, and is hardly ever needed.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise HistoryRefused(
            f"The history at {address.place} has tables of revision {found}, which a later Tiercast made; this one "
            f"knows up to {REVISION}. Run the later version, or name another database with TIERCAST_HISTORY_URL."
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return True
