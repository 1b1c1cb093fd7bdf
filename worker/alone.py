"""Performs members whose lease has ended before: each alone in its process, several processes side by side.

What such a member may have killed was its process, so nothing else is in the one that it gets. The processes are
forked from one that has everything loaded: to start each anew would cost half a second of a processor.
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

#: Seconds in which more are forked as more leases end: those of one dead worker end one after the other.
_GATHER = 2.0

#: Seconds that a process goes on looking while suspects are due and it gets none: others hold the lane's places.
_LINGER = 5.0

#: Seconds between two looks.
_LOOK = 0.05


def perform_all(lane: str, child: Callable[[], None]) -> None:
    """Fork as many processes as there are suspects, and wait until all have ended.

    Args:
        child: what a process does; it ends by itself when ours is gone, or our standard input closes.

    Raises:
        LedgerError: the ledger fails.
    """
    # Here, so that what all need is loaded before they are forked.
    from . import performing, runtime  # noqa: F401

    settings, _config = runtime.load()
    ledger = open_ledger(settings, role="worker")
    gc.freeze()  # so that collecting garbage does not copy the memory that they share
    children: set[int] = set()
    again, began = _MOST, time.monotonic()
    try:
        while True:
            if time.monotonic() - began <= _GATHER:
                for _ in range(min(count_suspects(ledger, lane), _MOST) - len(children)):
                    children.add(_fork(child))
            if not children:
                return
            if select.select([0], [], [], _LOOK)[0]:
                break  # they see it too
            failed = _reap(children)
            # What they held killed them; the others are not to wait for that.
            for _ in range(min(failed, again)):
                children.add(_fork(child))
            again -= failed
    finally:
        ledger.client.close()
        while children:
            _reap(children)
            time.sleep(_LOOK)


def _reap(children: set[int]) -> int:
    """Forget those that have ended; returns how many of them did not end well."""
    failed = 0
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            children.discard(pid)
            failed += status != 0
    return failed


def _fork(child: Callable[[], None]) -> int:
    """Have a new process do something; returns its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        child()
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
