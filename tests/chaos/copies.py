"""The scenario of many copies of one event, at the same moment, while workers are killed."""

from __future__ import annotations

import time
from functools import partial

from tests.stack import wait_for

from .arena import Arena
from .scenario import Scenario
from .sender import UPGRADED, Sender

#: How many copies of each event are sent at once, and how many seconds lie between two events.
_COPIES = 200
_APART = 5.0


class Copies(Scenario):
    """Send 200 copies of an event at once and SIGKILL a worker, six times: one set of jobs, nothing paid twice."""

    name = "copies"
    events = 6 * _COPIES
    rate = _COPIES / _APART

    def __init__(self) -> None:
        #: When a worker was killed, milliseconds since 1970.
        self._kills: list[float] = []

    def sender(self, arena: Arena, *, events: int, rate: float) -> Sender:
        found = super().sender(arena, events=events, rate=rate)
        found.threads = found.copies = _COPIES
        found.types = (UPGRADED,)
        return found

    def disturb(self, arena: Arena, sender: Sender) -> int:
        held = 0
        for number in range(sender.count // _COPIES):
            sender.wait(number * _COPIES / sender.count)
            wait_for(partial(_has_begun, arena, 3 * number), seconds=60, every=0.02)
            held += arena.kill_worker(arena.workers[0])
            self._kills.append(time.time() * 1000)
            arena.add_worker()
        return held

    def check(self, arena: Arena, sender: Sender) -> list[str]:
        effects = arena.sink.effects()
        broken = []
        for job, happened in effects.items():
            kills = sum(happened[0].began <= at <= happened[-1].at for at in self._kills)
            if len(happened) > 1 + kills:
                broken.append(f"{job} was done {len(happened)} times, with {kills} kills meanwhile")
        events = {one.event for one in sender.accepted}
        if len(effects) != 3 * len(events):
            broken.append(f"{len(events)} events made {len(effects)} jobs")
        return broken


def _has_begun(arena: Arena, before: int) -> bool:
    """Whether there is an effect beyond those of the events before."""
    return len(arena.sink.effects()) > before
