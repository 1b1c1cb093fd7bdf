"""Calls a kind's methods, plain or async, from code that is neither a worker nor async: the conformance kit and
`tiercast actions test`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, Iterable
from types import TracebackType
from typing import Any

from .actions import Action, Job

#: What became of a job: a text or None where it is done, or the exception that the kind answered with.
Answer = str | Exception | None


class ActionRunner:
    """Runs one action on an event loop of its own, which lasts as long as the action: its connections belong to it.

    >>> from tiercast.testing import make_action, make_job
    >>> with ActionRunner(make_action(Stars, {})) as stars:         # doctest: +SKIP
    ...     stars.perform(make_job(stars.action))
    """

    def __init__(self, action: Action) -> None:
        self.action = action
        self._loop = asyncio.Runner()

    def __enter__(self) -> ActionRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def perform(self, job: Job) -> str | None:
        """Perform one job and return what the kind returned; what it raises is raised."""
        return self._loop.run(_result(self.action.perform, job))  # type: ignore[no-any-return]

    def perform_at_once(self, jobs: Iterable[Job]) -> list[Answer]:
        """Perform jobs at the same time, as a worker does; an answer for each, in their order."""
        return self._loop.run(_all(self.action, list(jobs)))

    def perform_many(self, jobs: list[Job]) -> list[tuple[Job, Answer]]:
        """Perform jobs by the kind's bulk call and return what it yielded; what it raises is raised."""
        return self._loop.run(_listed(self.action, jobs))

    def confirm(self, job: Job) -> bool | None:
        """Ask the kind whether an earlier attempt of the job had its effect."""
        return self._loop.run(_result(self.action.confirm, job))  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the action and the loop; more than once does no harm."""
        self._loop.run(_result(self.action.close))
        self._loop.close()
        self._loop = asyncio.Runner()


def perform(action: Action, job: Job) -> str | None:
    """Perform one job on an event loop that lasts for this call only."""
    return asyncio.run(_result(action.perform, job))  # type: ignore[no-any-return]


def perform_many(action: Action, jobs: list[Job]) -> list[tuple[Job, Answer]]:
    """Perform jobs by the kind's bulk call, on an event loop that lasts for this call only."""
    return asyncio.run(_listed(action, jobs))


def close(action: Action) -> None:
    """Close an action, on an event loop that lasts for this call only where its `close` is async."""
    if inspect.iscoroutinefunction(action.close):
        asyncio.run(action.close())
    else:
        action.close()


async def _result(method: Any, *args: Any) -> Any:
    """Call a method: an async one here, a plain one in a thread, since it may block."""
    if inspect.iscoroutinefunction(method):
        return await method(*args)
    return await asyncio.to_thread(method, *args)


async def _all(action: Action, jobs: list[Job]) -> list[Answer]:
    async def answer_for(job: Job) -> Answer:
        try:
            return await _result(action.perform, job)  # type: ignore[no-any-return]
        except Exception as error:
            return error

    return await asyncio.gather(*map(answer_for, jobs))


async def _listed(action: Action, jobs: list[Job]) -> list[tuple[Job, Answer]]:
    answers = action.perform_many(jobs)
    if isinstance(answers, AsyncIterable):
        return [answer async for answer in answers]
    return await asyncio.to_thread(list, answers)
