"""One source at its limit has nothing refused of another, though both come at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from receiver.commit import Triple
from receiver.enqueue import Enqueue
from tiercast.errors import LedgerFull
from tiercast.ledger.model import Recorded


class Store:
    """Refuses every write with a delivery of the source `full`; its first write waits until it is let go."""

    def __init__(self) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()

    def record(self, deliveries: Sequence[Triple], *, due_ms: Sequence[int] | None = None) -> Recorded:
        first = not self.entered.is_set()
        self.entered.set()
        if first:
            assert self.go_on.wait(10)
        if any(source == "full" for source, _, _ in deliveries):
            raise LedgerFull("it is full")
        return Recorded([])

    def ping(self) -> None:
        raise NotImplementedError


def test_what_arrives_while_another_write_is_under_way_is_not_written_together() -> None:
    store = Store()
    enqueue = Enqueue(store, SimpleNamespace(ring=lambda _: None))  # type: ignore[arg-type]
    outcomes: dict[str, str] = {}

    def send(name: str, source: str) -> None:
        body: Any = SimpleNamespace(body=b"{}")
        try:
            enqueue(body, source)
            outcomes[name] = "stored"
        except LedgerFull:
            outcomes[name] = "refused"

    threads = [threading.Thread(target=send, args=("first", "quiet"))]
    threads[0].start()
    assert store.entered.wait(10)
    for name, source in (("second", "full"), ("third", "quiet"), ("fourth", "full")):
        threads.append(threading.Thread(target=send, args=(name, source)))
        threads[-1].start()
    threads[1].join(10)
    store.go_on.set()
    for thread in threads:
        thread.join(10)

    assert outcomes == {"first": "stored", "second": "refused", "third": "stored", "fourth": "refused"}


def test_a_limit_reaches_whoever_is_at_it() -> None:
    store = Store()
    store.go_on.set()
    enqueue = Enqueue(store, SimpleNamespace(ring=lambda _: None))  # type: ignore[arg-type]
    body: Any = SimpleNamespace(body=b"{}")
    with pytest.raises(LedgerFull):
        enqueue(body, "full")
