"""HubSpot's API: batch upsert of contacts, and custom events.

Shapes: https://developers.hubspot.com/docs/api-reference, versions 2026-03 and 2026-09.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ... import event as events
from .server import Answer, FakeVendor, Request, Route, Window

TOKEN = "pat-s3cr3t"  # noqa: S105 - of a server on this machine

#: What an input of the batch may hold.
_INPUT = frozenset({"id", "idProperty", "properties", "objectWriteTraceId"})

#: What an event may hold.
_EVENT = frozenset({"eventName", "email", "objectId", "utk", "occurredAt", "properties", "uuid"})

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{12,14}")
_DATETIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)|[0-9]{12,14}")


@dataclass(slots=True)
class Event:
    """A custom event that was taken."""

    name: str
    contact: str
    occurred_at: str | None
    properties: dict[str, Any] = field(default_factory=dict)
    uuid: str | None = None


class FakeHubSpot(FakeVendor):
    """Keeps contacts by their id, and the events that it took.

    It refuses unknown fields, numeric ids, null values, a contact named twice, more than 100 inputs; a property that
    does not exist or whose value does not fit is refused per item, where every input has its own trace id.

    Args:
        limits: by default those of a token of the plan Free.

    Attributes:
        contacts: the properties of each contact, by the id that named it; e-mail addresses in lower case.
        properties: the type of each property that exists: string, number, date, datetime, bool, or the values of an
            enumeration parted by "|".
        unique: the properties that can name a contact.
        versions: the status of a partial failure, by version of the API; a version that is not there was retired.
        invalid: ids whose item is refused, as an address that HubSpot does not take is.
        spoilers: ids that refuse the whole call, with no word about which.
        conflicts: ids that answer 409 for the whole call.
        errors_without_trace: leave out which input an error is about.
        results_without_trace: leave out which input a result is about.
        scopes: of the token.
        event_types: the properties of each custom event that is defined, by its full name.
        twin_status: the answer to an event's `uuid` that is known.
        events: what was taken, in order.
    """

    name: ClassVar[str] = "hubspot"
    published: ClassVar[Mapping[str, Sequence[Window]]] = {
        "api": (Window(100, 10.0, "TEN_SECONDLY_ROLLING"), Window(250_000, 86_400.0, "DAILY")),
        "events": (Window(1250, 1.0, "SECONDLY"),),
    }

    def __init__(self, *, limits: Mapping[str, Sequence[Window]] | None = None) -> None:
        self.contacts: dict[str, dict[str, str]] = {}
        self.properties: dict[str, str] = {
            **dict.fromkeys(
                ("email", "firstname", "lastname", "phone", "loyalty_tier", "voucherify_source_id"), "string"
            ),
            "loyalty_points": "number",
            "loyalty_since": "date",
            "loyalty_changed_at": "datetime",
            "loyalty_vip": "bool",
        }
        self.unique = {"email", "voucherify_source_id"}
        self.versions = {"2026-03": 207, "2026-09": 200}
        self.invalid: set[str] = set()
        self.spoilers: set[str] = set()
        self.conflicts: set[str] = set()
        self.errors_without_trace = False
        self.results_without_trace = False
        self.scopes = {"crm.objects.contacts.write", "analytics.behavioral_events.send"}
        self.event_types: dict[str, set[str]] = {"pe4242_tier_joined": {"tier", "campaign", "points"}}
        self.twin_status = 409
        self.events: list[Event] = []
        self._ids: dict[str, int] = {}
        super().__init__(limits=limits)

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/crm/objects/{}/contacts/batch/upsert", self._upsert)
        yield Route("POST", "/events/{}/send", self._send_event, "events")
        yield Route("GET", "/account-info/{}/details", self._account)

    def options(self) -> dict[str, Any]:
        return {"base_url": self.url, "token": TOKEN}

    def prepare(self, options: Mapping[str, Any], event: events.Event) -> None:
        names = set(options.get("properties") or {})
        self.properties = dict.fromkeys(names, "string") | self.properties
        self.unique.add(str(options.get("id_property") or "email"))
        if "event" in options:
            self.event_types[str(options["event"])] = names

    def effects(self) -> dict[str, Any]:
        return {
            "contacts": {name: dict(found) for name, found in self.contacts.items()},
            "events": [(event.contact, event.name, dict(event.properties)) for event in self.events],
        }

    def refuse(self, request: Request) -> Answer | None:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _error(401, "INVALID_AUTHENTICATION", "Authentication credentials not found")
        if request.method != "GET" and request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return _error(415, "UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type")
        return None

    def unknown_route(self, request: Request) -> Answer:
        return Answer(status=404, body=b"<html>Not found</html>", headers={"content-type": "text/html"})

    def too_many(self, window: Window, wait: float) -> Answer:
        """HubSpot names no time: the body says which policy it is."""
        name = window.name or "SECONDLY"
        body = {
            "status": "error",
            "errorType": "RATE_LIMIT",
            "policyName": name,
            "message": f"You have reached your {name.lower()} limit.",
        }
        return Answer(status=429, body=body)

    def failed(self, status: int) -> Answer:
        return _error(status, "INTERNAL_ERROR", "internal error")

    # --- contacts

    def _upsert(self, request: Request, version: str) -> Answer:
        if version not in self.versions:
            return self.unknown_route(request)
        if "crm.objects.contacts.write" not in self.scopes:
            return _error(403, "MISSING_SCOPES", "This app hasn't been granted all required scopes to make this call")
        inputs = _inputs(request)
        if isinstance(inputs, Answer):
            return inputs
        ids = [self._name(entry) for entry in inputs]
        if len(set(ids)) != len(ids):
            return _error(400, "VALIDATION_ERROR", "Duplicate IDs found in batch input")
        if spoilt := [entry for entry in inputs if entry.get("idProperty", "hs_object_id") not in self.unique]:
            return _error(400, "VALIDATION_ERROR", f"Property {spoilt[0].get('idProperty')} is not a unique property")
        if self.conflicts & set(ids):
            return _error(
                409, "CONFLICT", f"Contact already exists. Existing ID: {sorted(self.conflicts & set(ids))[0]}"
            )
        if self.spoilers & set(ids):
            return _error(400, "VALIDATION_ERROR", "Invalid input JSON")
        faults = [(entry, fault) for entry in inputs if (fault := self._fault(entry)) is not None]
        if faults and not all(entry.get("objectWriteTraceId") for entry in inputs):
            return _error(400, "VALIDATION_ERROR", faults[0][1])
        failed = [id(entry) for entry, _ in faults]
        results = [self._keep(entry) for entry in inputs if id(entry) not in failed]
        if not faults:
            return Answer(body={"status": "COMPLETE", "results": results})
        errors = [self._refusal(entry, fault) for entry, fault in faults]
        body = {"status": "COMPLETE", "results": results, "errors": errors, "numErrors": len(errors)}
        return Answer(status=self.versions[version], body=body)

    def _name(self, entry: Mapping[str, Any]) -> str:
        name: str = entry["id"].strip()
        return name.lower() if entry.get("idProperty") == "email" else name

    def _fault(self, entry: Mapping[str, Any]) -> str | None:
        """What is wrong with an item, as HubSpot words it."""
        wrong = entry.get("idProperty") == "email" and not _EMAIL.fullmatch(entry["id"].strip())
        if wrong or self._name(entry) in self.invalid:
            return _invalid("email", "INVALID_EMAIL", f"Email address {entry['id']} is invalid")
        for name, value in entry["properties"].items():
            wanted = self.properties.get(name)
            if wanted is None:
                return _invalid(name, "PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist', entry["id"])
            if value and not _fits(value, wanted):
                return _invalid(name, _CODES.get(wanted, "INVALID_OPTION"), f"{value} was not a valid {wanted}")
        return None

    def _keep(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        name = self._name(entry)
        new = name not in self.contacts
        number = self._ids.setdefault(name, 101 + len(self._ids))
        self.contacts.setdefault(name, {}).update(entry["properties"])
        told: dict[str, Any] = {"id": str(number), "new": new, "properties": {}}
        if not self.results_without_trace and entry.get("objectWriteTraceId"):
            told["objectWriteTraceId"] = entry["objectWriteTraceId"]
        return told

    def _refusal(self, entry: Mapping[str, Any], fault: str) -> dict[str, Any]:
        error: dict[str, Any] = {"status": "error", "category": "VALIDATION_ERROR", "message": fault}
        if not self.errors_without_trace:
            error["context"] = {"objectWriteTraceId": [entry["objectWriteTraceId"]]}
        return error

    # --- events

    def _send_event(self, request: Request, version: str) -> Answer:
        if version not in self.versions:
            return self.unknown_route(request)
        if "analytics.behavioral_events.send" not in self.scopes:
            return _error(403, "MISSING_SCOPES", "This feature needs a subscription of the tier Enterprise")
        body = _object(request)
        if body is None or set(body) - _EVENT or not isinstance(body.get("eventName"), str):
            return _error(400, "VALIDATION_ERROR", "Invalid input JSON")
        contact = body.get("email") or body.get("objectId")
        if not isinstance(contact, str) or not contact:
            return _error(400, "VALIDATION_ERROR", "One of email, objectId or utk is required")
        if body.get("email") and not _EMAIL.fullmatch(contact):
            return _error(400, "VALIDATION_ERROR", f"Email address {contact} is invalid")
        properties = body.get("properties") or {}
        defined = self.event_types.get(body["eventName"])
        if defined is None:
            return _error(400, "VALIDATION_ERROR", f"No event definition found for {body['eventName']}")
        if unknown := sorted(set(properties) - defined):
            return _error(400, "VALIDATION_ERROR", f"Property {unknown[0]} does not exist for the event")
        if body.get("occurredAt") and not _DATETIME.fullmatch(str(body["occurredAt"])):
            return _error(400, "VALIDATION_ERROR", "occurredAt is not a valid date")
        uuid = body.get("uuid")
        if uuid and any(event.uuid == uuid for event in self.events):
            return _error(self.twin_status, "VALIDATION_ERROR", f"An event with the uuid {uuid} was sent already")
        self.events.append(Event(body["eventName"], contact.lower(), body.get("occurredAt"), dict(properties), uuid))
        return Answer(status=204)

    def _account(self, request: Request, version: str) -> Answer:
        if version not in self.versions:
            return self.unknown_route(request)
        return Answer(body={"portalId": 4242, "accountType": "STANDARD", "timeZone": "Europe/Berlin"})


#: The vendor's code for a value that is no such thing.
_CODES = {"number": "INVALID_INTEGER", "date": "INVALID_DATE", "datetime": "INVALID_DATE", "bool": "INVALID_BOOLEAN"}

_FORMS = {"number": _NUMBER, "date": _DATE, "datetime": _DATETIME, "bool": re.compile("true|false")}


def _fits(value: str, wanted: str) -> bool:
    if wanted in _FORMS:
        return _FORMS[wanted].fullmatch(value) is not None
    return wanted == "string" or value in wanted.split("|")


def _inputs(request: Request) -> list[dict[str, Any]] | Answer:
    """The inputs of a batch, or what is wrong with its form."""
    body = _object(request)
    inputs = body.get("inputs") if body is not None else None
    if body is None or set(body) != {"inputs"} or not isinstance(inputs, list) or not inputs:
        return _error(400, "VALIDATION_ERROR", "Invalid input JSON on line 1, column 1")
    if len(inputs) > 100:
        return _error(400, "VALIDATION_ERROR", "The batch size is greater than 100")
    for entry in inputs:
        if (
            not isinstance(entry, dict)
            or set(entry) - _INPUT
            or not isinstance(entry.get("id"), str)
            or not entry["id"]
        ):
            return _error(400, "VALIDATION_ERROR", "Invalid input JSON: Cannot deserialize value of type String")
        properties = entry.get("properties")
        if not isinstance(properties, dict) or not all(isinstance(value, str) for value in properties.values()):
            return _error(400, "VALIDATION_ERROR", "Invalid input JSON: property values must be strings")
    return inputs


def _object(request: Request) -> dict[str, Any] | None:
    try:
        body = request.json
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _invalid(name: str, code: str, message: str, contact: str = "") -> str:
    """HubSpot's text for properties: JSON within the message, which may quote the contact."""
    found = {
        "isValid": False,
        "message": message,
        "error": code,
        "name": name,
        "localizedErrorMessage": contact or message,
    }
    return f"Property values were not valid: {json.dumps([found])}"


def _error(status: int, category: str, message: str) -> Answer:
    body = {"status": "error", "category": category, "message": message, "correlationId": "aeb5f871-7f07"}
    return Answer(status=status, body=body)
