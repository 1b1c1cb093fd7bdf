"""Whatever the bytes, reading raises nothing, and what it reads can be stored, made again and written."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiercast.config.rules import Condition
from tiercast.event import customer_ids
from tiercast.stored import StoredEvent, revive
from worker.intake.reader import Preview, Read, Unreadable, read

FIXTURES = Path(__file__).parents[1] / "fixtures"
DOCUMENTS = [json.loads(path.read_bytes()) for path in sorted(FIXTURES.glob("*.json"))]
BODIES = [json.dumps(document).encode() for document in DOCUMENTS]
EVENTS = [None, "customer.loyalty.tier.joined", "customer.loyalty.tier.upgraded", "voucher.published"]

CONDITION = Condition("event.tier.points.from >= 1 and event.customer.name != event.campaign.id")

SETTINGS = settings(deadline=None, database=None, max_examples=150, suppress_health_check=list(HealthCheck))

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]))
    | st.sampled_from(["", "2026-03-02", "event", "customer", "whs_000000000000000000", "151", "1.5", " ", "\ud83d"])
)
KEYS = st.sampled_from(
    ["id", "type", "event", "data", "customer", "campaign", "loyalty_tier", "created_at", "points", "object"]
) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def check(body: bytes, event: str | None) -> None:
    with structlog.testing.capture_logs() as logs:
        reading = read(body, source="s", bare_event=event, delivery_id="d", received_us=1_000_000)
    assert logs == []  # no fault of our own
    if isinstance(reading, Read):
        told = reading.event
        assert revive(body, **told.head()) == told
        assert StoredEvent(body, **told.head()).data == told.data
        CONDITION.holds(told)
        "; ".join(reading.notes).encode()
        json.dumps(told.data, ensure_ascii=False, allow_nan=False).encode()
        json.dumps(told.head()).encode()
        assert 0 <= told.created_us <= 2**53
        assert told.id
        assert told.type
        assert all(part is None or isinstance(part, dict) for part in (told.customer, told.campaign, told.tier))
        customer_ids(told)
    elif isinstance(reading, Unreadable):
        str(reading).encode()
        assert reading.reason
    else:
        assert isinstance(reading, Preview)


def places(document: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [way] if way else []
    steps = document.items() if isinstance(document, dict) else ()
    for key, value in steps:
        found += places(value, (*way, key))
    return found


@SETTINGS
@given(st.binary(max_size=200), st.sampled_from(EVENTS))
def test_any_bytes(body: bytes, event: str | None) -> None:
    check(body, event)


@SETTINGS
@given(st.dictionaries(KEYS, VALUES, max_size=8), st.sampled_from(EVENTS))
def test_any_object(document: dict[str, Any], event: str | None) -> None:
    check(json.dumps(document).encode(), event)


@SETTINGS
@given(st.data(), st.sampled_from(DOCUMENTS), st.sampled_from(EVENTS))
def test_a_good_body_with_some_values_changed_or_dropped(
    data: st.DataObject, good: dict[str, Any], event: str | None
) -> None:
    document = copy.deepcopy(good)
    for way in data.draw(st.lists(st.sampled_from(places(good)), min_size=1, max_size=3)):
        place: Any = document
        for step in way[:-1]:
            place = place.get(step) if isinstance(place, dict) else None
        if isinstance(place, dict):
            if data.draw(st.booleans()):
                place[way[-1]] = data.draw(VALUES)
            else:
                place.pop(way[-1], None)
    check(json.dumps(document).encode(), event)


@SETTINGS
@given(st.data(), st.sampled_from(BODIES), st.sampled_from(EVENTS))
def test_a_good_body_with_some_bytes_changed(data: st.DataObject, good: bytes, event: str | None) -> None:
    body = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    check(bytes(body), event)


@SETTINGS
@given(st.data(), st.sampled_from([d for d in DOCUMENTS if "loyalty_tier" in d.get("data", d)]))
def test_where_nothing_depends_on_it_any_value_is_read(data: st.DataObject, good: dict[str, Any]) -> None:
    document = copy.deepcopy(good)
    tier = (document["data"] if "event" in document else document)["loyalty_tier"] or {}
    for key in data.draw(st.lists(st.sampled_from(sorted(set(tier) - {"id"}) or ["name"]), max_size=4)):
        tier[key] = data.draw(VALUES)
    reading = read(
        json.dumps(document).encode(),
        source="s",
        bare_event="customer.loyalty.tier.joined",
        delivery_id="d",
        received_us=1_000_000,
    )
    # What Python writes for infinity is no JSON; nothing else is refused.
    assert not isinstance(reading, Unreadable) or "which JSON does not have" in reading.reason
    check(json.dumps(document).encode(), "customer.loyalty.tier.joined")


def test_a_tier_of_another_event_may_be_anything() -> None:
    # Found by the fuzzing above: a "joined" event has no tier to come from, so nothing had checked it.
    document = dict(next(d for d in DOCUMENTS if "loyalty_tier" in d), loyalty_tier_from=True)
    check(json.dumps(document).encode(), "customer.loyalty.tier.joined")
