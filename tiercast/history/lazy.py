"""A history that is opened when something is looked up in it for the first time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .address import HistoryAddress

if TYPE_CHECKING:
    from .reading import Reading
    from .store import History


class LazyHistory:
    """Opens a history at its first use, and loads the database library not before. Threads can share it."""

    def __init__(self, address: HistoryAddress) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._history: History | None = None

    def reading(self) -> Reading:
        """What reads of it.

        Raises:
            HistoryUnavailable, HistoryRefused: as opening it does.
        """
        with self._lock:
            if self._history is None:
                from .store import History

                self._history = History(self._address)
            return self._history.reading

    def close(self) -> None:
        """Close its connections, if any."""
        with self._lock:
            if self._history is not None:
                self._history.close()
                self._history = None
