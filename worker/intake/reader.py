"""From a delivery's raw body to an event, a reason why it is none, or the dashboard's preview.

Facts of the sender: https://docs.voucherify.io/api-reference/introduction-to-webhooks
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Literal

import structlog
from marshmallow import ValidationError

from tiercast.event import TIER_EVENTS, Event, Json, is_envelope, iso_from_us
from tiercast.references import KINDS, canonical
from tiercast.schemas import ENVELOPE, NAMED, data_schema
from tiercast.schemas.base import Tolerant
from tiercast.schemas.errors import first_fault, join
from tiercast.schemas.fields import Note, found, moment
from tiercast.signature import strip_whitespace

from .strict_json import Refused, parse_object

log = structlog.get_logger()

#: The ids of the dashboard's preview: a prefix and nothing but zeros.
_ZEROED = re.compile(r"[a-z]+_0{12,}")

#: Where a tier event's `data` can hold a tier.
_TIERS = ("loyalty_tier", "loyalty_tier_from", "loyalty_tier_to")

#: Names that Voucherify's documentation spells in two ways, with the one that rules know.
_SPELLINGS = {"loyalty_card.pending_points.updated": "customer.voucher.loyalty_card.pending_points.updated"}

#: The most wrong values that a delivery's note names.
_MOST_NOTES = 5

#: What can go wrong in our own reading code; anything else (a time limit, memory) is not the body's fault.
_OUR_FAULTS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """The delivery tells `event`.

    `project` is the Voucherify project that the body names, None where it names none; `notes` say, for the operator,
    what had to be made up for.
    """

    event: Event
    project: str | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def form(self) -> str:
        """Whether the body is an envelope or a bare object."""
        return self.event.form


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
    notes: list[Note] = []
    document = parse_object(body, notes)
    if _is_retired(document):
        return Unreadable(
            "object",
            "Voucherify's retired webhook format, v2018-08-01: make the webhook anew in version v2024-01-01",
        )
    if is_envelope(document, designed=bare_event is not None):
        if _is_preview(document):
            return Preview("a preview from Voucherify's dashboard: its ids are all zeros")
        facts = _of_envelope(document, notes)
    else:
        facts = _of_bare(document, bare_event, notes)
    return _event(facts, body, source, received_us, notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What both forms of a body come down to. `data_us` is the time that `data` names."""

    form: Literal["envelope", "raw"]
    id: str | None
    type: str
    us: int | None
    data: Json
    data_us: int | None
    project: str | None = None


def _of_envelope(document: Json, notes: list[Note]) -> _Facts:
    _check(ENVELOPE, document, "", notes)
    data = document.get("data")
    if not isinstance(data, dict):
        raise Refused("data", f"expected an object, found {_found_at(document, 'data')}")
    fact = document.get("event") or {}
    type = fact.get("type") or _type_without_event(document)
    type = _SPELLINGS.get(type, type)
    _check(data_schema(type), data, "data", notes)
    return _Facts(
        form="envelope",
        id=fact.get("id"),
        type=type,
        us=moment(fact.get("created_at")),
        data=data,
        data_us=moment(data.get("created_at")),
        project=document.get("project_id"),
    )


def _type_without_event(document: Json) -> str:
    """The type of an envelope whose `event` does not name it: a project webhook says it in `type` as well."""
    origin = document.get("source") or {}
    if origin.get("object") == "distribution":
        raise Refused("event.type", "expected the event's name (a distribution's `type` is free text), found none")
    if not document.get("type"):
        raise Refused("event.type", "expected the event's name there or in `type`, found none")
    _check(NAMED, document, "", [])
    return str(document["type"])


def _of_bare(document: Json, bare_event: str | None, notes: list[Note]) -> _Facts:
    if bare_event is None:
        raise Refused("", "a Raw payload: say what it means with sources.<name>.event")
    if not document:
        raise Refused("", "expected an object that tells something, found an empty one")
    _check(data_schema(bare_event), document, "", notes)
    us = moment(document.get("created_at"))
    return _Facts(form="raw", id=None, type=bare_event, us=us, data=document, data_us=us)


def _event(facts: _Facts, body: bytes, source: str, received_us: int, wrong: list[Note]) -> Read:
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
    if wrong:
        notes += _described(wrong)
    event = Event(
        id=id,
        type=facts.type,
        at=iso_from_us(us),
        created_us=us,
        source=source,
        data=facts.data,
        form=facts.form,
    )
    return Read(event=event, project=facts.project, notes=tuple(notes))


def _described(wrong: list[Note]) -> list[str]:
    """The values that count as another, for the operator."""
    found = [
        f"{path}: {what}" if what.endswith("U+FFFD") else f"{path}: {what}; it counts as null"
        for path, what in dict.fromkeys(wrong)
    ]
    more = len(found) - _MOST_NOTES
    return found[:_MOST_NOTES] + ([f"and {more} more values that are not as expected"] if more > 0 else [])


def _identity_of_parts(facts: _Facts) -> str | None:
    """The identity of a tier event that has no id of its own, or None where its parts do not make one.

    Other events have no such parts: one request can redeem two vouchers of a campaign in one millisecond.
    """
    us = facts.us if facts.data_us is None else facts.data_us
    if facts.type not in TIER_EVENTS or us is None:
        return None
    customer = _first(facts.data, "customer", *KINDS)
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
    values = ((key, value) for key in keys if isinstance(value := part.get(key), str))
    return next(([key, same] for key, value in values if (same := canonical(key, value))), None)


def _is_retired(document: Json) -> bool:
    """The format that ended in March 2024; Voucherify's page about it is gone."""
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


def _check(schema: Tolerant, value: Json, prefix: str, notes: list[Note]) -> None:
    """Load an object, which may be changed in place; the notes get the whole path."""
    wrong: list[Note] = []
    try:
        schema.load(value, notes=wrong)
    except ValidationError as error:
        raise Refused(*first_fault(error.messages, prefix)) from None
    if wrong:
        notes += [(join(prefix, path), what) for path, what in wrong]
