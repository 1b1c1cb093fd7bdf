"""Threads that are kept: starting one costs more than a quick job does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

Task = Callable[[], None]


class Threads:
    """Runs tasks, each in a thread of its own while it lasts; a thread that is idle takes the next.

    They are daemons: a task that hangs holds up neither the others nor the end of the process.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    def run(self, task: Task) -> None:
        """Run a task at once, however many are running; the caller bounds their number.

        Raises:
            RuntimeError: no thread can be started; the task is not run, neither now nor later.
        """
        with self._lock:
            fresh = self._idle == 0
            if not fresh:
                self._idle -= 1
        if fresh:
            threading.Thread(target=self._loop, name=self._name, daemon=True).start()
        self._tasks.put(task)

    def _loop(self) -> None:
        while True:
            self._tasks.get()()
            with self._lock:
                self._idle += 1
