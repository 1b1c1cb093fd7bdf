"""The event loop of a process, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger()


class EventLoop:
    """Runs an event loop in a daemon thread. Nothing of the loop runs before `start`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_log_fault)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="event-loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout: float) -> Any:
        """Run a coroutine on the loop and wait for its result.

        Raises:
            TimeoutError: it has not ended within `timeout` seconds, or the loop does not run.
        """
        if self._thread is None or not self._thread.is_alive():
            coroutine.close()
            raise TimeoutError
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def stop(self, timeout: float = 2.0) -> None:
        """Stop the loop and wait for its thread."""
        if self._thread is None:
            self.loop.close()
            return
        try:
            self.run(_cancel_all(), timeout)
        except TimeoutError:
            log.warning("loop.not_cancelled")
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


async def _cancel_all() -> None:
    """Cancel what kinds have left running, such as the tasks that close idle connections."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=1.0)


def _log_fault(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what went wrong without its text, which could quote an event."""
    error = context.get("exception")
    log.error("loop.fault", what=context.get("message", ""), error=type(error).__name__ if error else None)
