"""The event: what a delivery tells, after it was validated, and how it is made again from what is stored."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

#: The tier events that Voucherify's distributions send (its OpenAPI, August 2026).
TIER_EVENTS = tuple(
    f"customer.loyalty.tier.{what}" for what in ("joined", "left", "upgraded", "downgraded", "prolonged")
)

#: The longest id, in characters, and the longest source id or email that is indexed.
MAX_ID = 512

#: Where the tier after the event, and the tier before it, stand in `data`, by the event's last word.
_TIER_FIELDS = {
    "joined": ("loyalty_tier", None),
    "prolonged": ("loyalty_tier", None),
    "left": (None, "loyalty_tier"),
    "upgraded": ("loyalty_tier_to", "loyalty_tier_from"),
    "downgraded": ("loyalty_tier_to", "loyalty_tier_from"),
}

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One validated fact of a source.

    `at` is when it happened as ISO 8601 in UTC with milliseconds, `created_us` the same in microseconds
    since 1970 (what orders events). `customer`, `campaign`, `tier` and `previous_tier` are the sender's own
    objects or None; `tier` is the tier that the customer is in after the event.
    """

    id: str
    type: str
    at: str
    created_us: int
    source: str
    data: Json = field(repr=False)  # personal data

    @property
    def key(self) -> str:
        """The event's name in the ledger: `<source>:<event id>`."""
        return f"{self.source}:{self.id}"

    @property
    def customer(self) -> Json | None:
        return _object(self.data, "customer")

    @property
    def campaign(self) -> Json | None:
        return _object(self.data, "campaign")

    @property
    def tier(self) -> Json | None:
        return self._tier(0)

    @property
    def previous_tier(self) -> Json | None:
        return self._tier(1)

    def head(self) -> Json:
        """What is kept of the event beside the raw body: `revive(body, **head)` gives the event again."""
        return {
            "id": self.id,
            "type": self.type,
            "at": self.at,
            "created_us": self.created_us,
            "source": self.source,
        }

    def _tier(self, which: int) -> Json | None:
        if self.type not in TIER_EVENTS:
            return None
        name = _TIER_FIELDS[self.type.rpartition(".")[2]][which]
        return _object(self.data, name) if name else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerRefs:
    """What an operator can search a customer by. Personal data, so the repr shows the id only."""

    id: str | None = None
    source_id: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)


def customer_ids(event: Event) -> CustomerRefs:
    """The references of the event's customer, as the sender wrote them; each None where it is not to be had.

    Events other than the tier events hold the customer as `customer`, as `holder`, or are one themselves.
    """
    data = event.data
    customer = _object(data, "customer") or _object(data, "holder")
    if customer is None:
        customer = data if data.get("object") == "customer" else {}
    return CustomerRefs(
        id=_reference(customer, "id"),
        source_id=_reference(customer, "source_id"),
        email=_reference(customer, "email"),
    )


def is_envelope(document: Json) -> bool:
    """Whether a body is Voucherify's envelope around `data`, and not the bare object of a Raw payload.

    The envelope of a distribution or a project webhook has `event`; without it, `project_id`, or `id` and
    `type` as text, tell one. A bare object may use any of these names for something else, one at a time.
    """
    has_data = "data" in document
    has_project = "project_id" in document
    event = document.get("event")
    if isinstance(event, dict):
        return has_data or has_project
    if not has_data:
        return False
    named = isinstance(document.get("id"), str) and isinstance(document.get("type"), str)
    return has_project or (event is None and named)


def data_of(document: Json) -> Json:
    """The `data` of an envelope, or the bare object itself.

    Raises:
        ValueError: it is an envelope without such an object.
    """
    data = document.get("data") if is_envelope(document) else document
    if not isinstance(data, dict):
        raise ValueError("the envelope holds no object in `data`")
    return data


def json_text(body: bytes) -> str:
    """The body's text: UTF-8, with or without a byte order mark.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    return body.decode("utf-8").removeprefix(_BOM)


def revive(body: bytes, *, id: str, type: str, at: str, created_us: int, source: str) -> Event:
    """Make the event again from its stored body and head, without validating it a second time.

    Raises:
        ValueError: the body is not one that was read before.
    """
    return Event(id=id, type=type, at=at, created_us=created_us, source=source, data=_stored_data(body))


# fast path: the body is parsed only for a kind that looks into it.
class StoredEvent(Event):
    """As `revive` makes it, with a body that is parsed when `data` is first asked for: many a kind needs the id only.

    `data` raises ValueError where the body is not one that was read before.
    """

    __slots__ = ("_body", "_data")

    _body: bytes
    _data: Json

    def __init__(self, body: bytes, *, id: str, type: str, at: str, created_us: int, source: str) -> None:
        put = object.__setattr__  # the event is frozen
        put(self, "id", id)
        put(self, "type", type)
        put(self, "at", at)
        put(self, "created_us", created_us)
        put(self, "source", source)
        put(self, "_body", body)

    @property
    def data(self) -> Json:
        try:
            return self._data
        except AttributeError:
            object.__setattr__(self, "_data", _stored_data(self._body))
            return self._data

    def __eq__(self, other: object) -> bool:
        """Compare what they tell, parsed or not."""
        return isinstance(other, Event) and self.head() == other.head() and self.data == other.data

    __hash__ = None  # type: ignore[assignment]


def _stored_data(body: bytes) -> Json:
    document = json.loads(json_text(body))
    if not isinstance(document, dict):
        raise ValueError("the body holds no object")
    return data_of(document)


def iso_from_us(us: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC with milliseconds (cut off, not rounded)."""
    moment = _EPOCH + dt.timedelta(microseconds=us)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _object(data: Json, name: str) -> Json | None:
    value = data.get(name)
    return value if isinstance(value, dict) else None


def _reference(customer: Json, name: str) -> str | None:
    value = customer.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID else None
