"""The events that a process keeps between the jobs of one delivery: bounded by bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tiercast.ledger.model import HeldJob
from tiercast.samples import envelope, sample_data
from worker.execution.events import EventCache

JOINED = "customer.loyalty.tier.joined"


def held(delivery: str, padding: int = 0, **changes: Any) -> HeldJob:
    body = json.dumps(envelope(JOINED, sample_data(), event_id="e") | {"padding": "x" * padding}).encode()
    fields: dict[str, Any] = {
        "key": f"voucherify:{delivery}:act", "token": "t", "attempts": 0, "tries": 0, "effect_possible": False,
        "expiries": 0,
        "delay": 0.0, "delivery": delivery, "event_id": delivery, "type": JOINED, "at": "2026-08-01T10:00:00.000Z",
        "created_us": 1, "source": "voucherify", "form": "envelope", "once": None, "body": body,
    }  # fmt: skip
    return HeldJob(**(fields | changes))


def test_the_jobs_of_a_delivery_share_one_event() -> None:
    cache = EventCache()
    assert cache.event_of(held("d1")) is cache.event_of(held("d1"))
    assert cache.event_of(held("d1")) is not cache.event_of(held("d2"))


def test_large_events_do_not_fill_the_memory() -> None:
    # Given room for 400 kB, and events of 50 kB
    cache = EventCache(400_000)
    first = cache.event_of(held("d0", 50_000))
    for number in range(1, 100):
        cache.event_of(held(f"d{number}", 50_000))
        assert cache.bytes <= 400_000

    assert cache.event_of(held("d0", 50_000)) is not first
    # and one that would take most of it is not kept at all
    before = cache.bytes
    cache.event_of(held("large", 300_000))
    assert cache.bytes == before


def test_a_body_that_is_gone_is_no_event() -> None:
    with pytest.raises(ValueError, match="its body is gone"):
        EventCache().event_of(held("d", body=b""))
