"""Starts processes beside the pool: for members that need isolation, and for lanes whose bells nobody hears."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Literal

import structlog

from tiercast.ledger import Ledger
from tiercast.ledger.isolation import end_isolation, may_isolate

log = structlog.get_logger()

#: What a process beside the pool claims: members that need isolation, or those that anyone may claim.
Mode = Literal["isolated", "ordinary"]

#: Seconds for which one process works on the isolated members of a lane, over all workers; it renews this.
CLAIMED_SECONDS = 10.0

#: Seconds that a process beside the pool has to end by itself.
GRACE_SECONDS = 8.0


class IsolationSupervisor:
    """Starts and ends processes beside the pool, at most one for a lane and mode. Used by one thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._processes: dict[tuple[Mode, str], subprocess.Popen[bytes]] = {}

    def isolate(self, lane: str) -> None:
        """Have the lane's isolated members worked on, unless another worker does so already.

        Raises:
            LedgerError: the ledger fails.
        """
        if self._runs("isolated", lane):
            return
        self._give_up_place(lane)
        if may_isolate(self._ledger, lane, CLAIMED_SECONDS):
            log.info("isolation.started", lane=lane)
            self._start("isolated", lane)

    def drain(self, lane: str) -> None:
        """Have a lane drained though no bell for it is heard."""
        if not self._runs("ordinary", lane):
            log.warning(
                "wakeup.none_received", lane=lane, remedy="draining in a separate process; check the broker connection"
            )
            self._start("ordinary", lane)

    def end(self) -> None:
        """Have all processes end, and wait for them; one that does not end in time is killed."""
        running = [process for process in self._processes.values() if process.poll() is None]
        _end(running)
        self._processes.clear()

    def _give_up_place(self, lane: str) -> None:
        """A process that was killed by what it worked on has not given up its place: the next one need not wait."""
        process = self._processes.pop(("isolated", lane), None)
        if process is not None and process.returncode:
            end_isolation(self._ledger, lane)

    def _runs(self, mode: Mode, lane: str) -> bool:
        process = self._processes.get((mode, lane))
        return process is not None and process.poll() is None

    def _start(self, mode: Mode, lane: str) -> None:
        """Start a process; it ends when our end of its standard input closes, so also when we are killed."""
        command = [sys.executable, "-m", "worker.isolation.runner", mode, lane]
        self._processes[mode, lane] = subprocess.Popen(command, stdin=subprocess.PIPE)


def _end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    running = list(processes)
    for process in running:
        if process.stdin is not None:
            process.stdin.close()
    deadline = time.monotonic() + GRACE_SECONDS + 2
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
