"""Klaviyo's API: profiles and events.

Shapes: https://developers.klaviyo.com/en/reference, revision 2026-07-15 of its OpenAPI.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .server import Answer, FakeVendor, Request, Route, Window, seconds_up

KEY = "pk_s3cr3t"

IDENTIFIERS = ("external_id", "email", "phone_number")

#: What the attributes of a profile may hold.
_ATTRIBUTES = frozenset(
    {*IDENTIFIERS, "first_name", "last_name", "organization", "locale", "title", "image", "location", "properties"}
    | {"anonymous_id", "meta"}
)

#: What the attributes of an event may hold.
_EVENT = frozenset({"metric", "profile", "properties", "unique_id", "time", "value", "value_currency"})

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)")

_TYPE = "application/vnd.api+json"
_MAX_PROFILE_BYTES = 100_000


@dataclass(slots=True)
class Profile:
    """A profile by its identifiers."""

    id: str
    identifiers: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Event:
    """An event that was kept."""

    metric: str
    profile: str
    time: str
    unique_id: str
    properties: dict[str, Any]


class FakeKlaviyo(FakeVendor):
    """Keeps profiles and events.

    It refuses a missing or retired `revision`, another content type, unknown attributes, a phone number that is not
    E.164, an e-mail address that is none, an empty list as a value, a profile without identifier, and identifiers that
    belong to two profiles. A repeated `unique_id` of one profile and metric keeps the first event; without it, events
    of one second fall together.

    Args:
        limits: by default the published ones, by endpoint.

    Attributes:
        profiles: in order of their creation.
        events: what was kept, in order.
        revisions: those that are served; any other answers 410.
        scopes: of the key.
        sent: how many events were accepted, twins too.
    """

    name: ClassVar[str] = "klaviyo"
    published: ClassVar[Mapping[str, Sequence[Window]]] = {
        "profiles": (Window(75, 1.0, "burst"), Window(750, 60.0, "steady")),
        "events": (Window(350, 1.0, "burst"), Window(3500, 60.0, "steady")),
        "accounts": (Window(1, 1.0, "burst"), Window(15, 60.0, "steady")),
    }
    max_body_bytes: ClassVar[int] = 5 * 1024 * 1024

    def __init__(self, *, limits: Mapping[str, Sequence[Window]] | None = None) -> None:
        self.profiles: list[Profile] = []
        self.events: list[Event] = []
        self.revisions = {"2025-10-15", "2026-01-15", "2026-04-15", "2026-07-15", "2026-10-15"}
        self.scopes = {"profiles:write", "events:write", "accounts:read"}
        self.sent = 0
        super().__init__(limits=limits)

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/api/profile-import", self._import, "profiles")
        yield Route("POST", "/api/events", self._event, "events")
        yield Route("GET", "/api/accounts", self._accounts, "accounts")

    def options(self) -> dict[str, Any]:
        return {"base_url": self.url, "token": KEY}

    def effects(self) -> dict[str, Any]:
        return {
            "profiles": {_shown(profile): dict(profile.properties) for profile in self.profiles},
            "events": [(event.profile, event.metric, dict(event.properties)) for event in self.events],
        }

    def refuse(self, request: Request) -> Answer | None:
        headers = request.headers
        if headers.get("authorization") != f"Klaviyo-API-Key {KEY}":
            return error(401, "not_authenticated", "Authentication credentials were not provided.")
        revision = headers.get("revision")
        if not revision:
            return error(400, "missing_revision", "A revision header is required.")
        if revision not in self.revisions:
            return error(410, "gone", f"The revision {revision} was retired.")
        if request.method != "GET" and headers.get("content-type") not in {_TYPE, "application/json"}:
            return error(415, "unsupported_media_type", "Unsupported media type in request.")
        return None

    def unknown_route(self, request: Request) -> Answer:
        return error(404, "not_found", "The requested URL was not found.")

    def too_many(self, window: Window, wait: float) -> Answer:
        answer = error(429, "throttled", "Request was throttled.")
        answer.headers = {
            "retry-after": seconds_up(wait),
            "ratelimit-limit": str(window.calls),
            "ratelimit-remaining": "0",
            "ratelimit-reset": seconds_up(wait),
        }
        return answer

    def failed(self, status: int) -> Answer:
        return error(status, "error", "A server error occurred.")

    # --- profiles

    def _import(self, request: Request) -> Answer:
        if "profiles:write" not in self.scopes:
            return error(403, "permission_denied", "The API key lacks the scope profiles:write.")
        if len(request.body) > _MAX_PROFILE_BYTES:
            return error(413, "payload_too_large", "The payload is larger than 100 KB.")
        data = _data(request, "profile")
        if data is None or set(data) - {"type", "id", "attributes", "meta"}:
            return error(400, "invalid", "The payload is malformed.", "/data")
        attributes = data["attributes"]
        if (refusal := _profile_refusal(attributes, "/data/attributes")) is not None:
            return refusal
        unset = ((data.get("meta") or {}).get("patch_properties") or {}).get("unset") or []
        profile = self._profile(attributes)
        if isinstance(profile, Answer):
            return profile
        new = profile not in self.profiles
        if new:
            self.profiles.append(profile)
        _update(profile, attributes, [unset] if isinstance(unset, str) else unset)
        shown = {"type": "profile", "id": profile.id, "attributes": {**profile.identifiers, **profile.attributes}}
        return Answer(status=201 if new else 200, body={"data": shown}, headers={"content-type": _TYPE})

    def _profile(self, attributes: Mapping[str, Any]) -> Profile | Answer:
        """The profile that the identifiers belong to, or a new one that is not yet kept."""
        given = _identifiers(attributes)
        found = [one for one in self.profiles if any(one.identifiers.get(name) == given[name] for name in given)]
        if len(found) > 1:
            meta = {"duplicate_profile_id": found[1].id}
            return error(409, "duplicate_profile", "A profile already exists with one of these identifiers.", meta=meta)
        return found[0] if found else Profile(f"01J{len(self.profiles):023}")

    # --- events

    def _event(self, request: Request) -> Answer:
        if "events:write" not in self.scopes:
            return error(403, "permission_denied", "The API key lacks the scope events:write.")
        data = _data(request, "event")
        attributes = data["attributes"] if data is not None else {}
        metric, person = _inner(attributes, "metric"), _inner(attributes, "profile")
        if metric is None or person is None or set(attributes) - _EVENT or set(metric) - {"name", "service"}:
            return error(400, "invalid", "The payload is malformed.", "/data")
        name = metric.get("name")
        if not isinstance(name, str) or not 0 < len(name) < 128:
            return error(400, "invalid", "Invalid metric name.", "/data/attributes/metric/data/attributes/name")
        if (refusal := _profile_refusal(person, "/data/attributes/profile/data/attributes")) is not None:
            return refusal
        properties = attributes.get("properties")
        if not isinstance(properties, dict) or len(properties) > 400:
            return error(400, "invalid", "Invalid properties.", "/data/attributes/properties")
        time = attributes.get("time")
        if time is not None and not (isinstance(time, str) and _TIME.fullmatch(time)):
            return error(400, "invalid", "Invalid time.", "/data/attributes/time")
        profile = self._profile(person)
        if isinstance(profile, Answer):
            return profile
        if profile not in self.profiles:
            self.profiles.append(profile)
            profile.identifiers |= _identifiers(person)
        self.sent += 1
        unique = str(attributes.get("unique_id") or (time or "now")[:19])
        if not any((one.profile, one.metric, one.unique_id) == (_shown(profile), name, unique) for one in self.events):
            self.events.append(Event(name, _shown(profile), time or "", unique, dict(properties)))
        return Answer(status=202)

    def _accounts(self, request: Request) -> Answer:
        if "accounts:read" not in self.scopes:
            return error(403, "permission_denied", "The API key lacks the scope accounts:read.")
        account = {"type": "account", "id": "XyZ123", "attributes": {"public_api_key": "XyZ123"}}
        return Answer(body={"data": [account]}, headers={"content-type": _TYPE})


def error(
    status: int, code: str, detail: str, pointer: str = "/data", *, meta: Mapping[str, Any] | None = None
) -> Answer:
    """An error as Klaviyo tells it."""
    told = {
        "id": "f1b0",
        "status": status,
        "code": code,
        "title": "Invalid input." if status == 400 else code.replace("_", " "),
        "detail": detail,
        "source": {"pointer": pointer},
        "meta": dict(meta or {}),
    }
    return Answer(status=status, body={"errors": [told]}, headers={"content-type": _TYPE})


def _data(request: Request, kind: str) -> dict[str, Any] | None:
    try:
        body = request.json
    except ValueError:
        return None
    data = body.get("data") if isinstance(body, dict) and set(body) == {"data"} else None
    if not isinstance(data, dict) or data.get("type") != kind or not isinstance(data.get("attributes"), dict):
        return None
    return data


def _inner(attributes: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The attributes of an object within an event."""
    outer = attributes.get(name)
    data = outer.get("data") if isinstance(outer, dict) else None
    inner = data.get("attributes") if isinstance(data, dict) and data.get("type") == name else None
    return inner if isinstance(inner, dict) else None


