"""Log lines of refused requests: the first ones each, then one a second with a count.

Anybody can have requests refused, as many as the network carries; a line each would fill the disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger()

#: Lines of one source and reason that are written at once; after a minute without any they may be again.
FIRST = 10
_QUIET_SECONDS = 60.0


@dataclass(slots=True)
class _Tally:
    """The refusals of one source and reason. Times are seconds of the clock."""

    lines: int = 0
    told: float = float("-inf")
    last: float = float("-inf")
    untold: int = 0


class Refusals:
    """Counts refusals by source and reason, and logs some of them.

    Reasons are ours and few, and a source is a known one or None, so there are few tallies.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tallies: dict[tuple[str | None, str], _Tally] = {}

    def note(self, source: str | None, reason: str, **more: str) -> None:
        """Log a refusal, with more of ours, or count it for a later line."""
        now = self._clock()
        with self._lock:
            tally = self._tallies.setdefault((source, reason), _Tally())
            if now - tally.last >= _QUIET_SECONDS:
                tally.lines = 0
            tally.last = now
            if tally.lines >= FIRST:
                tally.untold += 1
                return
            tally.lines += 1
            tally.told = now
        _tell(source, reason, **more)

    def flush(self) -> None:
        """Log the count of what was not logged, at most once a second for each source and reason; call it often."""
        now = self._clock()
        due: list[tuple[str | None, str, int]] = []
        with self._lock:
            for (source, reason), tally in self._tallies.items():
                if tally.untold and now - tally.told >= 1:
                    due.append((source, reason, tally.untold))
                    tally.untold, tally.told = 0, now
        for source, reason, count in due:
            _tell(source, reason, count=count)


def _tell(source: str | None, reason: str, **more: str | int) -> None:
    about = {} if source is None else {"source": source}
    log.warning("delivery.refused", **about, reason=reason, **more)
