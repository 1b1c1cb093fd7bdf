"""Operations as values: what was asked for, and how far it is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from ..control.actor import Actor
from ..control.verbs import VERBS, Verb
from ..error_pattern import error_pattern
from ..ledger.reading import Filter
from ..queries.walk import Choice, Chosen

#: Members that are tried first, and above how many they are if nobody says.
TRY_MEMBERS = 5
TRY_ABOVE_MEMBERS = 100

#: How many errors are told apart in counts; further ones are counted together.
_MOST_ERRORS = 50
OTHER_ERRORS = "other errors"


class OperationState(StrEnum):
    """Where an operation stands."""

    COUNTING = "counting"
    TRYING = "trying"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    STOPPED = "stopped"

    @property
    def final(self) -> bool:
        """Nothing more happens by itself."""
        return self in (OperationState.DONE, OperationState.CANCELLED, OperationState.STOPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRequest:
    """What an operator asks for.

    Args:
        verb: what to do.
        which: the filter; relative times are fixed by now, and a customer goes by digests.
        names: these members, in place of a filter; at most 1,000.
        why: the reason.
        subject: the filter in words.
        start: a cursor of the walk, before the first member.
        only: the actions that a replay is limited to.
        skip: actions whose done jobs are left alone, since their kinds are not repeatable.
        try_first: whether five are tried first; None where there are many.
        rate: the most members a second; None for as many as the ledger bears.
    """

    verb: Verb
    which: Filter = field(default_factory=Filter)
    names: tuple[str, ...] = ()
    why: str = ""
    subject: str = ""
    start: str = ""
    only: tuple[str, ...] | None = None
    skip: tuple[str, ...] = ()
    try_first: bool | None = None
    rate: float | None = None

    def choice(self, before_ms: int) -> Choice:
        """What it chooses, as it was then."""
        return Choice(
            of_jobs=self.verb.is_of_jobs,
            which=self.which,
            states=self.verb.chooses,
            names=self.names,
            before_ms=before_ms,
            skip=self.skip,
            first_rounds=self.verb.name == "redo" and not self.names,
        )

    def as_fields(self) -> dict[str, str]:
        """As the ledger keeps it (keys.py)."""
        given = {name: value for name, value in asdict(self.which).items() if value is not None}
        fields = {"verb": self.verb.name, "script": self.verb.script, "why": self.why, "subject": self.subject}
        fields |= {"filter": json.dumps(given), "start": self.start}
        fields["try"] = "" if self.try_first is None else str(int(self.try_first))
        if self.names:
            fields["names"] = json.dumps(self.names)
        if self.only is not None:
            fields["only"] = json.dumps(self.only)
        if self.skip:
            fields["skip"] = json.dumps(self.skip)
        if self.rate is not None:
            fields["rate"] = repr(self.rate)
        return fields


@dataclass(frozen=True, slots=True)
class Refusal:
    """Members that were left alone for one reason: how many, and the first names."""

    reason: str
    count: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tried:
    """A member that was tried first. `watch` is the job or delivery to look at, None where it was left alone."""

    name: str
    watch: str | None
    error: str | None


@dataclass(slots=True)
class Counts:
    """Members that were counted, by state, by action or type, and by error pattern."""

    by_state: Counter[str] = field(default_factory=Counter)
    by_about: Counter[str] = field(default_factory=Counter)
    by_error: Counter[str] = field(default_factory=Counter)

    def add(self, chosen: Iterable[Chosen]) -> None:
        """Count members."""
        for one in chosen:
            self.by_state[one.state or "missing"] += 1
            if one.about:
                self.by_about[one.about] += 1
            if one.error:
                error = error_pattern(one.error)
                known = error in self.by_error or len(self.by_error) < _MOST_ERRORS
                self.by_error[error if known else OTHER_ERRORS] += 1

    def as_json(self) -> str:
        """As the ledger keeps it."""
        return json.dumps([self.by_state, self.by_about, self.by_error])

    @classmethod
    def read(cls, text: str | None) -> Counts:
        """Read what `as_json` made."""
        return cls(*map(Counter, json.loads(text))) if text else cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation and how far it is. Times are milliseconds since 1970.

    `expected` is how many members were counted so far, `seen` how many had their turn: `done` and `refused`.
    `reason` says why it was stopped. `candidates` are members to try first, by error pattern.
    """

    id: str
    request: BulkRequest
    actor: Actor
    state: OperationState
    created_ms: int
    moved_ms: int | None
    ended_ms: int | None
    reason: str | None
    cursor: str
    expected: int
    counts: Counts
    candidates: Mapping[str, list[str]]
    seen: int
    done: int
    refused: int
    refusals: tuple[Refusal, ...]
    tried: tuple[Tried, ...] | None
    tried_ms: int | None

    @property
    def verb(self) -> Verb:
        """What it does."""
        return self.request.verb

    @property
    def choice(self) -> Choice:
        """What it is about."""
        return self.request.choice(self.created_ms)

    @property
    def tries_first(self) -> bool:
        """Whether five are tried before the rest."""
        if not self.verb.performs or not self.candidates:
            return False
        if self.request.try_first is None:
            return self.expected > TRY_ABOVE_MEMBERS
        return self.request.try_first and self.expected > TRY_MEMBERS


def read_operation(id: str, fields: Mapping[str, str]) -> Operation:
    """Read an operation as the ledger keeps it (keys.py).

    Raises:
        ValueError, KeyError: another version wrote it.
    """
    f = fields
    given = json.loads(f.get("filter") or "{}")
    if given.get("customer_digests") is not None:
        given["customer_digests"] = tuple(given["customer_digests"])
    request = BulkRequest(
        verb=VERBS[f["verb"]],
        which=replace(Filter(), **given),
        names=tuple(_list(f.get("names"))),
        why=f.get("why", ""),
        subject=f.get("subject", ""),
        start=f.get("start", ""),
        only=tuple(json.loads(f["only"])) if "only" in f else None,
        skip=tuple(_list(f.get("skip"))),
        try_first=bool(int(f["try"])) if f.get("try") else None,
        rate=float(f["rate"]) if f.get("rate") else None,
    )
    tried = [Tried(one["name"], one.get("watch"), one.get("error")) for one in _list(f.get("tried"))]
    return Operation(
        id=id,
        request=request,
        actor=Actor(f.get("by", ""), "console" if f.get("from") == "console" else "cli", f.get("address", "")),
        state=OperationState(f["state"]),
        created_ms=int(f["created"]),
        moved_ms=_int(f.get("moved")),
        ended_ms=_int(f.get("ended")),
        reason=f.get("reason") or None,
        cursor=f.get("cursor", ""),
        expected=int(f.get("expected", 0)),
        counts=Counts.read(f.get("counts")),
        candidates=json.loads(f.get("candidates") or "{}"),
        seen=int(f.get("seen", 0)),
        done=int(f.get("done", 0)),
        refused=int(f.get("refused", 0)),
        refusals=tuple(Refusal(one["reason"], one["count"], tuple(one["names"])) for one in _list(f.get("refusals"))),
        tried=tuple(tried) if "tried" in f else None,
        tried_ms=_int(f.get("tried_at")),
    )


def _list(text: str | None) -> list[Any]:
    """A list that a script or we wrote; Lua writes an empty one as an object."""
    return list(json.loads(text)) if text else []


def _int(text: str | None) -> int | None:
    return int(text) if text else None
