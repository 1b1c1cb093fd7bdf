"""Group commit: requests that arrive together are written together, and one alone waits for nobody.

There is no background thread. The first request that finds nobody writing leads: it writes all that wait,
itself included, then hands the lead to the first that arrived meanwhile. So a request waits for the write
under way and for one more, as long as what waits fits one batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

#: Source, delivery id, raw body.
Triple = tuple[str, str, bytes]

R = TypeVar("R")

#: The most deliveries of one write: above the number of threads that can wait, so bytes are what bounds it.
MAX_COUNT = 500

#: The most bytes of bodies in one write, unless a single body is larger.
MAX_BYTES = 4 * 1024 * 1024


class _Waiting:
    """One request's delivery, and what became of it; `wake` is held until there is something to know."""

    __slots__ = ("error", "leads", "triple", "wake")

    def __init__(self, triple: Triple) -> None:
        self.triple = triple
        self.error: BaseException | None = None
        self.leads = False
        self.wake = threading.Lock()
        self.wake.acquire()

    def result(self) -> None:
        """Raise what the write raised, if it did."""
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            # The error's traceback holds this frame; without a way back, the body is freed at once.
            del error


class GroupCommit(Generic[R]):
    """Collects what several threads submit into common writes.

    Args:
        write: stores a batch, all of it or nothing, and raises if it could not.
        then: gets the batch and what `write` returned, after the waiting requests were woken; may not raise.
        max_count: the most deliveries of one write.
        max_bytes: the most bytes of bodies in one write; a larger body is written alone.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Triple]], R],
        *,
        then: Callable[[Sequence[Triple], R], None] | None = None,
        max_count: int = MAX_COUNT,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._write = write
        self._then = then
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._led = False

    def submit(self, source: str, delivery_id: str, body: bytes) -> None:
        """Return when the delivery is stored; raise what the write of its batch raised."""
        own = _Waiting((source, delivery_id, body))
        with self._lock:
            self._waiting.append(own)
            leads = not self._led
            self._led = True
        if not leads:
            own.wake.acquire()
            if not own.leads:
                own.result()
                return
        self._lead(own)

    def _lead(self, own: _Waiting) -> None:
        """Write one batch, which `own` heads, tell its members and hand over."""
        batch = self._take()
        triples = [one.triple for one in batch]
        error: BaseException | None = None
        try:
            result = self._write(triples)
        except BaseException as raised:
            error = raised
            raise
        finally:
            # Whatever happened to the write, everybody is woken and somebody leads.
            self._hand_over()
            for one in batch:
                if one is not own:
                    one.error = error
                    one.wake.release()
            error = None  # as in _Waiting.result
        if self._then is not None:
            self._then(triples, result)

    def _take(self) -> list[_Waiting]:
        """Take the next batch, oldest first, at least one."""
        batch: list[_Waiting] = []
        size = 0
        with self._lock:
            waiting = self._waiting
            while waiting and len(batch) < self._max_count:
                size += len(waiting[0].triple[2])
                if batch and size > self._max_bytes:
                    break
                batch.append(waiting.popleft())
        return batch

    def _hand_over(self) -> None:
        """Let the first that waits lead, if any does."""
        with self._lock:
            if not self._waiting:
                self._led = False
                return
            heir = self._waiting[0]
            heir.leads = True
        heir.wake.release()
