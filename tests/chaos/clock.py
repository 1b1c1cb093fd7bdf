"""The scenario of a clock that is wrong: nothing that is owed may be taken up by it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from .arena import Arena
from .scenario import Scenario
from .sender import Sender

#: Seconds that the one worker's clock is ahead, and seconds by which a measured one may differ from it.
_AHEAD = 60.0
_ABOUT = 20.0

#: Seconds that an action asks to be left alone for, and seconds after which its turn has come far too late: less than
#: the clock is wrong, more than a backlog takes.
_AFTER = 1.5
_LATE = 45.0

_LATER = """
[actions.later]
kind = "tests.chaos.kinds:LaterEffect"
sink = "{{sink}}"
after = {after}

[[rules]]
on = "customer.loyalty.tier.upgraded"
do = ["later"]
"""


class ClockAhead(Scenario):
    """Set one worker's clock a minute ahead, the other's not, and kill first the one, then the other."""

    name = "clock-ahead"
    arena: ClassVar[Mapping[str, Any]] = {"more": _LATER.format(after=_AFTER)}

    def __init__(self) -> None:
        #: When a worker was killed, milliseconds since 1970, and the jobs that were held then.
        self._kills: list[tuple[float, list[str]]] = []
        #: The workers whose clock is ahead, and when they had started, seconds since 1970.
        self._wrong: list[tuple[str, float]] = []

    def begin(self, arena: Arena) -> None:
        arena.add_web()
        arena.add_web()
        self._add_wrong(arena)
        arena.add_worker()

    def disturb(self, arena: Arena, sender: Sender) -> int:
        wrong, right = arena.workers
        sender.wait(0.2)
        self._kill(arena, right)  # so that what it held is redelivered to the worker whose clock is ahead
        sender.wait(0.5)
        arena.add_worker()
        sender.wait(0.7)
        self._kill(arena, wrong)
        self._add_wrong(arena)
        return sum(len(jobs) for _, jobs in self._kills)

    def _add_wrong(self, arena: Arena) -> None:
        self._wrong.append((arena.add_worker(ahead=_AHEAD), time.time()))

    def _kill(self, arena: Arena, name: str) -> None:
        arena.freeze(name)
        self._kills.append((time.time() * 1000, arena.held_jobs()))
        arena.kill_worker(name)

    def check(self, arena: Arena, sender: Sender) -> list[str]:
        return [*self._not_shifted(arena), *_not_in_time(arena), *self._not_when_the_lease_ended(arena)]

    def _not_shifted(self, arena: Arena) -> list[str]:
        """What shows that the clock was not ahead where it was to be: then the scenario shows nothing."""
        effects = [one for happened in arena.sink.effects().values() for one in happened]
        ahead = [one for one in effects if abs(one.ahead / 1000 - _AHEAD) < _ABOUT]
        right = [one for one in effects if abs(one.ahead / 1000) < _ABOUT]
        mains = [_main_is_ahead(arena.log(name), at) for name, at in self._wrong]
        found = (
            ("no effect of a worker whose clock is ahead", ahead),
            ("no effect of a worker whose clock is right", right),
            ("effects of a clock that is otherwise wrong", len(ahead) + len(right) == len(effects)),
            ("a worker whose main process is not ahead", all(mains)),
        )
        return [f"{text}: the scenario shows nothing" for text, is_so in found if not is_so]

    def _not_when_the_lease_ended(self, arena: Arena) -> list[str]:
        """Jobs of a killed worker that another took up while their leases ran, or long after."""
        broken = []
        with arena.opened() as (_, reader):
            for killed, jobs in self._kills:
                infos = [info for job in jobs if (info := reader.job(job))]
                # What was lost before was lost with the worker that was killed first, and held again since.
                attempts = [at for info in infos for at in info.history if at.started_ms > killed]
                lost = [(at.started_ms - killed) / 1000 for at in attempts if at.outcome == "lost"]
                # A lease is renewed when a quarter of it is over.
                broken += [f"a lease ended after {after:.1f} s" for after in lost if after < arena.lease / 2]
                broken += [f"a lease ended after {after:.1f} s" for after in lost if after > arena.lease + _LATE]
        return broken


def _not_in_time(arena: Arena) -> list[str]:
    """Jobs that were not repeated when they had asked to be."""
    effects = arena.sink.effects()
    waited = [(effects[job][0].began - at) / 1000 for job, at in arena.sink.asked().items() if job in effects]
    early = [after for after in waited if after < _AFTER - 0.01]
    late = [after for after in waited if after > _AFTER + _LATE]
    return [f"asked for {_AFTER} s, repeated after {after:.2f} s" for after in (*early, *late)]


def _main_is_ahead(log: str, ready: float) -> bool:
    """Whether a worker's main process, which was ready at that time, has written another into its log."""
    for line in log.splitlines():
        if line.startswith("{") and " ready." in (told := json.loads(line))["event"]:
            return abs(datetime.fromisoformat(told["timestamp"]).timestamp() - ready - _AHEAD) < _ABOUT
    return False
