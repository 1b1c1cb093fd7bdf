"""Operations as operators see them: begin, cancel, continue, list, show, and what became of their members."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..control.actor import Actor
from ..control.audit import Note
from ..control.verbs import BULK_MAX_MEMBERS
from ..error_pattern import error_pattern
from ..errors import LedgerUnavailable, TiercastError
from ..ledger import keys
from ..ledger.model import Answer
from ..ledger.operations import changed_by, operation_fields, operation_ids
from ..ledger.reading import Reader
from ..ledger.states import DeliveryState, JobState, State
from ..ledger.store import Ledger
from ..queries.walk import Choice, Walk
from .model import BulkRequest, Counts, Operation, read_operation

if TYPE_CHECKING:
    from ..history.reading import Reading

#: How many members an estimate counts in one round trip, and shows as examples.
_PAGE = 500
_EXAMPLES = 10

#: How many members are looked at to say what became of them.
BECAME_MAX_MEMBERS = 100_000


class OperationRefused(TiercastError):
    """The operation was not begun; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What an operation would touch.

    `is_whole` says that all were counted; else there are more than `count`. `left_alone` counts those that the verb
    does not work on, by their state. `stopped` are lanes of theirs that stand still, with the reason. `seconds` is
    about how long performing them takes at the rates of their actions, by action; one without a rate is not in it.
    """

    count: int
    is_whole: bool
    counts: Counts
    examples: tuple[str, ...] = ()
    left_alone: Counter[str] = field(default_factory=Counter)
    stopped: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Became:
    """What became of the members that an operation changed, as they are now.

    `jobs` are those that replayed deliveries led to since, by state. `errors` counts the patterns of what is dead,
    uncertain or quarantined. `gone` are in neither ledger nor history. `is_whole` is False where it changed more than
    are looked at.
    """

    by_state: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    gone: int = 0
    is_whole: bool = True


class Operations:
    """The operations of a ledger.

    Args:
        ledger: where.
        reader: of that ledger.
        ring: told which lanes became due.
    """

    def __init__(self, ledger: Ledger, reader: Reader, ring: Callable[[Iterable[str]], None] = lambda _: None) -> None:
        self._ledger = ledger
        self._reader = reader
        self._ring = ring

    def begin(self, request: BulkRequest, actor: Actor, *, id: str | None = None) -> str:
        """Begin an operation; returns its id.

        Args:
            request: what to do. A customer's name in its filter is replaced by digests.
            actor: who asks.
            id: by `new_id`; the same again begins it once.

        Raises:
            OperationRefused: too many wait, or it names too many members.
        """
        if len(request.names) > BULK_MAX_MEMBERS:
            raise OperationRefused(f"An operation names at most {BULK_MAX_MEMBERS} members; choose more by a filter.")
        which = request.which
        if which.customer is not None:
            digests = self._reader.digests_of(which.customer, which.source)
            request = replace(request, which=replace(which, customer=None, customer_digests=digests))
        id = id or new_id()
        fields = request.as_fields() | {"by": actor.name, "from": actor.origin, "address": actor.address}
        note = Note(actor=actor, subject=request.subject, why=request.why, operation=id, request=id)
        audit = note.as_request(request.verb.name)
        member: dict[str, object] = {"op": id, "fields": fields, "audit": audit}
        try:
            answer = self._operate("begin", member)
        except LedgerUnavailable:
            # Its answer may have been lost; the same again begins nothing twice.
            answer = self._operate("begin", member)
        if not answer.done:
            raise OperationRefused(f"The operation was not begun: {answer.text}.")
        return id

    def cancel(self, id: str, actor: Actor, *, why: str = "") -> Answer:
        """End an operation; takes effect within 100 members. What was changed stays so."""
        return self._operate("cancel", {"op": id}, Note(actor=actor, subject=id, why=why, operation=id), "cancel")

    def go_on(self, id: str, actor: Actor, *, why: str = "") -> Answer:
        """Let an operation go on that was stopped; what was tried first counts as tried."""
        return self._operate("continue", {"op": id}, Note(actor=actor, subject=id, why=why, operation=id), "continue")

    def all(self) -> Iterator[Operation]:
        """All that are kept, newest first."""
        ids = operation_ids(self._ledger)
        for id, fields in zip(ids, operation_fields(self._ledger, ids), strict=True):
            if fields:
                yield read_operation(id, fields)

    def get(self, id: str) -> Operation | None:
        """One operation; None where there is none of that id."""
        (fields,) = operation_fields(self._ledger, [id])
        return read_operation(id, fields) if fields else None

    def became(self, operation: Operation, history: Reading | None = None) -> Became:
        """What became of the members that it changed: jobs, or deliveries and the jobs that their replays led to.

        Args:
            operation: the operation.
            history: where what was settled is filed; None where nothing was.
        """
        found = Became()
        look = self._jobs_now if operation.verb.is_of_jobs else self._deliveries_now
        looked = 0
        for names in changed_by(self._ledger, operation.id, _PAGE):
            if looked >= BECAME_MAX_MEMBERS:
                return replace(found, is_whole=False)
            found = replace(found, gone=found.gone + len(names) - look(operation, names, found, history))
            looked += len(names)
        whole = operation.done <= BECAME_MAX_MEMBERS
        return replace(found, is_whole=whole)

    def _jobs_now(self, _operation: Operation, names: Sequence[str], found: Became, history: Reading | None) -> int:
        """Count jobs as they are now; returns how many there are."""
        now = [(info.key, info.state, info.text) for info in self._reader.jobs_by_key(names)]
        if history and (left := set(names).difference(key for key, _, _ in now)):
            filed = (each.job for each in history.jobs_by_key(left))
            now += [(job.key, JobState(job.state), job.text) for job in filed]
        found.by_state.update(str(state) for _, state, _ in now)
        found.errors.update(_errors((state, text) for _, state, text in now))
        return len(now)

    def _deliveries_now(
        self, operation: Operation, names: Sequence[str], found: Became, history: Reading | None
    ) -> int:
        """Count deliveries as they are now, and what their jobs have become since the operation began."""
        infos = list(self._reader.by_id(names))
        deliveries = [(info.state, info.reason) for info in infos]
        keys_of_jobs = [key for info in infos for key in info.jobs]
        jobs = [(job.state, job.text, job.changed_ms) for job in self._reader.jobs_by_key(keys_of_jobs)]
        if history and (left := set(names).difference(info.id for info in infos)):
            for filed in history.by_id(left, bodies=False, jobs=True):
                deliveries.append((DeliveryState(filed.state), filed.reason))
                jobs += [(JobState(job.state), job.text, job.changed_ms) for job in filed.jobs]
        since = [(state, text) for state, text, changed_ms in jobs if changed_ms >= operation.created_ms]
        found.by_state.update(str(state) for state, _ in deliveries)
        found.jobs.update(str(state) for state, _ in since)
        found.errors.update(_errors([*deliveries, *since]))
        return len(deliveries)

    def estimate(
        self, request: BulkRequest, *, seconds: float = 5.0, rates: Mapping[str, float] = MappingProxyType({})
    ) -> Estimate:
        """Count what an operation would touch. Changes nothing.

        Args:
            request: what it would do.
            seconds: how long to count at the most.
            rates: how many jobs a second an action performs at the most, by its name.
        """
        walk, counts = Walk(self._reader), Counts()
        choice = request.choice(self._ledger.now_ms())
        deadline = time.monotonic() + seconds
        examples: list[str] = []
        left: Counter[str] = Counter()
        cursor, count, is_last = request.start, 0, False
        while not is_last and time.monotonic() < deadline:
            page = walk.page(choice, cursor, _PAGE)
            cursor, is_last = page.cursor, page.is_last
            count += len(page.chosen)
            counts.add(page.chosen)
            examples += [one.name for one in page.chosen[: _EXAMPLES - len(examples)]]
            left.update(one.state or "missing" for one in page.chosen if one.state not in request.verb.can)
        return Estimate(
            count=count, is_whole=is_last, counts=counts, examples=tuple(examples), left_alone=left,
            stopped=self._stopped(choice, counts), seconds=_lengths(request, counts, rates),
        )  # fmt: skip

    def _stopped(self, choice: Choice, counts: Counts) -> dict[str, str]:
        if not choice.of_jobs:
            return {}
        lanes = (self._reader.lane(keys.jobs_lane(action)) for action in counts.by_about)
        return {lane.name: lane.reason or lane.cause or "" for lane in lanes if lane.paused or lane.hold_until_ms}

    def _operate(self, verb: str, member: dict[str, object], note: Note | None = None, audited: str = "") -> Answer:
        audit = note.as_request(audited) if note else None
        (answer,), bells = self._ledger.operate_many(verb, [member], audit=audit)
        self._ring(bells)
        return answer


def _lengths(request: BulkRequest, counts: Counts, rates: Mapping[str, float]) -> dict[str, float]:
    """How long performing so many takes, by action, where an action or the operation has a rate."""
    if not (request.verb.is_of_jobs and request.verb.performs):
        return {}
    whole = sum(counts.by_about.values())
    found = {}
    for action, count in counts.by_about.items():
        # The operation's own rate is shared by all of its members.
        own = request.rate * count / whole if request.rate else None
        rate = min((each for each in (rates.get(action), own) if each), default=None)
        if rate:
            found[action] = count / rate
    return found


def _errors(found: Iterable[tuple[State, str | None]]) -> Iterator[str]:
    """The error patterns of what needs an operator."""
    return (error_pattern(text or "no reason on record") for state, text in found if state.needs_operator)


def new_id() -> str:
    """Make an operation's id: short enough to type, and sorted by time."""
    return f"op{int(time.time() * 1000):x}{secrets.token_hex(2)}"
