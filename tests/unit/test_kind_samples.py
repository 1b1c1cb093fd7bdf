"""The samples are what Voucherify sends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tiercast.event import TIER_EVENTS
from tiercast.samples import envelope, sample_data, sample_event, variants
from tiercast.views import Customer


@pytest.mark.parametrize("type_", TIER_EVENTS)
def test_a_sample_has_the_keys_of_the_documented_one(type_: str, shared: Path) -> None:
    documented = json.loads((shared / "data" / f"{type_}.json").read_text())
    made = sample_data(type_)
    assert set(made) == set(documented)
    for part in (name for name in made if name.startswith("loyalty_tier")):
        assert set(made[part]) >= set(documented[part]) - {"expiration"}


@pytest.mark.parametrize("type_", TIER_EVENTS)
def test_every_tier_event_has_its_tiers(type_: str) -> None:
    event = sample_event(type_, tier="Jade")
    named = event.previous_tier if type_.endswith("left") else event.tier
    assert named is not None
    assert named["name"] == "Jade"
    assert (event.tier is None) == type_.endswith("left")


def test_an_envelope_has_seven_keys_and_ids_of_its_own() -> None:
    data = sample_data()
    first, second = envelope(TIER_EVENTS[0], data), envelope(TIER_EVENTS[0], data)
    assert set(first) == {"id", "project_id", "created_at", "type", "data", "source", "event"}
    assert first["event"]["type"] == TIER_EVENTS[0] != first["type"]
    assert first["id"].startswith("whs_")
    assert first["event"]["id"].startswith("evcus_")
    assert first["id"] != second["id"]
    assert first["event"]["id"] != second["event"]["id"]
    assert envelope(TIER_EVENTS[0], data, event_id="evcus_1")["event"]["id"] == "evcus_1"
    json.dumps(first)


@pytest.mark.parametrize("type_", TIER_EVENTS)
def test_variants_hold_the_nulls_and_the_top_tier(type_: str) -> None:
    cases = {case.name: sample_event(type_, data=case.data) for case in variants(type_)}
    assert (cases["null email"].customer or Customer(email="")).email is None
    assert cases["null customer"].customer is None
    top = [tier for tier in (cases["top tier"].tier, cases["top tier"].previous_tier) if tier]
    assert any("to" not in tier["points"] for tier in top)
    nothing = cases["null customer, campaign and tiers"]
    assert (nothing.customer, nothing.campaign, nothing.tier, nothing.previous_tier) == (None, None, None, None)


def test_the_time_of_an_event() -> None:
    event = sample_event(at=datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC))
    assert event.at == "2026-03-01T12:00:00.123Z"
    assert event.created_us == 1772366400123000


def test_other_events_of_voucherify() -> None:
    event = sample_event("voucher.published", customer_id="cust_1")
    assert event.customer is not None
    assert event.customer["id"] == "cust_1"
    assert event.tier is None
