"""Processes beside the pool: for members whose lease has ended before, and for a pool that hears no bells.

A member whose lease has ended may be what killed its process. It is claimed alone, in a process of its own, so
that it takes no neighbour along. A process aside ends with the one that started it: it begins nothing more then,
and what runs may end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator

import structlog

from tiercast.errors import LedgerError
from tiercast.ledger import Ledger
from tiercast.ledger.suspects import may_see_to_suspects

from .alone import Gate, perform_all, perform_some

log = structlog.get_logger()

#: Seconds that a running job has to end once the process that started this one is gone.
_GRACE = 8.0

#: Seconds that a process aside drains a lane for; and how many without work it waits for more, since its start costs
#: more than its waiting, and how many pass between two looks then.
_DRAIN = 60.0
_LINGER = 5.0
_LOOK = 0.1

#: The most processes aside for the suspects of one lane that one process of the pool starts, and the seconds between
#: two starts over all workers: one forks many, and each start costs the better part of a second of a processor.
_MOST = 2
_APART = 1.5

_lock = threading.Lock()
_seeing_to: dict[str, list[subprocess.Popen[bytes]]] = {}

_ending = threading.Event()
_begun = threading.Event()


def see_to_suspects(ledger: Ledger, lane: str) -> None:
    """Have the lane's suspects performed, each alone, by a process aside; returns at once.

    Raises:
        LedgerError: the ledger fails.
    """
    with _lock:
        running = [process for process in _seeing_to.get(lane, []) if process.poll() is None]
        if len(running) < _MOST and may_see_to_suspects(ledger, lane, _APART):
            log.info("suspects.aside", lane=lane)
            running.append(start("suspects", lane))
        _seeing_to[lane] = running


def start(what: str, lane: str) -> subprocess.Popen[bytes]:
    """Start a process aside; it ends when our end of its standard input closes."""
    return subprocess.Popen([sys.executable, "-m", "worker.aside", what, lane], stdin=subprocess.PIPE)


def end(processes: Iterable[subprocess.Popen[bytes]], timeout: float = _GRACE + 2) -> None:
    """Have processes aside end, and wait for them; those that do not in time are killed."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        if process.stdin is not None:
            process.stdin.close()
    deadline = time.monotonic() + timeout
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_all() -> None:
    """End those that see to suspects for this process."""
    with _lock:
        end([process for processes in _seeing_to.values() for process in processes])
        _seeing_to.clear()


def _end_with_parent() -> None:
    """End when the process that started us is gone, however it died.

    Its end of the pipe closes then, unless a process that it forked meanwhile has inherited it.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            if select.select([0], [], [], 0.5)[0] and not os.read(0, 1024):
                break
        _ending.set()
        _close()
        os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _suspect(gate: Gate | None) -> None:
    """What each of the processes does that see to suspects."""
    _end_with_parent()
    lane = sys.argv[2]
    with _ledger_faults(lane):
        _begin()
        if gate is None or gate.wait():
            perform_some(lane, _ending)
    _close()


def _drain(lane: str) -> None:
    """Drain a lane as bells would have it drained, as long as there is work, and wait for what was begun."""
    from .drains import drain
    from .runtime import runtime

    began = worked = time.monotonic()
    while (now := time.monotonic()) - worked < _LINGER and now - began < _DRAIN and not _ending.is_set():
        if drain(lane).get("claimed"):
            worked = time.monotonic()
        else:
            _ending.wait(_LOOK)
    desk = runtime().desks.get(lane)
    while desk is not None and not desk.is_idle():
        time.sleep(0.05)


def main() -> None:
    """`python -m worker.aside suspects|drain LANE`."""
    what, lane = sys.argv[1:]
    # A Ctrl-C is for the process that started us; so is the signal that stops a worker warmly.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from tiercast.logs import set_up_logs
    from tiercast.settings import load_settings

    set_up_logs(load_settings(), process="aside")
    with _ledger_faults(lane):
        if what == "suspects":
            perform_all(lane, _suspect)
        else:
            _end_with_parent()
            _begin()
            _drain(lane)
    _close()


@contextlib.contextmanager
def _ledger_faults(lane: str) -> Iterator[None]:
    """Where the ledger fails, this process ends; another is started when it is back."""
    try:
        yield
    except LedgerError as error:
        log.warning("aside.ledger", lane=lane, error=type(error).__name__)


def _begin() -> None:
    """Connect. From here on work may be held; before, there is nothing to end warmly."""
    from .runtime import runtime

    runtime()
    _begun.set()


def _close() -> None:
    if _begun.is_set():
        from .runtime import close

        close(_GRACE)


if __name__ == "__main__":
    main()
