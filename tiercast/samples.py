"""Sample events of our own invention, shaped as Voucherify shapes them.

`tiercast check` renders templates against them, `tiercast trigger` sends them, and tests use them, those of
plug-ins too. The shapes are those of Voucherify's OpenAPI of August 2026; every person, name and id is invented,
and example.com takes no mail (RFC 2606).
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .event import TIER_EVENTS, Event, Json

#: The tiers of the sample campaign: name, and the points from which a customer is in it.
_TIERS = (("Green leaf", 0), ("Silver leaf", 200), ("Gold leaf", 500))

_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One case that an event of a type can be: its name, and its `data`."""

    name: str
    data: Json


def sample_data(
    type: str = TIER_EVENTS[0],
    *,
    customer_id: str | None = None,
    email: str | None = "ines.okafor@example.com",
    name: str | None = "Ines Okafor",
    source_id: str | None = "crm-40217",
    tier: str | None = None,
    campaign: str = "Tea house rewards",
    at: datetime | None = None,
    customer: bool = True,
    top: bool = False,
) -> Json:
    """Make the `data` object of an event.

    Args:
        type: the event's type; what is no tier event gets a customer and a time only.
        customer_id: by default a new one.
        email, name, source_id: of the customer; None is JSON's null.
        tier: the name of the tier after the event (before it, for `left`); by default "Silver leaf".
        campaign: the campaign's name.
        at: when it happened, with a zone; by default now.
        customer: False for an event whose customer is null.
        top: the tier (for `downgraded`, the one before) is the top one: its points have no `to`.
    """
    person = _customer(customer_id or new_id("cust_"), email, name, source_id) if customer else None
    created = _text(at)
    if type not in TIER_EVENTS:
        return {"customer": person, "created_at": created}
    data: Json = {"customer": person, "campaign": _campaign(campaign), "created_at": created}
    what = type.rpartition(".")[2]
    place = 2 if top and what != "downgraded" else 1
    here = _tier(tier or _TIERS[place][0], place)
    if what not in {"upgraded", "downgraded"}:
        return data | {"loyalty_tier": here}
    before = place + 1 if what == "downgraded" else place - 1
    return data | {"loyalty_tier_from": _tier(_TIERS[before][0], before), "loyalty_tier_to": here}


def variants(type: str) -> Iterator[Variant]:
    """Every case that templates must bear for events of this type: nulls, and the top tier."""
    yield Variant(name="an ordinary event", data=sample_data(type))
    yield Variant(name="null email", data=sample_data(type, email=None))
    yield Variant(name="a customer with an id only", data=_bare_customer(sample_data(type)))
    yield Variant(name="null customer", data=sample_data(type, customer=False))
    if type in TIER_EVENTS:
        yield Variant(name="top tier", data=sample_data(type, top=True))
        nothing: Json = dict.fromkeys(sample_data(type))
        yield Variant(name="null customer, campaign and tiers", data=nothing | {"created_at": _text(None)})


def envelope(
    type: str,
    data: Json,
    *,
    event_id: str | None = None,
    send_id: str | None = None,
    title: str = "Tier events to Tiercast",
    target_url: str = "https://hooks.example.com/webhooks/voucherify",
) -> Json:
    """Make the seven keys that a distribution sends around `data`, with ids of their own.

    Args:
        type: the event's type, which stands in `event.type`.
        data: see `sample_data`.
        event_id: the fact's id; by default a new `evcus_…`.
        send_id: the send-out's id; by default a new `whs_…`.
        title: the envelope's own `type`, which is free text in a distribution.
        target_url: where the distribution says that it sends.
    """
    created = data.get("created_at") or _text(None)
    customer_id = (data.get("customer") or {}).get("id")
    return {
        "id": send_id or new_id("whs_"),
        "project_id": "proj_teahouse",
        "created_at": created,
        "type": title,
        "data": data,
        "source": {"id": "distr_teahouse", "object": "distribution", "target_url": target_url},
        "event": {
            "id": event_id or new_id("evcus_"),
            "type": type,
            "created_at": created,
            "entity_id": customer_id,
            "group_id": new_id("v-"),
            "event_source": {"channel": "USER_PORTAL", "user": {"id": "user_teahouse"}},
        },
    }


def sample_event(
    type: str = TIER_EVENTS[0],
    *,
    id: str | None = None,
    source: str = "voucherify",
    data: Json | None = None,
    **changes: Any,
) -> Event:
    """Make a validated event, without the way through a receiver.

    Args:
        type: the event's type.
        id: by default a new `evcus_…`.
        source: the source's name.
        data: by default `sample_data(type, **changes)`.
        **changes: arguments of `sample_data`.
    """
    data = sample_data(type, **changes) if data is None else data
    at = datetime.fromisoformat(data["created_at"]) if data.get("created_at") else datetime.now(UTC)
    return Event(
        id=id or new_id("evcus_"),
        type=type,
        at=_text(at),
        created_us=round(at.timestamp() * 1_000_000),
        source=source,
        data=data,
    )


def new_id(prefix: str) -> str:
    """A new id in the sender's form: a prefix and 24 letters and digits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(24))


def _text(at: datetime | None) -> str:
    moment = (at or datetime.now(UTC)).astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _customer(id: str, email: str | None, name: str | None, source_id: str | None) -> Json:
    return {
        "id": id,
        "name": name,
        "email": email,
        "source_id": source_id,
        "metadata": {"favourite": "sencha"},
        "object": "customer",
    }


def _bare_customer(data: Json) -> Json:
    return data | {"customer": {"id": data["customer"]["id"], "object": "customer"}}


def _campaign(name: str) -> Json:
    return {
        "id": "camp_teahouse",
        "name": name,
        "campaign_type": "LOYALTY_PROGRAM",
        "type": "AUTO_UPDATE",
        "active": True,
        "metadata": {},
        "start_date": None,
        "expiration_date": None,
        "created_at": "2026-01-12T09:00:00.000Z",
        "updated_at": None,
        "object": "campaign",
    }


def _tier(name: str, place: int) -> Json:
    points: Json = {"from": _TIERS[place][1]}
    if place + 1 < len(_TIERS):
        points["to"] = _TIERS[place + 1][1] - 1
    return {
        "id": f"ltr_teahouse_{place}",
        "name": name,
        "campaign_id": "camp_teahouse",
        "metadata": {},
        "created_at": "2026-01-12T09:05:00.000Z",
        "updated_at": None,
        "earning_rules": {},
        "rewards": {},
        "config": {"points": dict(points)},
        "points": points,
        "object": "loyalty_tier",
    }
