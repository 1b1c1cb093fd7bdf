"""The scenarios of a ledger that is away for a while, with a spool: every answer is 202."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from .arena import CAPACITY, Arena, pause
from .scenario import Scenario
from .sender import Sender


class LedgerAway(Scenario):
    """Take the ledger away for eight seconds, with a spool: every answer is 202."""

    name = "ledger-away"
    #: Seconds.
    away: ClassVar[float] = 8.0
    #: The share of the events that is sent before.
    before: ClassVar[float] = 0.2

    def __init__(self) -> None:
        #: How long each 202 took while the ledger was away, in seconds, and when it was back.
        self._took: list[float] = []
        self._back = 0.0

    def variables(self, folder: Path) -> dict[str, str]:
        return {"TIERCAST_SPOOL_DIR": str(folder / "spool")}

    def disturb(self, arena: Arena, sender: Sender) -> int:
        sender.wait(self.before)
        arena.server.kill()
        gone = len(sender.accepted)
        pause(self.away)
        self._took = sorted(one.took for one in sender.accepted[gone:])
        arena.server.start()
        self._back = time.monotonic()
        return CAPACITY

    def check(self, arena: Arena, sender: Sender) -> list[str]:
        return [f"{count} answers were {status}, not 202" for status, count in sender.refused.items()]

    def notes(self) -> list[str]:
        p50, p99 = (self._after(share) * 1000 for share in (0.5, 0.99))
        return [
            f"{len(self._took)} answers while it was away: p50 {p50:.1f} ms, p99 {p99:.1f} ms",
            f"all was done {self._within:.1f} s after it was back",
        ]

    @property
    def _within(self) -> float:
        return self.caught_up - self._back

    def _after(self, share: float) -> float:
        """Seconds within which that share of the answers came."""
        return self._took[min(len(self._took) - 1, int(share * len(self._took)))] if self._took else 0.0


class LedgerAwayMinute(LedgerAway):
    """Take the ledger away for a minute at 100 events a second, with a spool: p99 of the answers under 100 ms."""

    name = "ledger-away-minute"
    is_long = True
    #: Three times as quick, since at its usual pace the slow action alone would need half the time that is allowed.
    arena: ClassVar[Mapping[str, Any]] = {"slow": 0.1}
    away = 60.0
    before = 10 / 70
    rate = 100.0
    events = 7000

    def check(self, arena: Arena, sender: Sender) -> list[str]:
        found = (
            (f"p99 was {self._after(0.99) * 1000:.0f} ms", self._after(0.99) >= 0.1),
            (f"all was done only {self._within:.0f} s after it was back", self._within > 30),
        )
        return [*super().check(arena, sender), *(text for text, is_so in found if is_so)]
