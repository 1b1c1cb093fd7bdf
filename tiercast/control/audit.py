"""The audit log: who changed what, from where, when, why and with which result.

It is a stream in the ledger. Each entry is written by the script that makes the change (lua/_audit.lua), so there is no
change without an entry and no entry without a change. Entries name jobs, deliveries, lanes, operations and keyed
digests, never people; what somebody wrote as a reason is the one free text. A request that takes several scripts writes
an entry with each; they are read as one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..ledger.store import Ledger
from .actor import Actor

#: How long an entry is kept (lua/_audit.lua has the same).
AUDIT_KEEP_DAYS = 400

#: How many entries are read in one round trip.
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a request says of itself, for its audit entry.

    Args:
        actor: who asks.
        subject: what it is about: a job's key, a delivery's id, a lane, an operation's id, a digest, or a filter in
            words. Never a person's name.
        why: the reason that they gave.
        operation: the operation that it belongs to.
        request: the same for all parts of one request.
        part: which part this is, from 1 on.
    """

    actor: Actor
    subject: str
    why: str = ""
    operation: str = ""
    request: str = ""
    part: int = 1

    def as_request(self, verb: str) -> dict[str, Any]:
        """As the scripts take it."""
        return {
            "verb": verb,
            "by": self.actor.name,
            "from": self.actor.origin,
            "address": self.actor.address,
            "subject": self.subject,
            "why": self.why,
            "op": self.operation,
            "request": self.request or new_request(),
            "part": self.part,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One request, and what became of it.

    `count` is how many members it changed, `refused` how many it left alone. `result` is the state that came of it, or
    why nothing did. `at_ms` is milliseconds since 1970, of its last part.
    """

    at_ms: int
    actor: Actor
    verb: str
    subject: str
    count: int
    refused: int
    why: str
    result: str
    operation: str | None
    request: str = ""
    part: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries; None matches all. Times are milliseconds since 1970.

    `user` is a name, or `cli:user@host` whole.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    user: str | None = None
    verb: str | None = None


class AuditLog:
    """Reads the audit log of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def entries(self, which: AuditFilter = AuditFilter()) -> Iterator[AuditEntry]:
        """Entries that match, newest first."""
        return (entry for entry in _joined(self._all()) if _matches(entry, which))

    def _all(self) -> Iterator[AuditEntry]:
        for fields in self._ledger.audit_entries(_PAGE):
            yield _entry(fields)

    def note(self, note: Note, verb: str, *, count: int = 0, refused: int = 0, result: str = "") -> None:
        """Write an entry of a change that is made elsewhere than in the ledger.

        Raises:
            LedgerError: the ledger fails; the change should not be made then.
        """
        self._ledger.note_audit(note.as_request(verb), count=count, refused=refused, result=result)


def new_request() -> str:
    """Make what ties the parts of one request together."""
    return uuid.uuid4().hex[:16]


def _entry(fields: Mapping[str, str]) -> AuditEntry:
    origin = fields.get("from")
    return AuditEntry(
        at_ms=int(fields.get("at", 0)),
        actor=Actor(fields.get("by", ""), "console" if origin == "console" else "cli", fields.get("address", "")),
        verb=fields.get("verb", ""),
        subject=fields.get("subject", ""),
        count=int(fields.get("count", 0)),
        refused=int(fields.get("refused", 0)),
        why=fields.get("why", ""),
        result=fields.get("result", ""),
        operation=fields.get("op") or None,
        request=fields.get("request", ""),
        part=int(fields.get("part", 1)),
    )


def _joined(entries: Iterator[AuditEntry]) -> Iterator[AuditEntry]:
    """Entries with the parts of a request made one, in the place of its last part.

    Newest first, part 1 of a request is met last; until then what comes after its place waits.
    """
    waiting: list[AuditEntry] = []
    places: dict[str, int] = {}
    gone = 0
    for entry in entries:
        place = places.get(entry.request) if entry.request else None
        if place is None:
            if entry.request:
                places[entry.request] = gone + len(waiting)
            waiting.append(entry)
        else:
            newer = waiting[place - gone]
            waiting[place - gone] = replace(
                newer,
                part=min(newer.part, entry.part),
                count=newer.count + entry.count,
                refused=newer.refused + entry.refused,
            )
        while waiting and waiting[0].part <= 1:
            first = waiting.pop(0)
            places.pop(first.request, None)
            gone += 1
            yield first
    yield from waiting


def _matches(entry: AuditEntry, which: AuditFilter) -> bool:
    return (
        (which.since_ms is None or entry.at_ms >= which.since_ms)
        and (which.until_ms is None or entry.at_ms <= which.until_ms)
        and which.user in (None, entry.actor.name, str(entry.actor))
        and which.verb in (None, entry.verb)
    )
