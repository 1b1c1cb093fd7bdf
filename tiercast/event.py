"""The event: what a delivery tells, after it was validated."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .views import Campaign, Customer, Tier

Json = dict[str, Any]


#: The tier events that Voucherify's distributions send (its OpenAPI, August 2026).
TIER_EVENTS = tuple(
    f"customer.loyalty.tier.{what}" for what in ("joined", "left", "upgraded", "downgraded", "prolonged")
)

#: The longest id, in characters, and the longest source id or email that is indexed.
MAX_ID = 512

#: Where the tier after the event, and the tier before it, stand in `data`, by the event's type; the first that is there
#: counts. Voucherify's OpenAPI of webhooks, August 2026.
_TIERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "customer.loyalty.tier.joined": (("loyalty_tier",), ()),
    "customer.loyalty.tier.prolonged": (("loyalty_tier",), ()),
    "customer.loyalty.tier.left": ((), ("loyalty_tier",)),
    "customer.loyalty.tier.upgraded": (("loyalty_tier_to",), ("loyalty_tier_from",)),
    "customer.loyalty.tier.downgraded": (("loyalty_tier_to",), ("loyalty_tier_from",)),
    "customer.rewarded.loyalty_points": (("loyalty_tier",), ()),
    "campaign.loyalty_tier.created": (("loyalty_tier",), ()),
    "campaign.loyalty_tier.updated": (("loyalty_tier",), ()),
    "campaign.loyalty_tier.deleted": (("loyalty_tier",), ()),
    "voucher.loyalty_card.transaction.created": (("loyalty_tier", "holder_loyalty_tier"), ()),
}
_NO_TIERS: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One validated fact of a source.

    `at` is when it happened as ISO 8601 in UTC with milliseconds, `created_us` the same in microseconds
    since 1970 (what orders events). `data` is the sender's own object. `customer`, `campaign`, `tier` and
    `previous_tier` are views of its parts, made when they are asked for, or None; see `tiercast.views`. `form` is
    `envelope`, `raw` for the bare object of a Raw payload, or empty where only the body can tell.
    """

    id: str
    type: str
    at: str
    created_us: int
    source: str
    data: Json = field(repr=False)  # personal data
    form: str = ""

    @property
    def key(self) -> str:
        """The event's public name: `<source>:<event id>`."""
        return f"{self.source}:{self.id}"

    @property
    def customer(self) -> Customer | None:
        """The customer, or else the holder of the voucher, or else `data` itself where that is a customer."""
        found = customer_object(self)
        return None if found is None else Customer(found)

    @property
    def campaign(self) -> Campaign | None:
        """The campaign."""
        found = campaign_object(self)
        return None if found is None else Campaign(found)

    @property
    def tier(self) -> Tier | None:
        """The tier that the customer is in after the event; for events of a tier or card, the tier that they name."""
        found = tier_object(self)
        return None if found is None else Tier(found)

    @property
    def previous_tier(self) -> Tier | None:
        """The tier that the customer was in before the event."""
        found = previous_tier_object(self)
        return None if found is None else Tier(found)

    @property
    def holder_loyalty_tier(self) -> Tier | None:
        """The tier of a loyalty card's holder, which events of its transactions tell."""
        found = _object(self.data, "holder_loyalty_tier")
        return None if found is None else Tier(found)

    def head(self) -> Json:
        """What is kept of the event beside the raw body: `tiercast.stored.revive(body, **head)` gives it again."""
        return {
            "id": self.id,
            "type": self.type,
            "at": self.at,
            "created_us": self.created_us,
            "source": self.source,
            "form": self.form,
        }


def customer_object(event: Event) -> Json | None:
    """The sender's object of the event's customer: `customer`, or else `holder`, or else a `data` that is a customer.

    Everything that looks for the customer uses this: index, search, `once`, `order`, templates, and what keeps personal
    data out of messages.
    """
    data = event.data
    found = _object(data, "customer") or _object(data, "holder")
    if found is not None:
        return found
    # An empty object is the customer that the sender named, with nothing known of them.
    return data if data.get("object") == "customer" else _object(data, "customer")


def campaign_object(event: Event) -> Json | None:
    """The sender's object of the event's campaign."""
    return _object(event.data, "campaign")


def tier_object(event: Event) -> Json | None:
    """The sender's object of the tier after the event."""
    return _first_object(event.data, _TIERS.get(event.type, _NO_TIERS)[0])


def previous_tier_object(event: Event) -> Json | None:
    """The sender's object of the tier before the event."""
    return _first_object(event.data, _TIERS.get(event.type, _NO_TIERS)[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerRefs:
    """What an operator can search a customer by. Personal data, so the repr shows the id only."""

    id: str | None = None
    source_id: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)


def customer_ids(event: Event) -> CustomerRefs:
    """The references of the event's customer, as the sender wrote them; each None where it is not to be had."""
    customer = customer_object(event)
    if customer is None:
        return CustomerRefs()
    return CustomerRefs(
        id=_reference(customer, "id"),
        source_id=_reference(customer, "source_id"),
        email=_reference(customer, "email"),
    )


def is_envelope(document: Json, *, designed: bool = False) -> bool:
    """Whether a body is Voucherify's envelope around `data`, and not the bare object of a Raw payload.

    The envelope of a distribution or a project webhook has `event`; without it, `project_id`, or `id` and
    `type` as text, tell one. A bare object may use any of these names for something else, one at a time.

    Args:
        document: the body.
        designed: the source says what its bare objects mean, so one may have `id`, `type` and `data` of its own.
    """
    has_data = "data" in document
    has_project = "project_id" in document
    event = document.get("event")
    if isinstance(event, dict):
        return has_data or has_project
    if not has_data:
        return False
    named = isinstance(document.get("id"), str) and isinstance(document.get("type"), str)
    return has_project or (event is None and named and not designed)


def data_of(document: Json, form: str = "") -> Json:
    """The `data` of an envelope, or the bare object itself.

    Raises:
        ValueError: it is an envelope without such an object.
    """
    is_bare = form == "raw" or (not form and not is_envelope(document))
    data = document if is_bare else document.get("data")
    if not isinstance(data, dict):
        raise ValueError("the envelope holds no object in `data`")
    return data


def json_text(body: bytes) -> str:
    """The body's text: UTF-8, with or without a byte order mark.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    return body.decode("utf-8").removeprefix(_BOM)


def iso_from_us(us: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC with milliseconds (cut off, not rounded)."""
    moment = _EPOCH + dt.timedelta(microseconds=us)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _object(data: Json, name: str) -> Json | None:
    value = data.get(name)
    return value if isinstance(value, dict) else None


def _first_object(data: Json, names: tuple[str, ...]) -> Json | None:
    for name in names:
        value = data.get(name)
        if isinstance(value, dict):
            return value
    return None


def _reference(customer: Json, name: str) -> str | None:
    value = customer.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID and not value.isspace() else None
