"""Reloading a worker: it reads its configuration anew and replaces the processes of its pool, one by one.

`tiercast reload` sends two remote control commands of Celery, `tiercast_reload` and `tiercast_reload_state`. The first
reads everything in the worker's main process; where that fails, nothing changes, and its answer says why. Then a thread
gives the pool a task that ends the process that takes it, again and again, until none is left of those before. Such a
process ends what it performs, however long that takes within its time-out, settles it, and ends with status 0. Celery
starts another in its place, which inherits what was read.

Celery's own `pool_restart` reads nothing, asks all processes at once, and an idle one hears of it with its next task.

Dying on any line here loses nothing: what a process holds is under its leases, and a process that was started
meanwhile has what was read last.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import structlog
from celery import signals
from celery.worker.control import control_command, inspect_command

from tiercast.errors import TiercastError
from tiercast.logs import place

from . import process as worker_process

log = structlog.get_logger()

#: Seconds beyond the longest attempt that a process may take to leave, and that another may take to start.
LEAVE_SECONDS = 30.0
START_SECONDS = 60.0

#: Seconds after which the task is given to the pool again: what was written to a process that died is lost.
ASK_SECONDS = 5.0

#: Seconds between two looks.
LOOK_SECONDS = 0.05

#: How many reloads are remembered, for whoever asks what became of them.
MOST_REMEMBERED = 16

_leaving = False


def is_leaving() -> bool:
    """Whether this process of the pool ends for a reload, which is in no hurry, other than a worker that stops."""
    return _leaving


def leave(pids: frozenset[int]) -> None:
    """Runs in a process of the pool: end it where it is one of these."""
    global _leaving
    if os.getpid() in pids:
        _leaving = True
        # billiard reports the task, calls worker_process_shutdown and ends the process.
        raise SystemExit(0)


class ReloadFault(Exception):
    """The pool's processes cannot be replaced, or not all of them; the message says why."""


@dataclass(slots=True)
class Reload:
    """One reload, and how far it is: `state` is `running`, `done` or `failed`."""

    total: int
    replaced: int = 0
    state: str = "running"
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As the answer to a remote control command."""
        return {"state": self.state, "replaced": self.replaced, "total": self.total, "error": self.error}


class Reloader:
    """Does the reloads of one worker, one at a time. Called from the main process's main thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Reload] = OrderedDict()
        self._stopping = threading.Event()

    def begin(self, id: str, task_pool: Any, hub: Any) -> Reload:
        """Read everything, and begin to replace the processes of a pool.

        Args:
            id: what `find` is to know this reload by.
            task_pool: Celery's.
            hub: Celery's event loop, which the pool works on; None where it has threads of its own.

        Raises:
            ReloadFault: the pool has no processes, or a reload is under way.
            TiercastError: what was read is wrong, or the ledger cannot be used; nothing has changed.
        """
        pool = _processes_of(task_pool)
        if any(reload.state == "running" for reload in self._known.values()):
            raise ReloadFault("a reload is under way; try again when it has ended")
        leave_seconds = worker_process.longest_attempt(worker_process.load()[1]) + LEAVE_SECONDS
        before = worker_process.use(worker_process.read())
        pids = frozenset(process.pid for process in pool._pool)
        reload = self._known[id] = Reload(total=len(pids))
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        log.info("reload.began", processes=len(pids))
        replacing = _Replacing(pool, hub, pids, leave_seconds, self._stopping)
        threading.Thread(target=_run, args=(reload, replacing, before), name="reload", daemon=True).start()
        return reload

    def find(self, id: str) -> Reload | None:
        """A reload by the id that it was begun with; None where this worker was started since."""
        return self._known.get(id)

    def stop(self) -> None:
        """The worker stops: ask no more processes to leave."""
        self._stopping.set()


