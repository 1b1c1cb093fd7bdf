"""What goes into the ledger and comes out of it, as values.

Those that are made for every event and job are not frozen: that would triple the cost of making one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from ..rule_outcomes import RuleOutcome
from . import keys
from .states import DeliveryState as DeliveryState  # noqa: PLC0414 - they are values of this module, too
from .states import JobState as JobState  # noqa: PLC0414

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recorded:
    """Deliveries were stored. `bells` are lanes to ring for."""

    bells: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A request to claim work of a lane.

    Args:
        token: random, made by the client; repeating a claim under it returns the same members.
        n: the most members; 0 leaves the lane and passes the bell on.
        cap: the most that all workers together may hold of this lane.
        redelivered: the most members whose lease has expired once.
        isolated: ask for members whose lease has expired at least twice: up to 16 that lost it twice, or one that lost
            it more often. An ordinary claim passes those over.
        heard: a bell brought this claim.
        claims_again_ms: within which the caller claims again if it gets members: until then new work needs no bell.
        learn: the limit or action whose learnt rate holds; empty for none.
        limits: (name, microseconds between two calls) of each limit that a call counts against.
        per_call: how many members one vendor call takes.
    """

    token: str
    n: int
    cap: int | None = None
    redelivered: int = 16
    isolated: bool = False
    heard: bool = False
    claims_again_ms: int = 0
    learn: str = ""
    limits: tuple[tuple[str, int], ...] = ()
    per_call: int = 1


@dataclass(slots=True, kw_only=True)
class HeldDelivery:
    """A delivery under our lease. `again` is 0, or what a replay asked for (1 missing jobs, 2 also done ones).

    `expiries` counts its expired leases.
    """

    id: str
    token: str
    body: bytes = field(repr=False)
    again: int
    expiries: int


@dataclass(slots=True, kw_only=True)
class HeldJob:
    """A job under our lease, with the head and the raw body of its event.

    `attempts` counts those made, `tries` those since an operator last asked to retry, `expiries` its expired leases.
    `effect_possible` says that an earlier attempt may have had its effect, `since` how many seconds ago that was noted
    last. `delay` is seconds until it may start (rate limits); `once` is the digest of its once group. `failing` is how
    many seconds it has been failing by itself, time on hold not counted; None before its first failure.
    """

    key: str
    token: str
    attempts: int
    tries: int
    effect_possible: bool
    expiries: int
    delay: float
    delivery: str
    event_id: str
    type: str
    at: str
    created_us: int
    source: str
    form: str
    once: str | None
    body: bytes = field(repr=False)
    since: float | None = None
    failing: float | None = None


@dataclass(frozen=True, slots=True)
class Exchange(Generic[T]):
    """What settling and claiming in one round trip came to.

    `more` says that further members are due, `isolated` that some need a process of their own, `on_hold` how many
    seconds the lane is still on hold; a hold for its rate is not counted, since what is claimed has its starts.
    """

    settled: list[tuple[str, str, str]]
    bells: list[str]
    claimed: list[T]
    more: bool
    isolated: bool = False
    on_hold: float = 0.0


@dataclass(slots=True, kw_only=True)
class PlannedJob:
    """A job that an event leads to; `skipped` is the reason where nothing is to be done.

    `order` and `once` are digests of its groups. One of 24 characters begins with the digest of the customer.
    """

    action: str
    order: str | None = None
    once: str | None = None
    unordered: bool = False
    skipped: str | None = None


