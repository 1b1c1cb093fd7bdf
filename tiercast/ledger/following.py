"""Following many deliveries at once: what arrived and what became of it, in a bounded number of round trips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

from . import keys
from .model import DeliveryInfo, DeliveryState, JobInfo
from .reading import Reader
from .store import Ledger


class Follower:
    """Reads a ledger for somebody who looks often."""

    def __init__(self, ledger: Ledger, reader: Reader) -> None:
        self._ledger = ledger
        self._reader = reader
        self._client = cast(Any, ledger.client)

    def now_ms(self) -> int:
        """The ledger's clock."""
        return self._reader.now_ms()

    def arrived(self, since_ms: int, most: int) -> list[str]:
        """The ids of at most `most` deliveries that arrived since then, oldest first."""
        pipe = self._client.pipeline(transaction=False)
        for state in DeliveryState:
            if state.indexed:
                pipe.zrevrangebyscore(self._key(f"ix:d:{state}"), "+inf", since_ms, start=0, num=most)
        for source in self._reader.sources():
            lane = keys.deliveries_lane(source)
            pipe.zrevrangebyscore(self._key(f"due:{lane}"), "+inf", since_ms, start=0, num=most)
            # What is held is ordered by the end of its lease; a worker holds no more than a batch.
            pipe.zrange(self._key(f"held:{lane}"), 0, most - 1)
        found = {member.decode() for members in pipe.execute() for member in members}
        lowest = f"{since_ms:012x}"
        new = sorted(one for one in found if one[:8] + one[9:13] >= lowest)
        return new[:most]

    def read(self, deliveries: Sequence[str]) -> dict[str, DeliveryInfo]:
        """Those of these deliveries that a worker has read; what was filed since then is looked up in the history."""
        pipe = self._client.pipeline(transaction=False)
        for delivery in deliveries:
            pipe.exists(self._key(f"d:{delivery}"))
            pipe.exists(self._key(f"b:{delivery}"))
        answers = pipe.execute() if deliveries else []
        # With a body and nothing else it is queued.
        known = [delivery for i, delivery in enumerate(deliveries) if answers[2 * i] or not answers[2 * i + 1]]
        return {info.id: info for info in self._reader.by_id(known) if info.state.final}

    def gone(self, deliveries: Sequence[str]) -> set[str]:
        """Those of these deliveries of which nothing is left."""
        pipe = self._client.pipeline(transaction=False)
        for delivery in deliveries:
            pipe.exists(self._key(f"d:{delivery}"), self._key(f"b:{delivery}"))
        answers = pipe.execute() if deliveries else []
        return {delivery for delivery, there in zip(deliveries, answers, strict=True) if not there}

    def jobs(self, infos: Iterable[DeliveryInfo]) -> dict[str, list[JobInfo]]:
        """The jobs of each of these deliveries, by delivery."""
        wanted = list(infos)
        if not wanted:
            return {}
        every = tuple(dict.fromkeys(key for info in wanted for key in info.jobs))
        found = {job.key: job for job in self._reader.jobs_of(replace(wanted[0], jobs=every))}
        return {info.id: [found[key] for key in info.jobs if key in found] for info in wanted}

    def _key(self, name: str) -> str:
        return self._ledger.key(name)
