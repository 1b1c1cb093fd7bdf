"""Processes beside the pool: for members whose lease has ended before, and for a pool that hears no bells.

A member whose lease has ended may be what killed its process. It is claimed alone, in a process of its own, so
that it takes no neighbour along. A process aside ends with the one that started it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import structlog

from tiercast.ledger import keys

log = structlog.get_logger()

#: The most processes for suspects of one lane that one process of the pool starts.
_MOST = 2

_lock = threading.Lock()
_seeing_to: dict[str, list[subprocess.Popen[bytes]]] = {}


def see_to_suspects(lane: str) -> None:
    """Have the lane's suspects performed, each alone, by a process aside; returns at once."""
    with _lock:
        running = [process for process in _seeing_to.get(lane, []) if process.poll() is None]
        if len(running) < _MOST:
            log.info("suspects.aside", lane=lane)
            running.append(start("suspects", lane))
        _seeing_to[lane] = running


def start(what: str, lane: str) -> subprocess.Popen[bytes]:
    """Start a process aside; it ends when our end of its standard input closes."""
    return subprocess.Popen([sys.executable, "-m", "worker.aside", what, lane], stdin=subprocess.PIPE)


def _end_with_parent() -> None:
    """Exit when the process that started us is gone: its end of the pipe closes, however it died."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _suspects(lane: str) -> None:
    """Perform suspects one after the other until there is none."""
    from .runtime import runtime

    if lane.startswith(keys.DELIVERIES):
        from .processing import process_suspect

        while process_suspect(runtime(), lane):
            pass
    else:
        from .performing import perform_suspect

        while perform_suspect(runtime(), lane):
            pass


def _drain(lane: str) -> None:
    """Drain a lane as a bell would have it drained, and wait for what it began."""
    from .drains import drain
    from .runtime import runtime

    drain(lane)
    desk = runtime().desks.get(lane)
    while desk is not None and not desk.is_idle():
        time.sleep(0.05)


def main() -> None:
    """`python -m worker.aside suspects|drain LANE`."""
    from tiercast.logs import set_up_logs
    from tiercast.settings import load_settings

    from .runtime import close

    what, lane = sys.argv[1:]
    set_up_logs(load_settings(), process="aside")
    _end_with_parent()
    if what == "suspects":
        _suspects(lane)
    else:
        _drain(lane)
    close(10.0)


if __name__ == "__main__":
    main()
