"""A wall clock that is ahead, for Python processes that are started with this folder on their PYTHONPATH.

Python imports a module of this name before all others, in every process that is started, and a forked one inherits
it. So no library keeps a clock of its own that is right. Monotonic clocks stay as they are, as they do where a
machine's clock is wrong. CLOCK_AHEAD is how far ahead it is, in seconds.
"""

from __future__ import annotations

import datetime
import os
import time
from typing import Any

_RealDatetime: Any = datetime.datetime


class _Kind(type):
    """Makes the real class's instances, which C code goes on making, count as ours."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _RealDatetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _RealDatetime)


class _Ahead(_RealDatetime, metaclass=_Kind):  # type: ignore[misc]
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return cls.now()


def _set_ahead(seconds: float) -> None:
    """Put the clock ahead, wherever Python code may look at it."""
    clocks: Any = time
    now, now_ns, clock, clock_ns = time.time, time.time_ns, time.clock_gettime, time.clock_gettime_ns
    ns = round(seconds * 1e9)
    clocks.time = lambda: now() + seconds
    clocks.time_ns = lambda: now_ns() + ns
    clocks.clock_gettime = lambda which: clock(which) + (seconds if which == time.CLOCK_REALTIME else 0)
    clocks.clock_gettime_ns = lambda which: clock_ns(which) + (ns if which == time.CLOCK_REALTIME else 0)
    for name in ("gmtime", "localtime", "ctime"):
        real = getattr(time, name)
        setattr(clocks, name, lambda at=None, real=real: real(clocks.time() if at is None else at))
    form = time.strftime
    clocks.strftime = lambda text, at=None: form(text, clocks.localtime() if at is None else at)
    _Ahead.__name__ = _Ahead.__qualname__ = "datetime"
    _Ahead.__module__ = "datetime"  # so that it is pickled under its own name
    dates: Any = datetime
    dates.datetime = _Ahead


if _seconds := float(os.environ.get("CLOCK_AHEAD", "0")):
    _set_ahead(_seconds)
