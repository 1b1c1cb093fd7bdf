"""Stores what is authentic: the one place through which a body gets from the receiver into the ledger."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import structlog

from tiercast.ids import new_delivery_id
from tiercast.ringer import BellRinger
from tiercast.signature import Authentic

from .commit import GroupCommit, Triple

log = structlog.get_logger()


class Recorded(Protocol):
    """What the ledger says of a batch that it recorded."""

    @property
    def bells(self) -> Sequence[str]:
        """The lanes that have become due and are to be rung."""


class Store(Protocol):
    """What the receiver needs of the ledger."""

    def record(self, deliveries: Sequence[Triple]) -> Recorded:
        """Store all of (source, delivery id, raw body) durably, or none and raise a LedgerError."""

    def ping(self) -> None:
        """Return soon if the ledger could store now, else raise a LedgerError."""


class Enqueue:
    """Gives a body its delivery id and returns when it is stored.

    Args:
        store: the ledger.
        bells: rings the lanes that the ledger names, after the answer.
    """

    def __init__(self, store: Store, bells: BellRinger) -> None:
        self._store = store
        self._bells = bells
        self._commit = GroupCommit(self._write, then=self._stored)

    def __call__(self, body: Authentic, source: str) -> str:
        """Store one body and return its delivery id.

        Raises:
            LedgerError: it is stored nowhere.
        """
        delivery_id = new_delivery_id()
        self._commit.submit(source, delivery_id, body.body)
        return delivery_id

    def _write(self, deliveries: Sequence[Triple]) -> tuple[Recorded, float]:
        started = time.perf_counter()
        try:
            return self._store.record(deliveries), time.perf_counter() - started
        except Exception as error:
            # One line a batch, not one a request: the ledger is away when it is busiest here.
            log.error("deliveries.unstored", count=len(deliveries), error=type(error).__name__)
            raise

    def _stored(self, deliveries: Sequence[Triple], result: tuple[Recorded, float]) -> None:
        recorded, seconds = result
        self._bells.ring(recorded.bells)
        # One line a write and source, naming every delivery: at full load a line each would cost a third of
        # the receiver's rate.
        for source in {one[0] for one in deliveries}:
            ids = [one[1] for one in deliveries if one[0] == source]
            log.info("deliveries.stored", source=source, deliveries=ids, ms=round(seconds * 1000, 1))
