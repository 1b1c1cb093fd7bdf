"""The time that one attempt, or one bulk call, may take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_scope = threading.local()


class Deadline:
    """A span of seconds that began when the object was made.

    >>> Deadline(10).enough
    True
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left, never less than 0."""
        return max(0.0, self._end - time.monotonic())

    @property
    def enough(self) -> bool:
        """Whether a further call should be begun: a fifth of the time is left."""
        return self.left > self.seconds / 5


@contextmanager
def within(deadline: Deadline) -> Iterator[None]:
    """Hold what this thread does on our sockets to `deadline`."""
    before = current()
    _scope.deadline = deadline
    try:
        yield
    finally:
        _scope.deadline = before


def current() -> Deadline | None:
    """The deadline that this thread works under."""
    return getattr(_scope, "deadline", None)