@dataclass(slots=True, kw_only=True)
class Plan:
    """What becomes of a held delivery.

    `project` is the Voucherify project within which the event's id counts. `customer` are the digests of its customer's
    names, the strongest first; `keeps_names` where any action has `once` or `order`. `rank` orders the event among
    those of the same time, in place of its arrival. `rules` say what became of the rules for its type, where one does
    not hold.
    """

    delivery: str
    token: str
    state: DeliveryState
    reason: str = ""
    event_id: str = ""
    type: str = ""
    at: str = ""
    created_us: int = 0
    form: str = ""
    project: str = ""
    customer: tuple[str, ...] = ()
    keeps_names: bool = False
    rank: str | None = None
    jobs: tuple[PlannedJob, ...] = ()
    rules: tuple[RuleOutcome, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A wish that nothing of a lane starts for so many seconds; with `limit`, of all lanes that share the limit."""

    seconds: float
    cause: Literal["credential", "setting", "vendor"]
    reason: str
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class Alike:
    """What a dead job has in common with others: when `most` of a lane have died of one code, with no job done between,
    the lane is held with that reason, and further ones are released.
    """

    code: str
    reason: str
    most: int


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What becomes of a held job.

    Args:
        verdict: a final state, `later` (owed again in `wait` seconds) or `released` (given back, no attempt).
        effect_possible: True when the effect is possible, False when it is known not to be, None to leave it as it is.
        duration: seconds that the attempt took; with it, the attempt goes on record.
        answered: the vendor answered; a job that is `done` says so anyway.
        signal: `outage` where the vendor could not be reached, `rate` where it refused too many calls and named no
            time.
        hold: what the vendor's answer means for the whole lane or limit.
        alike: of a dead job, the vendor's code that it died of.
    """

    job: str
    token: str
    verdict: str
    text: str | None = None
    wait: float | None = None
    effect_possible: bool | None = None
    duration: float | None = None
    answered: bool = False
    signal: Literal["outage", "rate"] | None = None
    hold: Hold | None = None
    alike: Alike | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """What the timer learns: lanes to ring for, those that were rung for in vain, seconds until more is due.

    `isolated` are lanes with due members that need a process of their own; `now_ms` is the ledger's clock.
    """

    bells: list[str]
    waiting: list[str]
    next_in: float
    isolated: list[str]
    now_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOperation:
    """An operation under our lease; `fields` are those of its hash (keys.py)."""

    id: str
    token: str
    expiries: int
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class OperationStep:
    """What one step of an operation came to (see lua/operation.lua).

    `fields` are those of its hash after it, `held` how many operations are held now, `bells` lanes to ring for.
    """

    what: str
    fields: dict[str, str]
    held: int
    bells: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneInfo:
    """A lane as an operator sees it; counts are members, the age is seconds, times are milliseconds since 1970.

    `reason` says why nothing starts: of a pause (`paused_by` and `paused_ms` say who and when), or of a hold that ends
    by itself at `hold_until_ms`. `cause` is its code: `paused`, `credential`, `setting`, `outage`, `vendor` or `rate`.
    `cap` is the most held at once. `redelivered` counts members whose lease has expired once, `isolated` those whose
    lease has expired more often.
    """

    name: str
    owed: int
    due: int
    held: int
    oldest_due_seconds: float | None
    paused: bool
    reason: str | None
    redelivered: int = 0
    isolated: int = 0
    paused_by: str | None = None
    paused_ms: int | None = None
    hold_until_ms: int | None = None
    cause: str | None = None
    cap: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryInfo:
    """A delivery as an operator sees it; times are milliseconds since 1970."""

    id: str
    source: str
    state: DeliveryState
    received_ms: int
    event_id: str | None = None
    type: str | None = None
    at: str | None = None
    reason: str | None = None
    first: str | None = None
    jobs: tuple[str, ...] = ()
    settled_ms: int | None = None
    form: str | None = None
    created_us: int = 0
    rules: tuple[RuleOutcome, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a job; `started_ms` since 1970, `duration_ms` how long it took."""

    number: int
    started_ms: int
    duration_ms: int
    outcome: str
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """A job as an operator sees it; times are milliseconds since 1970.

    `attempts` counts those made, `tries` those since an operator last asked to retry. `order` and `once` are the
    digests of its groups. `failing_ms` is when it first failed by itself, `operation` the one that changed it last.
    """

    key: str
    action: str
    state: JobState
    attempts: int
    delivery: str
    event_id: str
    source: str
    text: str | None
    changed_ms: int
    due_ms: int | None = None
    held: bool = False
    effect_possible: bool = False
    unordered: bool = False
    order: str | None = None
    once: str | None = None
    tries: int = 0
    failing_ms: int | None = None
    operation: str | None = None
    history: tuple[Attempt, ...] = ()

    @property
    def sent_as(self) -> str:
        """The idempotency key that the kind gets, by which the vendor knows it."""
        return keys.sent_key(self.key, self.once)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One thing that a job waits for; times are milliseconds since 1970.

    `cause` is `paused`, `hold`, `later` (its next attempt), `rate` (`reason` is the limit's name), `concurrency`
    (`number` is the cap), `turn` (`number` are due before it), `order` or `once` (`job` is the one before it, in
    `state`).
    """

    cause: Literal["paused", "hold", "later", "rate", "concurrency", "turn", "order", "once"]
    reason: str | None = None
    by: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    job: str | None = None
    state: str | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed of a customer. `busy` are jobs being performed, `needed` bodies that open work still needs.

    `bells` are lanes to ring for.
    """

    deliveries: int
    jobs: int
    busy: list[str]
    needed: list[str]
    bells: list[str]


@dataclass(frozen=True, slots=True)
class Shifted:
    """What a step of moving back what is due and held did (see clock.py).

    `total_ms` is what the ledger has moved in all, `more` that this move goes on, `found` by how many seconds this call
    found the clock back (0: nothing new), `bells` lanes to ring for.
    """

    total_ms: int
    more: bool
    found: float
    bells: list[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an operator's request: done, or why not."""

    done: bool
    text: str
