"""Kinds for tests: `kind = "tests.kinds:Scripted"`. What a job does is told by its option `behaviour`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from marshmallow import fields

from tiercast.actions import Action, Halt, Job, Permanent, RateLimited, RetryLater, Skip, Unavailable, Unknown


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of the file that kinds write to: what happened to which job, in which process and attempt."""

    what: str
    key: str
    attempt: int
    pid: int


def marks(path: Path, what: str = "effect") -> list[Mark]:
    """Read what kinds have written so far."""
    if not path.exists():
        return []
    rows = [line.split(" ") for line in path.read_text().splitlines()]
    return [Mark(row[0], row[1], int(row[2]), int(row[3])) for row in rows if row[0] == what]


class Marking(Action):
    """Base of the kinds for tests: writes down what happens to which job."""

    outside = False

    class Options(Action.Options):
        effects = fields.String(required=True)
        behaviour = fields.String(load_default="done")
        seconds = fields.Float(load_default=0.05)

    def mark(self, what: str, job: Job) -> None:
        """Write a line: appended in one piece, whoever else writes."""
        line = f"{what} {job.key} {job.attempt} {os.getpid()}\n"
        descriptor = os.open(self.options.effects, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def has_happened(self, job: Job) -> bool:
        """Whether the job's effect is written down."""
        return any(mark.key == job.key for mark in marks(Path(self.options.effects)))


class Scripted(Marking):
    """Does what its option `behaviour` says, and writes each effect down, for tests."""

    kind = "scripted"

    def perform(self, job: Job) -> str | None:
        answer: str | None = _BEHAVIOURS[job.options.behaviour](self, job)
        return answer


class Paying(Scripted):
    """Is not repeatable, and finds out by what is written down, for tests."""

    kind = "paying"
    repeatable = False

    def confirm(self, job: Job) -> bool | None:
        self.mark("asked", job)
        if job.options.behaviour == "unknowable":
            return None
        if job.options.behaviour == "unaskable":
            raise ConnectionError("nobody answers")
        return self.has_happened(job)


class Blind(Scripted):
    """Is not repeatable, cannot find out and leaves jobs uncertain, for tests."""

    kind = "blind"
    repeatable = False


class Bulk(Scripted):
    """Does many in one call, for tests."""

    kind = "bulk"

    def perform_many(self, jobs: list[Job]) -> Iterator[tuple[Job, str | Exception | None]]:
        self.mark("call", jobs[0])
        for job in jobs:
            if job.options.behaviour == "left-out":
                continue
            if job.options.behaviour == "breaks":
                raise ConnectionError("the call broke")
            try:
                yield job, self.perform(job)
            except SystemExit:
                yield job, RuntimeError("it would have ended its thread")
            except Exception as error:
                yield job, error


class Async(Marking):
    """Does what its option `behaviour` says on the event loop, for tests."""

    kind = "async"

    async def perform(self, job: Job) -> str | None:
        return await _behave(self, job)


class AsyncPaying(Async):
    """Is async and not repeatable, and finds out by what is written down, for tests."""

    kind = "async-paying"
    repeatable = False

    async def confirm(self, job: Job) -> bool | None:
        self.mark("asked", job)
        await asyncio.sleep(0)
        return self.has_happened(job)


class AsyncBulk(Marking):
    """Does many in one call on the event loop, for tests."""

    kind = "async-bulk"

    async def perform_many(self, jobs: list[Job]) -> AsyncIterator[tuple[Job, str | Exception | None]]:
        self.mark("call", jobs[0])
        for job in jobs:
            if job.options.behaviour == "left-out":
                continue
            try:
                yield job, await _behave(self, job)
            except SystemExit:
                yield job, RuntimeError("it would have ended its loop")
            except Exception as error:
                yield job, error


async def _behave(kind: Marking, job: Job) -> str | None:
    behave = _ASYNC_BEHAVIOURS.get(job.options.behaviour)
    answer: str | None = await behave(kind, job) if behave else _BEHAVIOURS[job.options.behaviour](kind, job)
    return answer


async def _slow_async(kind: Marking, job: Job) -> str:
    kind.mark("begin", job)
    await asyncio.sleep(job.options.seconds)
    return _done(kind, job)


async def _hang_async(kind: Marking, job: Job) -> None:
    """Never ends by itself."""
    kind.mark("begin", job)
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        kind.mark("cancelled", job)
        raise


async def _swallow_async(kind: Marking, job: Job) -> None:
    """Goes on however often it is cancelled."""
    kind.mark("begin", job)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            kind.mark("cancelled", job)


async def _block_async(kind: Marking, job: Job) -> None:
    """Takes the loop from all others."""
    kind.mark("begin", job)
    time.sleep(3600)


_ASYNC_BEHAVIOURS: Mapping[str, Callable[[Marking, Job], Awaitable[str | None]]] = {
    "slow": _slow_async,
    "hang": _hang_async,
    "doze": _hang_async,
    "stuck": _hang_async,
    "swallow": _swallow_async,
    "block": _block_async,
}


def _done(kind: Marking, job: Job) -> str:
    kind.mark("effect", job)
    return "it is done"


def _slow(kind: Marking, job: Job) -> str:
    kind.mark("begin", job)
    time.sleep(job.options.seconds)
    kind.mark("effect", job)
    return "it is done"


def _hang(kind: Marking, job: Job) -> None:
    kind.mark("begin", job)
    time.sleep(job.timeout)
    kind.mark("end", job)
    raise RetryLater("no answer in time")


def _stuck(kind: Marking, job: Job) -> None:
    kind.mark("begin", job)
    time.sleep(3600)


def _doze(kind: Marking, job: Job) -> None:
    kind.mark("begin", job)
    time.sleep(job.timeout + 3)


def _kill(kind: Marking, job: Job) -> None:
    kind.mark("begin", job)
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_after(kind: Marking, job: Job) -> None:
    kind.mark("effect", job)
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_once(kind: Marking, job: Job) -> None:
    if job.attempt == 1:
        _kill(kind, job)
    kind.mark("effect", job)


def _lost(kind: Marking, job: Job) -> None:
    kind.mark("effect", job)
    raise Unknown("sent, and no answer")


def _lost_on_the_way(kind: Marking, job: Job) -> str | None:
    if job.attempt == 1:
        raise Unknown("no answer")
    return _done(kind, job)


def _second_time(kind: Marking, job: Job) -> str | None:
    if job.attempt == 1:
        raise RetryLater("not yet", after=0)
    return _done(kind, job)


def _raising(error: BaseException) -> Callable[[Marking, Job], None]:
    def behave(kind: Marking, job: Job) -> None:
        kind.mark("begin", job)
        raise error

    return behave


_BEHAVIOURS: Mapping[str, Callable[[Marking, Job], Any]] = {
    "done": _done,
    "slow": _slow,
    "hang": _hang,
    "stuck": _stuck,
    "doze": _doze,
    "kill": _kill,
    "kill-after": _kill_after,
    "kill-once": _kill_once,
    "lost": _lost,
    "lost-on-the-way": _lost_on_the_way,
    "unknowable": _lost,
    "unaskable": _lost,
    "second-time": _second_time,
    "odd": lambda kind, job: (_done(kind, job), 7)[1],
    "permanent": _raising(Permanent("it can never be")),
    "skip": _raising(Skip("there is nothing to do")),
    "later": _raising(RetryLater("try again", after=0)),
    "everyone": _raising(RetryLater("too many requests", after=30, everyone=True)),
    "half-character": _raising(Permanent("a reason with half a character \ud83d in it")),
    "half-halt": _raising(Halt("a setting \ud83d is wrong", after=30, cause="setting")),
    "rate-limited": _raising(RateLimited("too many requests")),
    "unavailable": _raising(Unavailable("nobody answers")),
    "halt": _raising(Halt("the credential is refused", after=30)),
    "unknown": _raising(Unknown("no answer")),
    "raises": _raising(ValueError("a mistake in the kind")),
    "exits": _raising(SystemExit(3)),
}


class Unnamed(Scripted):
    """Yields what it should not from its bulk call, for tests."""

    kind = "unnamed"
    answers: ClassVar[Callable[[list[Job]], Any]]

    def perform_many(self, jobs: list[Job]) -> Any:
        return type(self).answers(jobs)
