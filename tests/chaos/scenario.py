"""What every scenario does: start an arena, send, have it disturbed, wait until nothing is owed, audit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from tests.stack import SECRET

from .arena import Arena
from .audit import Row, audit, unsettled
from .sender import Sender

#: Seconds after which what is still owed counts as lost.
_PATIENCE = 120.0


class CannotBeShown(Exception):
    """This machine lacks what the scenario needs."""


class Scenario:
    """Base: two receivers, two workers with two processes each, events at a steady rate."""

    #: What `--only` takes.
    name: ClassVar[str] = ""
    #: The arena's class.
    stage: ClassVar[type[Arena]] = Arena
    #: How the arena differs.
    arena: ClassVar[Mapping[str, Any]] = {}
    #: The share of the events asked for that it sends.
    share: ClassVar[float] = 1.0
    #: How many events it sends, and how many a second, whatever is asked for.
    events: ClassVar[int | None] = None
    rate: ClassVar[float | None] = None
    #: Whether it takes minutes, and so runs only where it is named.
    is_long: ClassVar[bool] = False
    #: When all was done: seconds of the monotonic clock.
    caught_up: float = 0.0
    #: Whether a frozen attempt may go on when another has confirmed that it had not happened: no lease prevents it.
    may_repeat_paid: ClassVar[bool] = False

    def begin(self, arena: Arena) -> None:
        """Start the processes."""
        for start in (arena.add_web, arena.add_web, arena.add_worker, arena.add_worker):
            start()

    def sender(self, arena: Arena, *, events: int, rate: float) -> Sender:
        """Make what sends."""
        return Sender(SECRET, arena.ports, self.events or round(events * self.share), rate=self.rate or rate)

    def disturb(self, arena: Arena, sender: Sender) -> int:
        """Do what the scenario is about. Returns how many jobs were in flight, over all disturbances."""
        raise NotImplementedError

    def check(self, arena: Arena, sender: Sender) -> list[str]:
        """Say what else is not as promised."""
        return []

    def notes(self) -> list[str]:
        """Say what else was measured."""
        return []

    def variables(self, folder: Path) -> dict[str, str]:
        """More variables of the processes."""
        return {}

    def run(self, folder: Path, *, events: int, rate: float) -> Row:
        """Run it in a folder of its own."""
        with self.stage(folder, env=self.variables(folder), **self.arena) as arena:
            self.begin(arena)
            sender = self.sender(arena, events=events, rate=rate)
            sender.start()
            try:
                bound = self.disturb(arena, sender)
                sender.finish()
            finally:
                sender.stop()
            seconds = _caught_up(arena, sender)
            self.caught_up = time.monotonic()
            row = audit(arena, sender, self.name, bound=bound, seconds=seconds, may_repeat_paid=self.may_repeat_paid)
            broken = (*row.broken, *self.check(arena, sender))
            return replace(row, broken=broken, notes=tuple(self.notes()))


def _caught_up(arena: Arena, sender: Sender) -> float:
    """Wait until nothing is owed and every accepted delivery is settled; the audit says what is not in time."""
    began = time.monotonic()
    while time.monotonic() - began < _PATIENCE:
        if arena.is_empty() and not unsettled(arena, (a.delivery for a in sender.accepted)):
            break
        time.sleep(0.1)
    return time.monotonic() - began
