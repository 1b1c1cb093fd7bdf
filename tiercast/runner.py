"""Calls a kind's methods, plain or async, from code that is neither a worker nor async: the conformance kit and
`tiercast actions test`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from .actions import Action, Job, Result

#: What became of a job: what the kind returned where it is done, or the exception that it answered with.
Answer = Result | Exception

_T = TypeVar("_T")

#: How many threads call a plain kind at once, as in a worker.
_THREADS = 8


class ActionRunner:
    """Runs one action on an event loop of its own, which lasts as long as the action: its connections belong to it.

    Async methods run on the loop, plain ones in a few threads. One thread uses a runner.

        with ActionRunner(make_action(Stars, {})) as stars:
            stars.perform(make_job(stars.action))
    """

    def __init__(self, action: Action) -> None:
        self.action = action
        self._loop: asyncio.Runner | None = None
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> ActionRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def perform(self, job: Job, *, timeout: float | None = None) -> Result:
        """Perform one job and return what the kind returned; what it raises is raised, after `timeout` TimeoutError."""
        done: Result = self.run(asyncio.wait_for(self._result(self.action.perform, job), timeout))
        return done

    def perform_at_once(self, jobs: Iterable[Job]) -> list[Answer]:
        """Perform jobs at the same time, as a worker does; an answer for each, in their order."""
        return self.run(self._all(list(jobs)))

    def perform_many(self, jobs: list[Job], *, timeout: float | None = None) -> list[tuple[Job, Answer]]:
        """Perform jobs by the kind's bulk call and return what it yielded; raises as `perform` does."""
        return self.run(asyncio.wait_for(self._listed(jobs), timeout))

    def confirm(self, job: Job) -> bool | None:
        """Ask the kind whether an earlier attempt of the job had its effect."""
        return self.run(self._result(self.action.confirm, job))  # type: ignore[no-any-return]

    def verify(self, *, timeout: float | None = None) -> str | None:
        """Have the kind prove its credential within `timeout` seconds; what it raises is raised, TimeoutError too."""
        proved: str | None = self.run(asyncio.wait_for(self._result(self.action.verify), timeout))
        return proved

    def perform_cancelled(self, job: Job, *, after: float = 0.0) -> Answer | asyncio.CancelledError:
        """Perform a job of an async kind and cancel it after some seconds; what it came to, if it was quicker."""
        return self.run(self._cancelled(job, after))

    def run(self, work: Awaitable[_T]) -> _T:
        """Run a coroutine on the loop that the action's connections belong to."""
        if self._loop is None:
            self._loop = asyncio.Runner()
        return self._loop.run(_awaited(work))

    def close(self) -> None:
        """Close the action, and the loop with all that is still open in it; more than once does no harm."""
        try:
            self.run(self._result(self.action.close))
        finally:
            loop, self._loop = self._loop, None
            if loop is not None:
                loop.close()
            threads, self._threads = self._threads, None
            if threads is not None:
                threads.shutdown()

    async def _result(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call a method: an async one here, a plain one in a thread, since it may block."""
        if inspect.iscoroutinefunction(method):
            return await method(*args)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="action")
        result = await asyncio.get_running_loop().run_in_executor(self._threads, method, *args)
        # A plain function that hands an async one's result on.
        return await result if inspect.isawaitable(result) else result

    async def _all(self, jobs: list[Job]) -> list[Answer]:
        return await asyncio.gather(*map(self._answer, jobs))

    async def _answer(self, job: Job) -> Answer:
        try:
            return await self._result(self.action.perform, job)  # type: ignore[no-any-return]
        except Exception as error:
            return error

    async def _cancelled(self, job: Job, after: float) -> Answer | asyncio.CancelledError:
        task = asyncio.ensure_future(self._answer(job))
        await asyncio.sleep(after)
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError as error:
            return error

    async def _listed(self, jobs: list[Job]) -> list[tuple[Job, Answer]]:
        answers = self.action.perform_many(jobs)
        if isinstance(answers, AsyncIterable):
            return [answer async for answer in answers]
        return await asyncio.get_running_loop().run_in_executor(None, list, answers)


async def _awaited(work: Awaitable[_T]) -> _T:
    return await work


def perform(action: Action, job: Job) -> Result:
    """Perform one job on an event loop that lasts for this call only."""
    return _once(action, lambda runner: runner.perform(job))


def perform_many(action: Action, jobs: list[Job]) -> list[tuple[Job, Answer]]:
    """Perform jobs by the kind's bulk call, on an event loop that lasts for this call only."""
    return _once(action, lambda runner: runner.perform_many(jobs))


def confirm(action: Action, job: Job) -> bool | None:
    """Ask whether an earlier attempt had its effect, on an event loop that lasts for this call only."""
    return _once(action, lambda runner: runner.confirm(job))


def close(action: Action) -> None:
    """Close an action, plain or async."""
    ActionRunner(action).close()


def _once(action: Action, call: Callable[[ActionRunner], _T]) -> _T:
    with ActionRunner(action) as runner:
        return call(runner)
