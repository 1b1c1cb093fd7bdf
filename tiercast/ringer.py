"""Rings bells after the answer, from a thread of its own, so that no request waits for the broker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import structlog

log = structlog.get_logger()

#: The most lanes that wait to be rung; beyond it bells are dropped, and the workers' timer rings for them.
MAX_PENDING = 1000


class BellRinger:
    """Rings lanes one after the other, each once however often it was asked for meanwhile.

    A bell that cannot be rung is dropped: the work it stands for is stored, and the workers' timer rings for
    it within a second. One line is logged when ringing begins to fail, and one when it works again.

    Args:
        ring: publishes the bell of one lane; may block and may raise.
        max_pending: the most lanes that wait.
    """

    def __init__(self, ring: Callable[[str], None], *, max_pending: int = MAX_PENDING) -> None:
        self._ring = ring
        self._max_pending = max_pending
        self._changed = threading.Condition()
        self._pending: dict[str, None] = {}
        self._thread: threading.Thread | None = None
        self._closed = False
        self._failed = False

    def ring(self, lanes: Iterable[str]) -> None:
        """Have these lanes rung soon; never blocks on the broker and never raises."""
        with self._changed:
            if self._closed:
                return
            for lane in lanes:
                if len(self._pending) >= self._max_pending:
                    break
                self._pending[lane] = None
            if not self._pending:
                return
            if self._thread is None:
                # Started by the first bell and not before, so that it runs in the process that needs it:
                # threads do not survive a fork.
                self._thread = threading.Thread(target=self._run, name="bells", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self, timeout: float | None = 5.0) -> None:
        """Drop what waits and end the thread; wait at most `timeout` seconds for a bell under way."""
        with self._changed:
            self._closed = True
            self._pending.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _run(self) -> None:
        while (lane := self._next()) is not None:
            try:
                self._ring(lane)
            except Exception as error:
                if not self._failed:
                    self._failed = True
                    log.warning("bells.lost", lane=lane, error=type(error).__name__, remedy="the timer rings instead")
            else:
                if self._failed:
                    self._failed = False
                    log.info("bells.back", lane=lane)

    def _next(self) -> str | None:
        """Wait for a lane to ring; None when closed."""
        with self._changed:
            while not self._pending and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            lane = next(iter(self._pending))
            del self._pending[lane]
            return lane
