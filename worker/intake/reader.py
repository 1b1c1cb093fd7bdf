"""From a delivery's raw body to an event, a reason why it is none, or the dashboard's preview.

Facts of the sender: https://docs.voucherify.io/docs/introduction-to-webhooks
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from marshmallow import Schema, ValidationError

from tiercast.event import TIER_EVENTS, Event, Json, data_of, is_envelope, iso_from_us
from tiercast.signature import strip_whitespace

from .schemas import ENVELOPE, NAMED, data_schema
from .schemas.errors import first_fault
from .schemas.fields import found
from .strict_json import Refused, parse_object

log = structlog.get_logger()

#: The ids of the dashboard's preview: a prefix and nothing but zeros.
_ZEROED = re.compile(r"[a-z]+_0{12,}")

#: Where a tier event's `data` can hold a tier.
_TIERS = ("loyalty_tier", "loyalty_tier_from", "loyalty_tier_to")

#: What can go wrong in our own reading code; anything else (a time limit, memory) is not the body's fault.
_OUR_FAULTS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """The delivery tells `event`. `notes` say, for the operator, what had to be made up for."""

    event: Event
    form: Literal["envelope", "raw"]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The delivery goes to quarantine: `path` is where the fault lies, empty for the whole body."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


@dataclass(frozen=True, slots=True)
class Preview:
    """The dashboard's sample, with ids of zeros: the delivery's state is `test`, and nothing is done."""

    reason: str


Reading = Read | Unreadable | Preview


def read(body: bytes, *, source: str, bare_event: str | None, delivery_id: str, received_us: int) -> Reading:
    """Read an authentic body, whatever its bytes; a body never makes it raise.

    Args:
        bare_event: what a bare object (Raw payload) of this source means; None where nobody said.
        received_us: when the delivery arrived, in microseconds since 1970, for an event that names no time.
    """
    try:
        return _read(body, source, bare_event, received_us)
    except Refused as refused:
        return Unreadable(refused.path, refused.reason)
    except _OUR_FAULTS as error:
        # The error's text could hold a value of the body, so only its type is told.
        log.error("reading.fault", delivery=delivery_id, source=source, error=type(error).__name__)
        return Unreadable("", f"a fault of Tiercast's own while reading it ({type(error).__name__}); please report it")


def _read(body: bytes, source: str, bare_event: str | None, received_us: int) -> Reading:
    document = parse_object(body)
    if _is_retired(document):
        return Unreadable(
            "object",
            "Voucherify's retired webhook format, v2018-08-01: make the webhook anew in version v2024-01-01",
        )
    if is_envelope(document):
        if _is_preview(document):
            return Preview("a preview from Voucherify's dashboard: its ids are all zeros")
        facts = _of_envelope(document)
    else:
        facts = _of_bare(document, bare_event)
    return _event(facts, body, source, received_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What both forms of a body come down to. `data_us` is the time that `data` names."""

    form: Literal["envelope", "raw"]
    id: str | None
    type: str
    us: int | None
    data: Json
    data_us: int | None


def _of_envelope(document: Json) -> _Facts:
    envelope = _check(ENVELOPE, document)
    if not isinstance(document.get("data"), dict):
        raise Refused("data", f"expected an object, found {_found_at(document, 'data')}")
    fact = envelope.get("event") or {}
    type = fact.get("type") or _type_without_event(document)
    data = data_of(document)
    loaded = _check(data_schema(type), data, "data")
    return _Facts(
        form="envelope",
        id=fact.get("id"),
        type=type,
        us=fact.get("created_at"),
        data=data,
        data_us=loaded.get("created_at"),
    )


def _type_without_event(document: Json) -> str:
    """The type of an envelope whose `event` does not name it: a project webhook says it in `type` as well."""
    origin = document.get("source") or {}
    if origin.get("object") == "distribution":
        raise Refused("event.type", "expected the event's name (a distribution's `type` is free text), found none")
    if not document.get("type"):
        raise Refused("event.type", "expected the event's name there or in `type`, found none")
    return str(_check(NAMED, document)["type"])


def _of_bare(document: Json, bare_event: str | None) -> _Facts:
    if bare_event is None:
        raise Refused("", "a Raw payload: say what it means with sources.<name>.event")
    if not document:
        raise Refused("", "expected an object that tells something, found an empty one")
    us = _check(data_schema(bare_event), document).get("created_at")
    return _Facts(form="raw", id=None, type=bare_event, us=us, data=document, data_us=us)


def _event(facts: _Facts, body: bytes, source: str, received_us: int) -> Read:
    notes = []
    us = facts.us
    if us is None:
        us = facts.data_us
    if us is None:
        us = received_us
        notes.append("the event names no time: it counts as having happened when it arrived")
    elif facts.us is None:
        notes.append("the event's own time is missing: data.created_at stands in for it")
    id = facts.id or _identity_of_parts(facts)
    if id is None:
        id = _raw_id(strip_whitespace(body))
        notes.append("the event has no id and too few parts to tell it by: it is told by its body")
    event = Event(
        id=id,
        type=facts.type,
        at=iso_from_us(us),
        created_us=us,
        source=source,
        data=facts.data,
    )
    return Read(event=event, form=facts.form, notes=tuple(notes))


def _identity_of_parts(facts: _Facts) -> str | None:
    """The identity of a tier event that has no id of its own, or None where its parts do not make one.

    Other events have no such parts: one request can redeem two vouchers of a campaign in one millisecond.
    """
    us = facts.us if facts.data_us is None else facts.data_us
    if facts.type not in TIER_EVENTS or us is None:
        return None
    customer = _first(facts.data, "customer", "id", "source_id", "email")
    campaign = _first(facts.data, "campaign", "id")
    tiers = [_first(facts.data, name, "id") for name in _TIERS]
    if customer is None or (campaign is None and not any(tiers)):
        return None
    parts = [facts.type, customer, campaign, tiers, us]
    return _raw_id(json.dumps(parts, separators=(",", ":")).encode())


def _raw_id(content: bytes) -> str:
    return f"raw-{hashlib.sha256(content).hexdigest()[:32]}"


def _first(data: Json, name: str, *keys: str) -> list[str] | None:
    """The first reference that the object has, with its key: an id is not a source id of the same text."""
    part = data.get(name)
    if not isinstance(part, dict):  # a field that events of this type do not have, so nothing checked it
        return None
    return next(([key, value] for key in keys if isinstance(value := part.get(key), str) and value), None)


def _is_retired(document: Json) -> bool:
    """The format that ended in March 2024: https://docs.voucherify.io/reference/migration-guide"""
    if document.get("object") != "event":
        return False
    data = document.get("data")
    return "webhook_id" in document or (isinstance(data, dict) and "object" in data)


def _is_preview(document: Json) -> bool:
    event = document.get("event")
    ids = [document.get("id"), event.get("id") if isinstance(event, dict) else None]
    return any(isinstance(id, str) and _ZEROED.fullmatch(id) for id in ids)


def _found_at(document: Json, key: str) -> str:
    return found(document[key]) if key in document else "nothing"


def _check(schema: Schema, value: Json, prefix: str = "") -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = schema.load(value)
    except ValidationError as error:
        raise Refused(*first_fault(error.messages, prefix)) from None
    return loaded
