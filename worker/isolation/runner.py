"""`python -m worker.isolation.runner isolated|ordinary LANE`: drains one lane in a process beside the pool.

A member whose lease has expired twice may be what crashed its worker. It is performed here, where it takes no more than
15 neighbours along, and from the third time on none.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time

import structlog

from tiercast.errors import LedgerError, TiercastError
from tiercast.ledger import Ledger
from tiercast.ledger.isolation import end_isolation, renew_isolation
from tiercast.logs import set_up_logs
from tiercast.settings import load_settings

from ..process import WorkerProcess, load
from .supervisor import CLAIMED_SECONDS, GRACE_SECONDS

log = structlog.get_logger()

#: Seconds without work after which the process ends. Its start costs more than its waiting.
LINGER_SECONDS = 5.0

#: Seconds between two looks for work.
LOOK_SECONDS = 0.1

#: Seconds after which the process ends though there is work: the pool may hear bells again.
LONGEST_SECONDS = 60.0


def run(current: WorkerProcess, lane: str, *, isolated: bool, ending: threading.Event) -> None:
    """Drain a lane until nothing has come for a while."""
    drain = current.drain_of(lane)
    began = worked = renewed = time.monotonic()
    while not ending.is_set():
        now = time.monotonic()
        if now - worked > LINGER_SECONDS or (not isolated and now - began > LONGEST_SECONDS):
            return
        if isolated and now - renewed > CLAIMED_SECONDS / 4:
            renew_isolation(current.ledger, lane, CLAIMED_SECONDS)
            renewed = now
        drain.start(heard=False)
        ended = drain.wait(LOOK_SECONDS)
        if not ended or drain.take_counts().get("claimed"):
            worked = now
        else:
            ending.wait(LOOK_SECONDS)


def _end_with_parent(ending: threading.Event) -> None:
    """Set `ending` when the process that started us is gone or closes the pipe, however that came about."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            if select.select([0], [], [], 0.5)[0] and not os.read(0, 1024):
                break
        ending.set()
        # A plain function that hangs does not keep this process.
        threading.Timer(GRACE_SECONDS + 1, os._exit, [1]).start()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main() -> None:
    """Drain the lane that the command line names."""
    mode, lane = sys.argv[1:]
    # A Ctrl-C is for the process that started us, and so is the signal that stops a worker warmly.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_up_logs(load_settings(), process="isolated" if mode == "isolated" else "drain")
    ending = threading.Event()
    _end_with_parent(ending)
    try:
        settings, config = load()
        current = WorkerProcess(settings, config, queues=frozenset(), isolated=mode == "isolated")
        current.start()
        try:
            run(current, lane, isolated=mode == "isolated", ending=ending)
            _give_up_place(current.ledger, lane, mode)
        finally:
            current.stop(GRACE_SECONDS)
    except LedgerError as error:
        log.warning("isolation.ledger", lane=lane, error=type(error).__name__)
    except TiercastError as error:
        sys.exit(f"Error: {error}")
    os._exit(0)  # threads that hang must not keep it


def _give_up_place(ledger: Ledger, lane: str, mode: str) -> None:
    if mode == "isolated":
        end_isolation(ledger, lane)


if __name__ == "__main__":
    main()
