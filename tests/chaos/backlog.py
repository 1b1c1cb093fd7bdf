"""The scenario of a worker that is killed with a hundred jobs in flight and five minutes of backlog behind them."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import ClassVar

from tests.stack import wait_for
from tiercast.ids import new_delivery_id
from tiercast.ledger.model import JobState
from tiercast.samples import envelope, sample_data

from .arena import Arena
from .audit import Row
from .scenario import Scenario

PROLONGED = "customer.loyalty.tier.prolonged"

#: Seconds that each job takes.
_SECONDS = 1.0

#: Seconds after the end of the lease within which what was in flight is to be settled.
_WITHIN = 5.0

_STEADY = f"""
[actions.steady]
kind = "tests.chaos.kinds:{{kind}}"
sink = "{{{{sink}}}}"
seconds = {_SECONDS}
concurrency = {{concurrency}}

[[rules]]
on = "{PROLONGED}"
do = ["steady"]
"""


class KillInBacklog(Scenario):
    """Kill a worker with 100 jobs in flight and 300 s of backlog: those are settled within a lease and 5 s."""

    name = "kill-in-backlog"
    is_long = True
    kind: ClassVar[str] = "Effect"
    #: How many jobs are to be in flight, how many may be, and seconds of backlog behind them.
    in_flight: ClassVar[int] = 100
    concurrency: ClassVar[int] = 7 * 16
    backlog: ClassVar[int] = 300
    #: Processes of the worker that is killed.
    processes: ClassVar[int] = 7

    def run(self, folder: Path, *, events: int, rate: float) -> Row:
        more = _STEADY.format(kind=self.kind, concurrency=self.concurrency)
        with self.stage(folder, lease=30.0, more=more) as arena:
            _feed(arena, round((self.backlog + 40) * self.concurrency / _SECONDS))
            victim = arena.add_worker(concurrency=self.processes)
            wait_for(lambda: not arena.owes("deliveries/voucherify") and arena.held() >= self.in_flight, seconds=180)
            arena.freeze(victim)
            killed, jobs, backlog = time.time(), arena.held_jobs(), arena.owes("jobs/steady")
            arena.workers.remove(victim)
            arena.stop(victim, signal.SIGKILL)
            arena.add_worker(concurrency=4)
            left = list(jobs)
            wait_for(lambda: not _still_open(arena, left), seconds=arena.lease + 60, every=0.1)
            took = _last_settled(arena, jobs) - killed
            return self._row(arena, jobs, backlog - len(jobs), took)

    def _row(self, arena: Arena, jobs: list[str], backlog: int, took: float) -> Row:
        effects = arena.sink.effects()
        happened = [len(effects.get(job, ())) for job in jobs]
        wait = backlog * _SECONDS / self.concurrency
        found = (
            (f"settled only after {took:.1f} s", took > arena.lease + _WITHIN),
            (f"{len(jobs)} jobs were in flight: the scenario shows nothing", len(jobs) < self.in_flight),
            (f"{wait:.0f} s of backlog: the scenario shows nothing", wait < self.backlog),
            ("jobs lost", 0 in happened),
        )
        return Row(
            name=self.name,
            accepted=len(jobs),
            refused=0,
            processed=len(jobs),
            effects=sum(happened),
            lost=happened.count(0),
            outside=0,
            inside=sum(max(0, count - 1) for count in happened),
            bound=len(jobs),
            seconds=took,
            broken=tuple(text for text, is_so in found if is_so),
            notes=(f"{len(jobs)} jobs in flight, {backlog} behind them ({wait:.0f} s); lease {arena.lease:.0f} s",),
        )


class KillInFlight(KillInBacklog):
    """Kill a worker with 1,000 async calls in flight: all are settled within a lease and 5 s."""

    name = "kill-in-flight"
    kind = "AsyncEffect"
    in_flight = 1000
    concurrency = 1100
    backlog = 5
    processes = 2


def _feed(arena: Arena, count: int) -> None:
    """Have the ledger owe so many deliveries, as receivers record them."""
    with arena.opened() as (ledger, _):
        for start in range(0, count, 500):
            bodies = (json.dumps(envelope(PROLONGED, sample_data(PROLONGED))).encode() for _ in range(500))
            ledger.record([("voucherify", new_delivery_id(), body) for body in bodies][: count - start])


def _still_open(arena: Arena, jobs: list[str]) -> int:
    """Take those that are done off the list, and return how many are left."""
    with arena.opened() as (_, reader):
        jobs[:] = [job for job in jobs if (info := reader.job(job)) is None or info.state is not JobState.DONE]
    return len(jobs)


def _last_settled(arena: Arena, jobs: list[str]) -> float:
    """When the last of the jobs was settled, by the ledger's clock, in seconds since 1970: to look takes a while."""
    with arena.opened() as (_, reader):
        return max(info.changed_ms for job in jobs if (info := reader.job(job))) / 1000
