"""When a failed job is tried again, and when it is given up."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

#: The longest wait, in seconds, that a kind can ask for: a week.
MAX_WAIT_SECONDS = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Try again in `wait` seconds, or give up, with the reason."""

    action: Literal["retry", "give up"]
    wait: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How an action's failures are retried. Durations are seconds.

    Args:
        backoff: the first wait; it doubles with each failure.
        backoff_max: the longest wait.
        give_up: how long a job may go on failing by itself; time that its lane was on hold does not count.
        attempts: an optional cap on the number of attempts.
    """

    backoff: float
    backoff_max: float
    give_up: float
    attempts: int | None = None

    def decide(self, failures: int, failing: float | None, after: object = None) -> RetryDecision:
        """Decide after a failure.

        Args:
            failures: how many attempts failed before this one.
            failing: seconds since the first of them, None where this is the first.
            after: seconds that the vendor or the kind asked to wait; what is no usable number is ignored.
        """
        if self.attempts is not None and failures + 1 >= self.attempts:
            return RetryDecision("give up", reason=f"{failures + 1} attempts failed")
        asked = usable_seconds(after)
        if failing is not None and failing >= self.give_up:
            return RetryDecision("give up", reason=f"it has failed for {span(failing)}")
        return RetryDecision("retry", self.pause(failures) if asked is None else asked + random.uniform(0, 1))  # noqa: S311

    def pause(self, failures: int) -> float:
        """Seconds to wait after that many failures: exponential, with jitter over the upper half."""
        longest = min(self.backoff_max, self.backoff * 2.0 ** min(failures, 30))
        return random.uniform(longest / 2, longest)  # noqa: S311 - jitter, no secret


def usable_seconds(after: object) -> float | None:
    """A wait that was asked for, within bounds; None where it is no usable number."""
    if isinstance(after, bool) or not isinstance(after, int | float) or not math.isfinite(after):
        return None
    return min(max(0.0, float(after)), MAX_WAIT_SECONDS)


def span(seconds: float) -> str:
    """A duration in words.

    >>> span(90000)
    '25 hours'
    """
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length or (unit != "day" and seconds >= length):
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{round(seconds)} seconds"
