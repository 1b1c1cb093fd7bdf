"""The time that one attempt, or one bulk call, may take."""

from __future__ import annotations

import time


class Deadline:
    """A span of seconds that began when the object was made. One attempt uses it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._step_began: float | None = None
        self._longest_step = 0.0

    @property
    def left(self) -> float:
        """Seconds left, never less than 0."""
        return max(0.0, self._end - time.monotonic())

    def another(self) -> bool:
        """Whether to begin another call: asked before each, it learns how long they take.

        >>> Deadline(10).another()
        True
        """
        now = time.monotonic()
        if self._step_began is not None:
            self._longest_step = max(self._longest_step, now - self._step_began)
        self._step_began = now
        return self._end - now > max(self.seconds / 5, self._longest_step * 1.5)
