"""Events of held jobs, kept while their other jobs may come: parsing one is the largest cost of a small job."""

from __future__ import annotations

import threading
from collections import OrderedDict

from tiercast.event import Event
from tiercast.ledger.model import HeldJob
from tiercast.stored import StoredEvent

#: The most bytes of raw bodies whose events a process keeps. A parsed event takes about ten times its body.
CACHE_MAX_BYTES = 4 * 1024 * 1024

#: What an event counts beside its body: small ones are bounded in number by it.
ENTRY_BYTES = 1024


class EventCache:
    """Keeps events by delivery, the last used ones, up to a number of bytes. Safe to use from several threads.

    Args:
        max_bytes: the most bytes of bodies.
    """

    def __init__(self, max_bytes: int = CACHE_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._events: OrderedDict[str, tuple[Event, int]] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """How much is kept, by the size of the bodies."""
        return self._bytes

    def event_of(self, held: HeldJob) -> Event:
        """The event of a held job; its body is parsed when a kind first looks into it.

        Raises:
            ValueError: its body is gone.
        """
        with self._lock:
            found = self._events.get(held.delivery)
            if found is not None:
                self._events.move_to_end(held.delivery)
                return found[0]
        if not held.body:
            raise ValueError("its body is gone")
        event = StoredEvent(
            held.body,
            id=held.event_id,
            type=held.type,
            at=held.at,
            created_us=held.created_us,
            source=held.source,
            form=held.form,
        )
        self._keep(held.delivery, event, len(held.body) + ENTRY_BYTES)
        return event

    def _keep(self, delivery: str, event: Event, size: int) -> None:
        with self._lock:
            if size > self._max_bytes // 4 or delivery in self._events:
                return
            self._events[delivery] = event, size
            self._bytes += size
            while self._bytes > self._max_bytes:
                _, (_, gone) = self._events.popitem(last=False)
                self._bytes -= gone