def _profile_refusal(attributes: Mapping[str, Any], at: str) -> Answer | None:
    if unknown := sorted(set(attributes) - _ATTRIBUTES):
        return error(
            400, "invalid", f"'{unknown[0]}' is not a valid field for the resource 'profile'.", f"{at}/{unknown[0]}"
        )
    if not _identifiers(attributes):
        return error(400, "invalid", "At least one identifier is required.", at)
    for name, pattern in (("email", _EMAIL), ("phone_number", _PHONE)):
        value = attributes.get(name)
        if value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
            return error(400, "invalid", f"Invalid {name.replace('_', ' ')} {json.dumps(value)}.", f"{at}/{name}")
    properties = attributes.get("properties", {})
    if not isinstance(properties, dict):
        return error(400, "invalid", "Invalid properties.", f"{at}/properties")
    for name, value in (*attributes.items(), *properties.items()):
        if value == []:
            return error(400, "invalid", "An empty list is not a value.", f"{at}/properties/{name}")
    return None


def _update(profile: Profile, attributes: Mapping[str, Any], unset: Iterable[str]) -> None:
    profile.identifiers |= _identifiers(attributes)
    for name, value in attributes.get("properties", {}).items():
        if value is None:
            profile.properties.pop(name, None)
        else:
            profile.properties[name] = value
    others = {name: value for name, value in attributes.items() if name not in {*IDENTIFIERS, "properties"}}
    profile.attributes |= others
    for name in unset:
        profile.properties.pop(name, None)


def _identifiers(attributes: Mapping[str, Any]) -> dict[str, str]:
    found = {
        name: attributes[name] for name in IDENTIFIERS if isinstance(attributes.get(name), str) and attributes[name]
    }
    return {name: value.lower() if name == "email" else value for name, value in found.items()}


def _shown(profile: Profile) -> str:
    return next((profile.identifiers[name] for name in IDENTIFIERS if name in profile.identifiers), profile.id)