class _Replacing:
    """Replaces processes of a pool, one after the other. For one thread.

    Args:
        pids: the processes to replace.
        leave_seconds: how long one may take to leave.
        stopping: set when the worker stops.
    """

    def __init__(
        self, pool: Any, hub: Any, pids: frozenset[int], leave_seconds: float, stopping: threading.Event
    ) -> None:
        self._pool = pool
        self._hub = hub
        self._pids = pids
        self._leave_seconds = leave_seconds
        self._stopping = stopping
        self._taken: set[int] = set()
        self._ask_at = 0.0

    def left(self) -> frozenset[int]:
        """Those that still run."""
        return self._pids.intersection(list(self._pool._poolctrl))

    def replace_one(self) -> None:
        """Have one process leave, whichever takes the task, and wait for what replaces it.

        Raises:
            ReloadFault: it did not leave, or no other was started.
        """
        before = self.left()
        deadline = time.monotonic() + self._leave_seconds
        self._ask_at = 0.0
        while self.left() == before:
            if not self._taken & before and time.monotonic() > self._ask_at:
                self._ask_at = time.monotonic() + ASK_SECONDS
                self._ask()
            self._wait(deadline, f"no process has left within {self._leave_seconds:.0f} s")
        deadline = time.monotonic() + START_SECONDS
        while not self._is_whole():
            self._wait(deadline, f"no process has started in the place of another within {START_SECONDS:.0f} s")

    def _ask(self) -> None:
        """Give the pool the task; where it works on an event loop, in that one's thread."""
        if self._hub is None:
            self._give()
        else:
            self._hub.call_soon(self._give)

    def _give(self) -> None:
        self._pool.apply_async(leave, (self._pids,), accept_callback=self._accepted, callback=self._refused)

    def _accepted(self, pid: int, _at: float) -> None:
        self._taken.add(pid)
        for process in list(self._pool._pool):
            if process.pid == pid and pid in self._pids:
                # Bells that were written to it would wait until it has left.
                getattr(self._pool, "_all_inqueues", set()).discard(process.inqW_fd)

    def _refused(self, _result: Any) -> None:
        """A process that is new took the task: ask again at the next look."""
        self._ask_at = 0.0

    def _is_whole(self) -> bool:
        """Whether as many processes run as there are to be, and all of them take tasks."""
        return len(self._pool._pool) >= self._pool._processes and not getattr(self._pool, "_waiting_to_start", ())

    def _wait(self, deadline: float, fault: str) -> None:
        if self._stopping.wait(LOOK_SECONDS):
            raise ReloadFault("the worker stops")
        if time.monotonic() > deadline:
            raise ReloadFault(f"{fault}; those that are left keep the configuration that they have")


def _run(reload: Reload, replacing: _Replacing, before: worker_process.Loaded) -> None:
    try:
        while left := replacing.left():
            reload.replaced = reload.total - len(left)
            replacing.replace_one()
        reload.replaced = reload.total
        reload.state = "done"
        log.info("reload.ended", processes=reload.total)
    except Exception as error:
        # What is started from now on is to be as what still runs.
        worker_process.use(before)
        reload.error = str(error) if isinstance(error, ReloadFault) else f"a fault of ours: {place(error)}"
        reload.state = "failed"
        log.error("reload.failed", replaced=reload.replaced, processes=reload.total, error=reload.error)


def _processes_of(task_pool: Any) -> Any:
    """The pool of billiard's inside one of Celery's.

    Raises:
        ReloadFault: it has none.
    """
    pool = getattr(task_pool, "_pool", None)
    if not hasattr(pool, "_poolctrl"):
        name = type(task_pool).__module__.rpartition(".")[2]
        raise ReloadFault(f"its pool ({name}) has no processes that could be replaced; restart this worker")
    return pool


_reloader = Reloader()


@control_command(name="tiercast_reload", args=[("id", str)], signature="<id>")
def tiercast_reload(state: Any, id: str) -> dict[str, Any]:
    """Read the configuration anew and replace the pool's processes, one by one."""
    try:
        return _reloader.begin(id, state.consumer.controller.pool, state.consumer.hub).as_dict()
    except (TiercastError, ReloadFault) as error:
        log.warning("reload.refused", error=type(error).__name__)
        return {"state": "refused", "replaced": 0, "total": 0, "error": str(error)}


@inspect_command(name="tiercast_reload_state", args=[("id", str)], signature="<id>")
def tiercast_reload_state(state: Any, id: str) -> dict[str, Any]:  # noqa: ARG001 - Celery's interface
    """How far a reload is."""
    reload = _reloader.find(id)
    return reload.as_dict() if reload else {"state": "unknown", "replaced": 0, "total": 0, "error": None}


@signals.worker_shutting_down.connect
def _stop(**_: Any) -> None:
    _reloader.stop()
