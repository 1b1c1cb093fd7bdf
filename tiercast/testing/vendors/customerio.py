"""Customer.io's Track API, version 2: people and events in batches.

Shapes: https://docs.customer.io/integrations/api/track, the vendor's own specification.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .server import Answer, FakeVendor, Request, Route, Window

SITE_ID, API_KEY = "site-id", "track-key-s3cr3t"

IDENTIFIERS = ("id", "email", "phone", "cio_id")

#: The most bytes of one entry, of a name or an id, and of a value.
MOST_ENTRY_BYTES = 32 * 1024
MOST_NAME_BYTES = 150
MOST_VALUE_BYTES = 1000
MOST_EVENT_NAME_BYTES = 100
MOST_ATTRIBUTES = 300

_IDENTIFY = frozenset({"type", "action", "identifiers", "attributes", "timestamp"})
_EVENT = frozenset({*_IDENTIFY, "name", "id"})
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


@dataclass(slots=True)
class Person:
    """A person: attributes, and when each was last written, in Unix seconds."""

    identifiers: dict[str, str]
    attributes: dict[str, Any] = field(default_factory=dict)
    written_at: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Event:
    """An event that was kept."""

    person: str
    name: str
    id: str
    timestamp: int | None
    attributes: dict[str, Any]


class FakeCustomerIO(FakeVendor):
    """Keeps people and events.

    A batch with faults answers 207 and names each by its `batch_index`; one whose entries all fail answers 400. An
    attribute that was written with a later `timestamp` stays. A repeated event `id` keeps the first. An identifier of
    another person answers 200 and changes nothing, as the vendor does.

    Args:
        limits: by default none: the vendor publishes a limit and does not enforce it.

    Attributes:
        people: in order of their creation.
        events: what was kept, in order.
        sent: how many events were accepted, twins too.
        invalid: identifiers whose entry is refused.
        spoilers: identifiers that refuse the whole call, with no word about which.
        region: where the account lives; `eu` at a host of the US is redirected there.
    """

    name: ClassVar[str] = "customerio"
    max_body_bytes: ClassVar[int] = 500 * 1000

    def __init__(self, *, limits: Mapping[str, Sequence[Window]] | None = None) -> None:
        self.people: list[Person] = []
        self.events: list[Event] = []
        self.sent = 0
        self.invalid: set[str] = set()
        self.spoilers: set[str] = set()
        self.region = "us"
        super().__init__(limits=limits)

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/api/v2/batch", self._batch)
        yield Route("GET", "/api/v1/accounts/region", self._region)

    def options(self) -> dict[str, Any]:
        return {"base_url": self.url, "site_id": SITE_ID, "api_key": API_KEY}

    def effects(self) -> dict[str, Any]:
        return {
            "people": {_shown(person.identifiers): dict(person.attributes) for person in self.people},
            "events": [(event.person, event.name, dict(event.attributes)) for event in self.events],
        }

    def refuse(self, request: Request) -> Answer | None:
        expected = base64.b64encode(f"{SITE_ID}:{API_KEY}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {expected}":
            return Answer(status=401, body={"meta": {"error": "Unauthorized"}})
        return None

    def unknown_route(self, request: Request) -> Answer:
        return Answer(status=404, body={"meta": {"error": "not found"}})

    def too_many(self, window: Window, wait: float) -> Answer:
        """Customer.io names no time."""
        return Answer(status=429, body={"meta": {"error": "too many requests"}})

    def failed(self, status: int) -> Answer:
        return Answer(status=status, body={"meta": {"error": "internal error"}})

    def person(self, identifier: str) -> Person | None:
        """The person whom an identifier names."""
        return next((one for one in self.people if identifier in one.identifiers.values()), None)

    # --- calls

    def _region(self, request: Request) -> Answer:
        host = "track.customer.io" if self.region == "us" else f"track-{self.region}.customer.io"
        return Answer(body={"url": host, "data_center": self.region, "environment_id": 4242})

    def _batch(self, request: Request) -> Answer:
        try:
            body = request.json
        except ValueError:
            body = None
        entries = body.get("batch") if isinstance(body, dict) and set(body) == {"batch"} else None
        if not isinstance(entries, list) or not entries:
            return Answer(status=400, body={"errors": [_error("invalid", "batch", "batch must be a list of objects")]})
        if self.spoilers & {name for entry in entries for name in _named(entry)}:
            return Answer(status=400, body={"errors": [_error("invalid", "", "the request is malformed")]})
        errors = []
        for index, entry in enumerate(entries):
            fault = _fault(entry)
            if fault is None and self.invalid & _named(entry):
                fault = _error("invalid", "identifiers", "the identifier is not valid")
            if fault is not None:
                errors.append({"batch_index": index, **fault})
            elif entry["action"] == "identify":
                self._identify(entry)
            else:
                self._event(entry)
        if not errors:
            return Answer(body={})
        return Answer(status=400 if len(errors) == len(entries) else 207, body={"errors": errors})

    def _identify(self, entry: Mapping[str, Any]) -> None:
        person = self._known(entry["identifiers"])
        at = int(entry.get("timestamp") or 2**40)
        clash = [
            one
            for one in self.people
            if one is not person and set(one.identifiers.values()) & _claimed(entry.get("attributes", {}))
        ]
        if clash:
            return
        for name, value in entry.get("attributes", {}).items():
            if at < person.written_at.get(name, 0):
                continue
            person.written_at[name] = at
            if name in IDENTIFIERS:
                person.identifiers[name] = value
            elif value in (None, ""):
                person.attributes.pop(name, None)
            else:
                person.attributes[name] = value

    def _event(self, entry: Mapping[str, Any]) -> None:
        self.sent += 1
        person = _shown(self._known(entry["identifiers"]).identifiers)
        id = entry.get("id") or f"made-{self.sent}"
        if not any(event.id == id for event in self.events):
            made = Event(person, entry["name"], id, entry.get("timestamp"), dict(entry.get("attributes") or {}))
            self.events.append(made)

    def _known(self, identifiers: Mapping[str, str]) -> Person:
        """The person, who is created where nobody has the identifier."""
        ((name, value),) = identifiers.items()
        value = value.lower() if name == "email" else value
        found = next((one for one in self.people if one.identifiers.get(name) == value), None)
        if found is None:
            found = Person({name: value})
            self.people.append(found)
        return found


def _named(entry: Any) -> set[str]:
    identifiers = entry.get("identifiers") if isinstance(entry, dict) else None
    return {str(value) for value in identifiers.values()} if isinstance(identifiers, dict) else set()


def _claimed(attributes: Mapping[str, Any]) -> set[str]:
    return {str(attributes[name]) for name in ("email", "id", "phone") if attributes.get(name)}


def _shown(identifiers: Mapping[str, str]) -> str:
    return next(identifiers[name] for name in IDENTIFIERS if name in identifiers)


def _error(reason: str, at: str, message: str) -> dict[str, str]:
    return {"reason": reason, "field": at, "message": message}


def _fault(entry: Any) -> dict[str, str] | None:
    """What is wrong with an entry, if anything is."""
    if not isinstance(entry, dict) or entry.get("type") != "person":
        return _error("invalid", "type", "type must be person")
    action = entry.get("action")
    if action not in {"identify", "event"}:
        return _error("invalid", "action", "action is not supported")
    if unknown := sorted(set(entry) - (_EVENT if action == "event" else _IDENTIFY)):
        return _error("invalid", unknown[0], "unknown field")
    identifiers = entry.get("identifiers")
    if not isinstance(identifiers, dict) or len(identifiers) != 1 or set(identifiers) - set(IDENTIFIERS):
        return _error("required", "identifiers", "exactly one identifier is required")
    identifier = next(iter(identifiers.values()))
    if not isinstance(identifier, str) or not 0 < len(identifier.encode()) <= MOST_NAME_BYTES:
        return _error("invalid", "identifiers", "the identifier is not text of 1 to 150 bytes")
    stamp = entry.get("timestamp")
    if stamp is not None and (not isinstance(stamp, int) or isinstance(stamp, bool) or stamp > 10**11):
        return _error("invalid", "timestamp", "timestamp must be Unix time in seconds")
    if len(json.dumps(entry).encode()) > MOST_ENTRY_BYTES:
        return _error("too_large", "", "the object is larger than 32 KB")
    return _attribute_fault(entry.get("attributes", {})) or (_event_fault(entry) if action == "event" else None)


def _attribute_fault(attributes: Any) -> dict[str, str] | None:
    if not isinstance(attributes, dict) or len(attributes) > MOST_ATTRIBUTES:
        return _error("invalid", "attributes", "attributes must be an object of at most 300 names")
    for name, value in attributes.items():
        if not 0 < len(name.encode()) <= MOST_NAME_BYTES:
            return _error("invalid", "attributes", "the name of an attribute has more than 150 bytes")
        if isinstance(value, str) and len(value.encode()) > MOST_VALUE_BYTES:
            return _error("too_large", f"attributes.{name}", "the value has more than 1000 bytes")
    return None


def _event_fault(entry: Mapping[str, Any]) -> dict[str, str] | None:
    name = entry.get("name")
    if not isinstance(name, str) or not 0 < len(name.encode()) <= MOST_EVENT_NAME_BYTES:
        return _error("required", "name", "the name of an event has 1 to 100 bytes")
    id = entry.get("id")
    if id is not None and not (isinstance(id, str) and _ULID.fullmatch(id)):
        return _error("invalid", "id", "id must be a ULID")
    return None
