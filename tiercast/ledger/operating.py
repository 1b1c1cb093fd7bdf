"""The ledger as operators change it: pause, resume, retry, drop, resolve, replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from .model import Answer
from .store import Ledger


class Operator:
    """Carries out an operator's requests, each in one atomic step, and rings for what became due."""

    def __init__(self, ledger: Ledger, ring: Callable[[Iterable[str]], None]) -> None:
        self._ledger = ledger
        self._ring = ring

    def pause(self, lane: str, reason: str = "paused by an operator") -> Answer:
        """Start nothing more in a lane until it is resumed; what runs ends as usual."""
        return self._do("pause", lane=lane, reason=reason)

    def resume(self, lane: str) -> Answer:
        """Let a lane go on: ends a pause, and any other reason to wait."""
        return self._do("resume", lane=lane)

    def retry(self, job: str) -> Answer:
        """Give a settled job that was not done a new set of attempts; make a waiting one due now."""
        return self._do("retry", job=job)

    def drop(self, job: str) -> Answer:
        """Give a job up: it becomes skipped, and the next of its groups is released."""
        return self._do("drop", job=job)

    def resolve(self, job: str, as_: Literal["done", "retry"]) -> Answer:
        """Decide an uncertain job: it happened, or it did not and is owed again."""
        return self._do("resolve", job=job, **{"as": as_})

    def replay(self, delivery: str, *, again: bool = False) -> Answer:
        """Read a settled delivery anew with today's rules; `again` also does again what is done."""
        return self._do("replay", delivery=delivery, again=2 if again else 1)

    def ring(self, lanes: Iterable[str]) -> None:
        """Ring for lanes that became due by other means."""
        self._ring(lanes)

    def _do(self, verb: str, **request: Any) -> Answer:
        done, text, bells = self._ledger.operate(verb, **request)
        self._ring(bells)
        return Answer(done, text)
