"""The ledger as operators change it: pause, resume, retry, redo, drop, resolve, replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from .model import Answer
from .store import Ledger


class Operator:
    """Carries out an operator's requests, each in one atomic step, and rings for what became due."""

    def __init__(self, ledger: Ledger, ring: Callable[[Iterable[str]], None]) -> None:
        self._ledger = ledger
        self._ring = ring

    def pause(self, lane: str, reason: str = "paused by an operator", *, by: str = "") -> Answer:
        """Start nothing more in a lane until it is resumed; what runs ends as usual.

        Args:
            lane: its name.
            reason: why, for whoever looks at the lane.
            by: who pauses it.
        """
        return self._do("pause", lane=lane, reason=reason, by=by)

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

    def redo(self, job: str) -> Answer:
        """Do a done job again, as a new job whose key ends in `:r2`, `:r3`.

        The same request again makes no further round: it is refused, with the key of the one that is there.
        """
        return self._do("redo", job=job)

    def replay(
        self,
        delivery: str,
        *,
        again: bool = False,
        only: Sequence[str] | None = None,
        rounds: Sequence[str] | None = None,
    ) -> Answer:
        """Read a settled delivery anew with today's rules, and add the jobs that are missing.

        Args:
            delivery: its id.
            again: also do again what is done.
            only: add missing jobs of these actions only; None for all.
            rounds: with `again`, which rounds to make (`<action>:r2`), so that the same request again makes no more;
                None for the next of every job that is done.
        """
        limits = {"only": only, "rounds": rounds}
        given = {name: list(names) for name, names in limits.items() if names is not None}
        return self._do("replay", delivery=delivery, again=2 if again else 1, **given)

    def ring(self, lanes: Iterable[str]) -> None:
        """Ring for lanes that became due by other means."""
        self._ring(lanes)

    def _do(self, verb: str, **request: Any) -> Answer:
        done, text, bells = self._ledger.operate(verb, **request)
        self._ring(bells)
        return Answer(done, text)
