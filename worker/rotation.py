"""Hands bells to the idle processes of the pool in turn.

Celery 5.7 means to, but its counter begins anew with every bell, so the first idle process gets them all. Ours go back
to being idle at once where jobs take long, since those are left to threads: one process would have all its threads
busy, and the others none.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from celery import signals


@signals.worker_ready.connect
def _rotate(sender: Any, **_: Any) -> None:
    """Take effect on the loop that is about to begin: after the start, and whenever the broker is back."""
    hub = getattr(sender, "hub", None)
    if hub is not None and hub.consolidate_callback is not None:  # pools other than the one of processes have none
        hub.consolidate_callback = in_turn(hub.consolidate_callback)


def in_turn(schedule: Callable[[list[int]], None]) -> Callable[[list[int]], None]:
    """Have a function that prefers the first of a list called with another one first each time."""
    turns = count()

    def scheduled(ready: list[int]) -> None:
        ready = sorted(ready)
        first = next(turns) % len(ready) if ready else 0
        schedule(ready[first:] + ready[:first])

    return scheduled
