"""Our own actions in the measurements, as kinds that the configuration names: `kind = "bench.kinds:Incr"`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable
from functools import cache
from typing import Any

import redis

from tiercast.actions import Action, Job

from .effects import effect, redis_url

#: Where a listener accepts and never answers: what a hanging vendor looks like.
BLACK_HOLE = "BENCH_BLACK_HOLE"


@cache
def _client() -> Any:
    # All actions of a process share it: up to 64 threads each, where redis-py allows 100 connections.
    return redis.Redis.from_url(redis_url(), max_connections=1024)


class Incr(Action):
    """Increments a counter: one round trip for each job."""

    kind = "bench-incr"
    outside = False

    def perform(self, job: Job) -> None:
        """Have the effect."""
        effect(_client(), self.name, job.event.id)


class IncrMany(Incr):
    """Increments a counter as often as there are jobs, in one round trip."""

    kind = "bench-incr-many"

    def perform_many(self, jobs: list[Job]) -> Iterable[tuple[Job, str | Exception | None]]:
        """Have the effects together."""
        pipe = _client().pipeline(transaction=False)
        for job in jobs:
            effect(pipe, self.name, job.event.id)
        pipe.execute()
        return [(job, None) for job in jobs]


class HangAsync(Action):
    """Calls a vendor that accepts the call and never answers, on the event loop; the worker has to cancel it."""

    kind = "bench-hang-async"

    async def perform(self, job: Job) -> None:  # noqa: ARG002 - the plug-in API
        """Wait in vain."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ[BLACK_HOLE]))
        try:
            writer.write(b"hello?\n")
            await reader.read(1)
        finally:
            writer.close()


class Hang(Action):
    """Calls a vendor that accepts the call and never answers, in a thread, and gives up at the time-out."""

    kind = "bench-hang"

    def perform(self, job: Job) -> None:
        """Wait in vain."""
        with socket.create_connection(("127.0.0.1", int(os.environ[BLACK_HOLE])), timeout=job.timeout) as connection:
            connection.sendall(b"hello?\n")
            connection.recv(1)
