"""Every event type that Voucherify documents is read right: its customer, campaign and tier, from bodies of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiercast.event import customer_ids
from tiercast.stored import revive
from worker.intake.reader import Read, read

#: Where each type's customer, campaign and tier stand in `data`, and what sends it: d distribution, p project webhook.
#: Voucherify's OpenAPI of August 2026.
CUSTOMER, HOLDER, CAMPAIGN = "customer", "holder", "campaign"
TYPES: dict[str, tuple[str, tuple[str, ...], str | None, str | None]] = {
    "business_validation_rule.assignment.created": ("p", (CAMPAIGN,), None, None),
    "business_validation_rule.assignment.deleted": ("p", (CAMPAIGN,), None, None),
    "business_validation_rule.created": ("p", (), None, None),
    "business_validation_rule.deleted": ("p", (), None, None),
    "business_validation_rule.updated": ("p", (), None, None),
    "campaign.created": ("p", (CAMPAIGN,), None, None),
    "campaign.deleted": ("p", (CAMPAIGN,), None, None),
    "campaign.disabled": ("p", (CAMPAIGN,), None, None),
    "campaign.enabled": ("p", (CAMPAIGN,), None, None),
    "campaign.loyalty_tier.created": ("p", (CAMPAIGN,), "loyalty_tier", None),
    "campaign.loyalty_tier.deleted": ("p", (CAMPAIGN,), "loyalty_tier", None),
    "campaign.loyalty_tier.updated": ("p", (CAMPAIGN,), "loyalty_tier", None),
    "campaign.promotion_tier.created": ("p", (CAMPAIGN,), None, None),
    "campaign.promotion_tier.deleted": ("p", (CAMPAIGN,), None, None),
    "campaign.promotion_tier.disabled": ("p", (CAMPAIGN,), None, None),
    "campaign.promotion_tier.enabled": ("p", (CAMPAIGN,), None, None),
    "campaign.promotion_tier.updated": ("p", (CAMPAIGN,), None, None),
    "campaign.updated": ("p", (CAMPAIGN,), None, None),
    "campaign.vouchers.generation.completed": ("p", (CAMPAIGN,), None, None),
    "customer.created": ("p", (CUSTOMER,), None, None),
    "customer.custom_event": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.deleted": ("p", (CUSTOMER,), None, None),
    "customer.holder.assignment.created": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.holder.assignment.deleted": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.loyalty.tier.downgraded": ("d", (CUSTOMER, CAMPAIGN), "loyalty_tier_to", "loyalty_tier_from"),
    "customer.loyalty.tier.joined": ("d", (CUSTOMER, CAMPAIGN), "loyalty_tier", None),
    "customer.loyalty.tier.left": ("d", (CUSTOMER, CAMPAIGN), None, "loyalty_tier"),
    "customer.loyalty.tier.prolonged": ("d", (CUSTOMER, CAMPAIGN), "loyalty_tier", None),
    "customer.loyalty.tier.upgraded": ("d", (CUSTOMER, CAMPAIGN), "loyalty_tier_to", "loyalty_tier_from"),
    "customer.order.canceled": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.order.created": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.order.paid": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.order.updated": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.publication.succeeded": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.redemption.rollback.succeeded": ("d", (CUSTOMER, HOLDER, CAMPAIGN), None, None),
    "customer.redemption.succeeded": ("d", (CUSTOMER, HOLDER, CAMPAIGN), None, None),
    "customer.reward_redemptions.completed": ("d", (CUSTOMER, HOLDER, CAMPAIGN), None, None),
    "customer.reward_redemptions.created": ("d", (CUSTOMER, HOLDER, CAMPAIGN), None, None),
    "customer.reward_redemptions.pending": ("d", (CUSTOMER, HOLDER, CAMPAIGN), None, None),
    "customer.rewarded": ("d", (CUSTOMER, HOLDER, CAMPAIGN), None, None),
    "customer.rewarded.loyalty_points": ("d", (CUSTOMER, HOLDER, CAMPAIGN), "loyalty_tier", None),
    "customer.segment.entered": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.segment.left": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.updated": ("p", (CUSTOMER,), None, None),
    "customer.voucher.gift.balance_added": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.voucher.loyalty_card.pending_points.activated": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.voucher.loyalty_card.pending_points.added": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.voucher.loyalty_card.pending_points.canceled": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.voucher.loyalty_card.pending_points.updated": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.voucher.loyalty_card.points_added": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "customer.voucher.loyalty_card.points_expired": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "manual_distribution_schedule": ("d", (CUSTOMER, CAMPAIGN), None, None),
    "publication.succeeded": ("p", (CUSTOMER, CAMPAIGN), None, None),
    "redemption.failed": ("p", (CUSTOMER, HOLDER, CAMPAIGN), None, None),
    "redemption.rollback.failed": ("p", (CUSTOMER, HOLDER, CAMPAIGN), None, None),
    "redemption.rollback.succeeded": ("p", (CUSTOMER, HOLDER, CAMPAIGN), None, None),
    "redemption.succeeded": ("p", (CUSTOMER, HOLDER, CAMPAIGN), None, None),
    "voucher.created": ("p", (CAMPAIGN,), None, None),
    "voucher.deleted": ("p", (CAMPAIGN,), None, None),
    "voucher.disabled": ("p", (CAMPAIGN,), None, None),
    "voucher.enabled": ("p", (CAMPAIGN,), None, None),
    "voucher.gift.balance_added": ("p", (CAMPAIGN,), None, None),
    "voucher.gift.transaction.created": ("p", (HOLDER, CAMPAIGN), None, None),
    "voucher.loyalty_card.pending_points.activated": ("p", (CUSTOMER, CAMPAIGN), None, None),
    "voucher.loyalty_card.pending_points.added": ("p", (CUSTOMER, CAMPAIGN), None, None),
    "voucher.loyalty_card.pending_points.canceled": ("p", (CUSTOMER, CAMPAIGN), None, None),
    "voucher.loyalty_card.pending_points.updated": ("p", (CUSTOMER, CAMPAIGN), None, None),
    "voucher.loyalty_card.points_added": ("p", (CUSTOMER, CAMPAIGN), None, None),
    "voucher.loyalty_card.points_expired": ("p", (CUSTOMER, CAMPAIGN), None, None),
    "voucher.loyalty_card.transaction.created": ("p", (HOLDER, CAMPAIGN), "holder_loyalty_tier", None),
    "voucher.published": ("p", (CUSTOMER, CAMPAIGN), None, None),
    "voucher.updated": ("p", (CAMPAIGN,), None, None),
}

AT = "2026-08-01T10:00:00.123Z"


def data_of(type: str) -> dict[str, Any]:
    """Invented `data` with what this type holds, and much of what else such an event may hold beside it."""
    _, parts, tier, previous = TYPES[type]
    data: dict[str, Any] = {
        "voucher": {"id": "v_1", "code": "TEA-1", "campaign_id": "camp_1", "holder_id": "cust_x", "object": "voucher"},
        "transaction": {"id": "vtx_1", "created_at": AT, "campaign_id": "camp_1", "details": {"balance": {"total": 5}}},
        "order": {"id": "ord_1", "created_at": AT, "customer": {"id": "cust_other"}, "items": [{"price": 500}] * 3},
        "referrer": {"id": "cust_referrer", "object": "customer"},
        "promotion_tier": None,
        "relations": [],
    }
    for part in parts:
        data[part] = {"id": f"{part}_1", "name": "Juno", "metadata": {"a": [1, {"b": None}]}, "object": part}
    if CUSTOMER in parts:
        data[CUSTOMER] |= {"email": "juno@customers.example", "source_id": "crm-1", "loyalty": {"points": 5}}
    for place in filter(None, (tier, previous)):
        data[place] = {"id": f"{place}_1", "name": "Bridge", "points": {"from": 5}, "object": "loyalty_tier"}
    return data


def body_of(type: str, data: dict[str, Any]) -> bytes:
    by_project = TYPES[type][0] == "p"
    origin = {"id": "wh_1", "object": "webhook"} if by_project else {"id": "distr_1", "object": "distribution"}
    return json.dumps(
        {
            "id": "whs_1",
            "project_id": "proj_1",
            "created_at": AT,
            "type": type if by_project else "Free text of ours",
            "source": origin,
            "event": {"id": "evcus_1", "type": type, "created_at": AT, "event_source": {"channel": "API"}},
            "data": data,
        }
    ).encode()


def told(body: bytes, bare_event: str | None = None) -> Read:
    reading = read(body, source="tea", bare_event=bare_event, delivery_id="d", received_us=1)
    assert isinstance(reading, Read), reading
    again = revive(body, **reading.event.head())
    assert again == reading.event
    return reading


@pytest.mark.parametrize("form", ["envelope", "raw"])
@pytest.mark.parametrize("type", TYPES)
def test_customer_campaign_and_tiers_are_found(type: str, form: str) -> None:
    _, parts, tier, previous = TYPES[type]
    data = data_of(type)
    reading = told(body_of(type, data)) if form == "envelope" else told(json.dumps(data).encode(), type)
    event = reading.event

    assert (event.type, event.data, reading.form) == (type, data, form)
    who = next((part for part in (CUSTOMER, HOLDER) if part in parts), None)
    assert event.customer == (data[who] if who else None)
    assert customer_ids(event).id == (f"{who}_1" if who else None)
    assert event.campaign == data.get(CAMPAIGN)
    assert event.tier == (data[tier] if tier else None)
    assert event.previous_tier == (data[previous] if previous else None)
    if form == "envelope":
        assert (event.id, event.at, reading.project, reading.notes) == ("evcus_1", AT, "proj_1", ())


@pytest.mark.parametrize("type", [type for type, (_, parts, _, _) in TYPES.items() if {CUSTOMER, HOLDER} <= set(parts)])
def test_the_holder_is_the_customer_where_nobody_else_is(type: str) -> None:
    data = data_of(type) | {CUSTOMER: None}
    assert told(body_of(type, data)).event.customer == data[HOLDER]


@pytest.mark.parametrize("type", TYPES)
def test_everything_may_be_null(type: str) -> None:
    event = told(body_of(type, dict.fromkeys(data_of(type)))).event
    assert event.customer is event.campaign is event.tier is event.previous_tier is None


def test_these_are_the_types_that_are_documented(shared: Path) -> None:
    documented = json.loads((shared / "events.json").read_text())["types"]
    with_schema = {name: type for name, type in documented.items() if type.get("schema")}

    assert set(with_schema) == set(TYPES)
    for name, type in with_schema.items():
        sent_by, parts, tier, previous = TYPES[name]
        places = type["data"]
        assert ("distribution" if sent_by == "d" else "project") in (type["sent_by"] or ["distribution"]), name
        assert set(parts) >= {places[kind][0] for kind in ("customer", "campaign") if places[kind]}, name
        assert (HOLDER in parts) == (HOLDER in places["customer"]), name
        assert {tier, previous} - {None} <= set(places["tier"]), name
        assert bool(tier or previous) == bool(places["tier"]), name
