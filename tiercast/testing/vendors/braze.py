"""Braze's API: `/users/track`.

Shapes: https://www.braze.com/docs/api/endpoints/user_data/post_user_track
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .server import Answer, FakeVendor, Request, Route, Window, seconds_up, unix_after

KEY = "braze-key-s3cr3t"

IDENTIFIERS = ("external_id", "user_alias", "braze_id", "email", "phone")

#: The most objects of all lists of one call together, and the most bytes of one object.
MOST_OBJECTS = 75
MOST_OBJECT_BYTES = 100_000

_EVENT = frozenset({*IDENTIFIERS, "name", "time", "properties", "app_id", "_update_existing_only"})
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9.]+)?(Z|[+-][0-9:]+)")


@dataclass(slots=True)
class Event:
    """A custom event that was taken."""

    user: str
    name: str
    time: str
    properties: dict[str, Any]


class FakeBraze(FakeVendor):
    """Keeps users and their events.

    201 says that a call was taken, and may hold errors of single objects. It refuses an object without exactly one
    identifier, events without name or ISO 8601 time, and more than 75 objects over all lists; a call whose objects all
    fail answers 400. `_update_existing_only` leaves unknown users out without a word, as the vendor does.

    Args:
        limits: by default the published ones.

    Attributes:
        users: the attributes of each user, by identifier.
        events: what was taken, in order.
        blocked: external ids that the vendor bans.
        spoilers: ids that refuse the whole call, with no word about which.
        attributes_counted: how many attributes were written; the vendor bills them.
        maintenance: answer 202 `queued` and take everything.
        errors_without_index: leave out which object an error is about.
        permissions: of the key.
    """

    name: ClassVar[str] = "braze"
    published: ClassVar[Mapping[str, Sequence[Window]]] = {"api": (Window(3000, 3.0),)}
    max_body_bytes: ClassVar[int] = 4 * 1024 * 1024

    def __init__(self, *, limits: Mapping[str, Sequence[Window]] | None = None) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self.events: list[Event] = []
        self.blocked: set[str] = set()
        self.spoilers: set[str] = set()
        self.attributes_counted = 0
        self.maintenance = False
        self.errors_without_index = False
        self.permissions = {"users.track"}
        super().__init__(limits=limits)

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/users/track", self._track)

    def options(self) -> dict[str, Any]:
        return {"base_url": self.url, "host": "rest.fra-02.braze.eu", "token": KEY}

    def effects(self) -> dict[str, Any]:
        return {
            "users": {name: dict(user) for name, user in self.users.items()},
            "events": [(event.user, event.name, dict(event.properties)) for event in self.events],
        }

    def refuse(self, request: Request) -> Answer | None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return Answer(status=401, body={"message": f"Invalid API key: {request.headers.get('authorization', '')}"})
        if "users.track" not in self.permissions:
            return Answer(status=403, body={"message": "The API key lacks the permission users.track"})
        return None

    def unknown_route(self, request: Request) -> Answer:
        return Answer(status=404, body={"message": "Invalid URL"})

    def too_many(self, window: Window, wait: float) -> Answer:
        headers = {
            "x-ratelimit-limit": str(window.calls),
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": unix_after(wait),
            "x-ratelimit-retry-after": seconds_up(wait),
        }
        return Answer(status=429, body={"message": "Rate limit exceeded"}, headers=headers)

    def failed(self, status: int) -> Answer:
        return Answer(status=status, body={"message": "Internal server error"})

    # --- users/track

    def _track(self, request: Request) -> Answer:
        body = _object(request)
        lists = {name: body.get(name, []) for name in ("attributes", "events", "purchases")} if body is not None else {}
        if body is None or set(body) - set(lists) or not all(isinstance(items, list) for items in lists.values()):
            return Answer(status=400, body={"message": "The request body is malformed"})
        if not any(lists.values()):
            told = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."
            return Answer(status=400, body={"message": told})
        if any(item.get("external_id") in self.spoilers for items in lists.values() for item in items):
            return Answer(status=400, body={"message": "The request body is malformed"})
        if sum(map(len, lists.values())) > MOST_OBJECTS:
            return Answer(status=400, body={"message": f"The request has more than {MOST_OBJECTS} objects"})
        errors = []
        taken = {"attributes": 0, "events": 0}
        for name, items in lists.items():
            for index, item in enumerate(items):
                fault = self._fault(name, item)
                if fault is not None:
                    errors.append({"type": fault, "input_array": name, "index": index})
                    continue
                taken[name] += 1
                self._take(name, item)
        return self._told(taken, errors)

    def _told(self, taken: Mapping[str, int], errors: list[dict[str, Any]]) -> Answer:
        if self.errors_without_index:
            errors = [{"type": error["type"]} for error in errors]
        if not any(taken.values()):
            return Answer(status=400, body={"message": errors[0]["type"], "errors": errors})
        if self.maintenance:
            return Answer(status=202, body={"message": "queued"})
        body: dict[str, Any] = {"message": "success"}
        body |= {f"{name}_processed": count for name, count in taken.items() if count}
        return Answer(status=201, body=body | ({"errors": errors} if errors else {}))

    def _fault(self, kind: str, item: Any) -> str | None:
        """What is wrong with one object, as Braze words it."""
        if kind == "purchases" or not isinstance(item, dict):
            return "The object is malformed"
        if len(json.dumps(item)) > MOST_OBJECT_BYTES:
            return "The object is larger than 100 KB"
        given = [name for name in IDENTIFIERS if item.get(name)]
        # An e-mail address or a phone number beside another identifier is an attribute.
        if not given or (len(given) > 1 and set(given[1:]) - {"email", "phone"}):
            return "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required, and only one of them"
        if item.get("external_id") in self.blocked:
            return "Provided external_id is blacklisted and disallowed."
        return _event_fault(item) if kind == "events" else None

    def _take(self, kind: str, item: Mapping[str, Any]) -> None:
        user = _user(item)
        only_existing = item.get("_update_existing_only", "user_alias" in item)
        if user not in self.users and only_existing:
            return
        known = self.users.setdefault(user, {})
        if kind == "events":
            self.events.append(Event(user, item["name"], item["time"], dict(item.get("properties") or {})))
            return
        named = _named(item)
        written = {name: value for name, value in item.items() if name not in {named, "_update_existing_only"}}
        self.attributes_counted += len(written)
        for name, value in written.items():
            if value is None:
                known.pop(name, None)
            else:
                known[name] = value


def _object(request: Request) -> dict[str, Any] | None:
    try:
        body = request.json
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _named(item: Mapping[str, Any]) -> str:
    """The identifier of an object."""
    return next(name for name in IDENTIFIERS if item.get(name))


def _user(item: Mapping[str, Any]) -> str:
    name = _named(item)
    value = item[name]
    if isinstance(value, dict):
        return f"{value.get('alias_label')}:{value.get('alias_name')}"
    return str(value).lower() if name == "email" else str(value)


def _event_fault(item: Mapping[str, Any]) -> str | None:
    if set(item) - _EVENT:
        return "The event has unknown fields"
    if not isinstance(item.get("name"), str) or not 0 < len(item["name"]) <= 255:
        return "'name' is required"
    if not isinstance(item.get("time"), str) or not _TIME.fullmatch(item["time"]):
        return "'time' is required, in ISO 8601 format"
    properties = item.get("properties", {})
    return None if isinstance(properties, dict) else "'properties' is not an object"
