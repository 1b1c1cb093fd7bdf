"""The scenario of bulk requests: thousands of dead jobs are retried while workers are killed."""

from __future__ import annotations

import time
from pathlib import Path

from tests.dead_jobs import make_dead
from tests.stack import wait_for
from tiercast.ledger.model import JobInfo
from tiercast.ledger.reading import Filter
from tiercast.operations.model import Operation
from tiercast.operations.requests import Operations

from .arena import Arena
from .audit import Row
from .scenario import Scenario

#: How many dead jobs there are, and at which shares of them a worker is killed.
JOBS = 10_000
_KILLS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)

#: Seconds that an operation may take in all.
_PATIENCE = 300.0


class OperationKills(Scenario):
    """Retry 10,000 dead jobs, SIGKILL a worker seven times meanwhile; then redo them and cancel on the way."""

    name = "operation-kills"
    is_long = True

    def __init__(self, jobs: int = JOBS) -> None:
        self._jobs = jobs
        self._notes: list[str] = []

    def notes(self) -> list[str]:
        return self._notes

    def run(self, folder: Path, *, events: int, rate: float) -> Row:
        with self.stage(folder, env=self.variables(folder), **self.arena) as arena:
            with arena.opened() as (ledger, _):
                names = make_dead(ledger, "quick", self._jobs)
            arena.add_worker()
            arena.add_worker()
            broken, held, seconds = self._retry(arena, names)
            effects = arena.sink.effects()
            doubles = sum(len(happened) - 1 for happened in effects.values())
            with arena.opened() as (_, reader):
                jobs = list(reader.jobs(Filter(action="quick")))
            done = sum(str(job.state) == "done" for job in jobs)
            broken += _rounds(jobs, names)
            if doubles > held:
                broken.append(f"{doubles} doubled, with {held} in flight")
            broken += self._redo(arena)
            return Row(
                name=self.name, accepted=len(names), refused=0, processed=done,
                effects=sum(map(len, effects.values())), lost=len(names - set(effects)), outside=0, inside=doubles,
                bound=held, seconds=seconds, broken=tuple(broken), notes=tuple(self._notes),
            )  # fmt: skip

    def _retry(self, arena: Arena, names: set[str]) -> tuple[list[str], int, float]:
        """Retry all, with workers killed: what is wrong, the jobs in flight at the kills, the seconds it took."""
        began, held = time.monotonic(), 0
        arena.cli("jobs", "retry", "--state", "dead", "--no-try-first", "--background", "--yes", "--why", "chaos")
        for share in _KILLS:
            _wait_until_seen(arena, round(share * len(names)))
            held += arena.kill_worker(arena.workers[0])
            arena.add_worker()
        wait_for(lambda: _operation(arena).state.final, seconds=_PATIENCE, every=0.1)
        seconds = time.monotonic() - began
        wait_for(arena.is_empty, seconds=_PATIENCE, every=0.2)
        found = _operation(arena)
        tallies = (str(found.state), found.expected, found.seen, found.done, found.refused)
        self._notes.append(f"{found.done} retried in {seconds:.1f} s with {len(_KILLS)} kills")
        wanted = ("done", len(names), len(names), len(names), 0)
        return ([] if tallies == wanted else [f"tallies are {tallies}, not {wanted}"]), held, seconds

    def _redo(self, arena: Arena) -> list[str]:
        """Redo all and cancel at a third: what is wrong."""
        arena.cli("jobs", "redo", "--action", "quick", "--no-try-first", "--background", "--yes", "--why", "chaos")
        began = time.monotonic()
        _wait_until_seen(arena, self._jobs // 3)
        rate = _operation(arena).seen / (time.monotonic() - began)
        before = _operation(arena).seen
        arena.cli("operations", "cancel", _operation(arena).id)
        found = _operation(arena)
        wait_for(arena.is_empty, seconds=_PATIENCE, every=0.2)
        with arena.opened() as (_, reader):
            made = sum(job.key.endswith(":r2") for job in reader.jobs(Filter(action="quick")))
        last = _operation(arena)
        self._notes.append(f"redo at {rate:.0f} members a second, cancelled at {before}, ended at {last.done}")
        if str(last.state) != "cancelled" or last.done != found.done or made != last.done:
            return [f"cancelled at {found.done}, ended {last.state} at {last.done} with {made} rounds"]
        return []


def _rounds(jobs: list[JobInfo], names: set[str]) -> list[str]:
    """What is wrong with the jobs: each has been retried once, and no other is there."""
    broken = []
    if {job.key for job in jobs} != names:
        broken.append("there are other jobs than before")
    if wrong := [job.key for job in jobs if job.attempts - job.tries != 1]:
        broken.append(f"{len(wrong)} jobs were not retried once, such as {wrong[0]}")
    return broken


def _operation(arena: Arena) -> Operation:
    with arena.opened() as (ledger, reader):
        return next(Operations(ledger, reader).all())


def _wait_until_seen(arena: Arena, count: int) -> None:
    wait_for(lambda: _operation(arena).seen >= count, seconds=_PATIENCE, every=0.02)
