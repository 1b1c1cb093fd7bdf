"""Opens the history of this ledger at its first use: it may be away while the worker starts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tiercast.errors import HistoryRefused
from tiercast.history.address import HistoryAddress
from tiercast.ledger import Ledger
from tiercast.ledger.filing import agree_on_history, forgotten
from tiercast.ledger.opening import ledger_id

if TYPE_CHECKING:
    from tiercast.history.store import History


class Archive:
    """The history of a ledger. Safe to use from several threads; made after the fork."""

    def __init__(self, address: HistoryAddress, ledger: Ledger) -> None:
        self._address = address
        self._ledger = ledger
        self._lock = threading.Lock()
        self._history: History | None = None

    def open(self) -> History:
        """The history, opened and found to be the one that this ledger files into.

        Raises:
            HistoryUnavailable: it does not answer.
            HistoryRefused: it is another ledger's, or this ledger files into another; the message says what to do.
            LedgerError: the ledger fails.
        """
        with self._lock:
            if self._history is None:
                # Loads the database library, which only those need that file.
                from tiercast.history.store import History

                history = History(self._address)
                try:
                    ours = history.bind(ledger_id(self._ledger))
                    if agree_on_history(self._ledger, ours) != ours:
                        raise HistoryRefused(_another(self._address))
                    # Where an older backup of it was put back, who was forgotten since then is in it again.
                    history.removing.forget_again(forgotten(self._ledger))
                except BaseException:
                    history.close()
                    raise
                self._history = history
            return self._history

    def close(self) -> None:
        """Close its connections."""
        with self._lock:
            if self._history is not None:
                self._history.close()
                self._history = None


def _another(address: HistoryAddress) -> str:
    if address.path is None:
        return (
            f"This ledger files into another history than the one at {address.place}. Name that one with "
            "TIERCAST_HISTORY_URL on every machine. To go on with this one instead, run `tiercast history adopt`."
        )
    return (
        f"This ledger files into another history than the file {address.place}: a file serves the workers of one "
        "machine. If workers run on several, name one PostgreSQL for all: TIERCAST_HISTORY_URL=postgresql://... If the "
        "file was lost or moved, and this one is to go on, run `tiercast history adopt`."
    )
