"""Kinds whose effect is a line in the sink: one by one, in bulk, slow, and one that must not be repeated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import fields

from tests.chaos.sink import ASKED, EFFECTS, SEEN, connect, entry
from tiercast.actions import Action, Job, RetryLater


class Effect(Action):
    """Adds one line to the sink for each job; takes `seconds`, half of them after it: the window that kills hit."""

    kind = "chaos-effect"
    outside = False

    class Options(Action.Options):
        sink = fields.String(required=True)
        seconds = fields.Float(load_default=0.0)

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        self._client: Any = connect(self.options.sink)

    def perform(self, job: Job) -> str | None:
        began = time.monotonic()
        time.sleep(self.options.seconds / 2)
        self._add([job], began)
        time.sleep(self.options.seconds / 2)
        return None

    def close(self) -> None:
        self._client.close()

    def _add(self, jobs: list[Job], began: float) -> None:
        """All in one transaction: the sink has an effect wholly or not at all."""
        pipe = self._client.pipeline(transaction=True)
        for job in jobs:
            pipe.xadd(EFFECTS, entry(job.key, attempt=job.attempt, began=began))
            pipe.sadd(SEEN, job.key)
        pipe.execute()


class AsyncEffect(Effect):
    """The same on the event loop, hundreds at once."""

    kind = "chaos-async"

    async def perform(self, job: Job) -> str | None:  # type: ignore[override]
        began = time.monotonic()
        await asyncio.sleep(self.options.seconds / 2)
        self._add([job], began)
        await asyncio.sleep(self.options.seconds / 2)
        return None


class BulkEffect(Effect):
    """Adds the lines of many jobs in one call."""

    kind = "chaos-bulk"

    def perform_many(self, jobs: list[Job]) -> Iterator[tuple[Job, str | Exception | None]]:
        self._add(jobs, time.monotonic())
        for job in jobs:
            yield job, None


class PaidEffect(Effect):
    """Must happen once, and can find out in the sink whether it has."""

    kind = "chaos-paid"
    repeatable = False

    def confirm(self, job: Job) -> bool | None:
        return bool(self._client.sismember(SEEN, job.key))


class LaterEffect(Effect):
    """Asks to be repeated in `after` seconds, and has its effect then."""

    kind = "chaos-later"

    class Options(Effect.Options):
        after = fields.Float(required=True)

    def perform(self, job: Job) -> str | None:
        if job.attempt > 1:
            return super().perform(job)
        self._client.hset(ASKED, job.key, round(time.monotonic() * 1000))
        raise RetryLater("not yet", after=self.options.after)
