"""Performs members whose lease has ended before: each alone in its process, several processes side by side.

What such a member may have killed was its process, so nothing else is in the one that it gets. The processes are
forked from one that has everything loaded: to start each anew would cost half a second of a processor. They are
forked when leases are about to end, and each is let go when one has.
"""

from __future__ import annotations

import gc
import os
import select
import sys
import threading
import time
from collections.abc import Callable

import structlog

from tiercast.ledger import keys, open_ledger
from tiercast.ledger.suspects import count_suspects
from tiercast.logs import place

log = structlog.get_logger()

#: The most processes side by side that one process aside forks.
_MOST = 48

#: Seconds from the first suspect in which more are forked as more leases end: those of one dead worker end one after
#: the other.
_GATHER = 2.0

#: Seconds that a process goes on looking while suspects are due and it gets none: others hold the lane's places.
_LINGER = 5.0

#: Seconds between two looks.
_LOOK = 0.05


class Gate:
    """Where forked processes wait until they are let go, one by one: each takes a byte from a pipe."""

    def __init__(self) -> None:
        self._outlet, self._inlet = os.pipe()

    def let_go(self, count: int) -> None:
        """Let so many go."""
        os.write(self._inlet, b"." * count)

    def close(self) -> None:
        """Send home all who still wait, and who come later."""
        if self._inlet >= 0:
            os.close(self._inlet)
            self._inlet = -1

    def wait(self) -> bool:
        """In a forked process: whether it is let go; False where it is sent home."""
        self.close()
        return os.read(self._outlet, 1) != b""


class Crowd:
    """The processes of one lane's suspects."""

    def __init__(self, child: Callable[[Gate | None], None]) -> None:
        self._child = child
        self._gate = Gate()
        self._running: set[int] = set()
        self._waiting = 0
        self._again = _MOST

    def __len__(self) -> int:
        return len(self._running)

    def provide(self, lost: int, lapsing: int) -> None:
        """Have a process for each suspect, and one waiting for each that may come."""
        for _ in range(min(lost + lapsing, _MOST) - len(self._running)):
            self._running.add(_fork(self._child, self._gate))
            self._waiting += 1
        more = min(self._waiting, lost - (len(self._running) - self._waiting))
        if more > 0:
            self._gate.let_go(more)
            self._waiting -= more

    def close(self) -> None:
        """Let nobody else in: who waits ends."""
        self._gate.close()
        self._waiting = 0

    def reap(self) -> None:
        """Forget those that have ended; what held one that died killed it, so another takes its place."""
        for pid in list(self._running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            self._running.discard(pid)
            if status and self._again > 0:
                self._again -= 1
                self._running.add(_fork(self._child, None))

    def wait(self) -> None:
        """Wait until all have ended."""
        self.close()
        self._again = 0
        while self._running:
            self.reap()
            time.sleep(_LOOK)


def perform_all(lane: str, child: Callable[[Gate | None], None]) -> None:
    """Have a process for each suspect, as soon as there are some, and wait until all have ended.

    Args:
        child: what a process does once its gate, if it has one, is open; it ends by itself when ours is gone, or our
            standard input closes.

    Raises:
        LedgerError: the ledger fails.
    """
    # Here, so that what all need is loaded before they are forked.
    from . import performing, runtime  # noqa: F401

    settings, _config = runtime.load()
    ledger = open_ledger(settings, role="worker")
    gc.freeze()  # so that collecting garbage does not copy the memory that they share
    crowd = Crowd(child)
    gathers, until = True, float("inf")
    try:
        while gathers or crowd:
            if gathers:
                found = count_suspects(ledger, lane)
                crowd.provide(*found)
                if found.lost:
                    until = min(until, time.monotonic() + _GATHER)
                gathers = any(found) and time.monotonic() < until
            else:
                crowd.close()
            if select.select([0], [], [], _LOOK)[0]:
                break  # they see it too
            crowd.reap()
    finally:
        ledger.client.close()
        crowd.wait()


def _fork(child: Callable[[Gate | None], None], gate: Gate | None) -> int:
    """Have a new process do something; returns its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        child(gate)
        status = 0
    except BaseException as error:
        log.error("aside.fault", error=place(error))
    finally:
        os._exit(status)


def perform_some(lane: str, ending: threading.Event) -> None:
    """Perform suspects one after the other until none is due."""
    from .performing import perform_suspect
    from .processing import process_suspect
    from .runtime import runtime

    current = runtime()
    worked = time.monotonic()
    while not ending.is_set():
        if lane.startswith(keys.DELIVERIES):
            # One that never ends must not keep this process for ever; its lease ends as if it had killed it.
            stuck = threading.Timer(current.ledger.lease, os._exit, [75])
            stuck.daemon = True
            stuck.start()
            found = process_suspect(current, lane)
            stuck.cancel()
        else:
            found = perform_suspect(current, lane)
        if found.taken:
            worked = time.monotonic()
        elif not found.more or time.monotonic() - worked > _LINGER:
            return
        else:
            ending.wait(_LOOK)
