"""Stores what is authentic: the one place through which a body gets from the receiver into the ledger or the spool."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from tiercast.ids import new_delivery_id
from tiercast.oversized import Oversized
from tiercast.ringer import BellRinger
from tiercast.signature import Authentic, AuthenticStream

from .commit import GroupCommit, Triple
from .store import Recorded, Recorder, Spooled

log = structlog.get_logger()


class Enqueue:
    """Gives a body its delivery id and returns when it is stored.

    Args:
        store: the ledger, with the spool behind it where there is one.
        bells: rings the lanes that the ledger names, after the answer.
    """

    def __init__(self, store: Recorder, bells: BellRinger) -> None:
        self._store = store
        self._bells = bells
        # A write is refused as a whole: one source at its limit must not have another's refused.
        self._commits: dict[str, GroupCommit[tuple[Recorded, float]]] = {}

    def __call__(self, body: Authentic | AuthenticStream, source: str) -> str:
        """Store one body, or a note of one that was not kept, and return its delivery id.

        Raises:
            LedgerError: it is stored nowhere.
        """
        delivery_id = new_delivery_id()
        if isinstance(body, AuthenticStream):
            content = Oversized(size=body.size, sha256=body.sha256).to_body()
        else:
            content = body.body
        commit = self._commits.get(source)
        if commit is None:
            commit = self._commits.setdefault(source, GroupCommit(self._write, then=self._stored))
        commit.submit(source, delivery_id, content)
        return delivery_id

    def _write(self, deliveries: Sequence[Triple]) -> tuple[Recorded, float]:
        started = time.perf_counter()
        return self._store.record(deliveries), time.perf_counter() - started

    def _stored(self, deliveries: Sequence[Triple], result: tuple[Recorded, float]) -> None:
        recorded, seconds = result
        self._bells.ring(recorded.bells)
        # One line a write and source, naming every delivery: at full load a line each would cost a third of
        # the receiver's rate.
        for source in {one[0] for one in deliveries}:
            ids = [one[1] for one in deliveries if one[0] == source]
            ms = round(seconds * 1000, 1)
            if isinstance(recorded, Spooled):
                log.info("deliveries.spooled", source=source, deliveries=ids, ms=ms, reason=recorded.reason)
            else:
                log.info("deliveries.stored", source=source, deliveries=ids, ms=ms)
