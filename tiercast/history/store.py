"""The history of an installation, opened."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ..errors import HistoryRefused
from . import tables
from .address import HistoryAddress
from .bodies import Bodies
from .engine import WRITES, make_engine, translated
from .filing import Filed, Filing
from .migrating import migrate
from .reading import Reading
from .removing import Removing, Trimmed
from .rows import FiledDelivery
from .status import HistoryStatus, read_status


class History:
    """A history. Threads can share it; processes each open their own.

    Opening connects, and makes the tables where there are none.

    Raises:
        HistoryUnavailable: the database does not answer.
        HistoryRefused: it cannot be used as it is.
    """

    def __init__(self, address: HistoryAddress) -> None:
        self.address = address
        self._engine = make_engine(address)
        self._bodies = Bodies()
        try:
            with translated(address):
                #: Whether opening made or changed tables.
                self.migrated = migrate(self._engine, address)
        except BaseException:
            self.close()
            raise
        #: Reads of it.
        self.reading = Reading(self._engine, address, self._bodies)
        #: Removing from it.
        self.removing = Removing(self._engine, address, self._bodies)
        self._filing = Filing(self._engine, address, self._bodies)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def identity(self) -> tuple[str, str | None]:
        """The history's own id, and that of the ledger which it belongs to; None where none was bound yet."""
        table = tables.identity
        with translated(self.address), self._engine.connect() as connection:
            row = connection.execute(sa.select(table.c.id, table.c.ledger)).one()
            return row.id, row.ledger

    def bind(self, ledger: str) -> str:
        """Bind the history to a ledger, by the ledger's id, unless it is bound to that one already.

        The ledger has to note the history's id, which is returned, and to refuse another one likewise: only both
        together tell a new file on another host from the right one.

        Raises:
            HistoryRefused: the history belongs to another ledger.
        """
        table = tables.identity
        with (
            translated(self.address),
            self._engine.connect().execution_options(**WRITES) as connection,
            connection.begin(),
        ):
            connection.execute(sa.update(table).where(table.c.ledger.is_(None)).values(ledger=ledger))
            row = connection.execute(sa.select(table.c.id, table.c.ledger)).one()
        if row.ledger != ledger:
            raise HistoryRefused(
                f"The history at {self.address.place} belongs to another ledger. Name this ledger's own history with "
                "TIERCAST_HISTORY_URL, or an empty database. If the ledger was lost and begun anew, and this history "
                "is to go on with it, run `tiercast history adopt`."
            )
        return str(row.id)

    def adopt(self, ledger: str) -> None:
        """Bind the history to this ledger, whichever it belonged to."""
        with (
            translated(self.address),
            self._engine.connect().execution_options(**WRITES) as connection,
            connection.begin(),
        ):
            connection.execute(sa.update(tables.identity).values(ledger=ledger))

    def file(self, deliveries: Sequence[FiledDelivery]) -> Filed:
        """Write settled deliveries with their jobs and attempts, in one transaction; see `Filing.file`."""
        return self._filing.file(deliveries)

    def trim(self, keep_days: float, seconds: float) -> Trimmed:
        """Remove what was settled longer ago than that, for at most about so many seconds; see `Removing.trim`."""
        return self.removing.trim(keep_days, seconds)

    def status(self) -> HistoryStatus:
        """Size, growth and reach."""
        return read_status(self._engine, self.address)
