"""The plain Python model: what the ledger should hold, told as simply as the design tells it.

Nothing here is incremental or clever: groups are found by looking at all jobs, retention by looking at all times.
Two things it does not foretell. Which of several parked jobs is released: `adopt` takes the ledger's choice and checks
that it was allowed, `assert_nobody_waits_in_vain` that none was left out. And when a parked job that lost its purpose
becomes superseded, since a script visits only so much of a large group: `adopt` checks that it had lost its purpose,
`assert_nobody_waits_in_vain` that a group with such jobs is noted as unfinished.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.model.snapshot import Snapshot
from tiercast.ledger.states import JobState

SOURCE = "s"
LEASE = 30_000
KEEP = 7 * 86_400_000
KEEP_DEAD = 30 * 86_400_000
ENDED = 5
DAY = 86_400_000
#: Days that an event is recognised after it was last seen.
MARK_DAYS = 30
#: The most members that have lost their lease twice and are claimed at once.
TOGETHER = 16

FINAL = frozenset(str(state) for state in JobState if state.final)
NEED_OPERATOR = frozenset(str(state) for state in JobState if state.needs_operator)

#: The actions: whether their jobs have an order group and a once group. Those with a once group are not repeatable.
ACTIONS = {"plain": (False, False), "latest": (True, False), "once": (False, True), "both": (True, True)}
JOB_LANES = {action: f"jobs/{action}" for action in ACTIONS}
DELIVERY_LANE = f"deliveries/{SOURCE}"
LANES = (DELIVERY_LANE, *JOB_LANES.values())


@dataclass(frozen=True, slots=True)
class Fact:
    """What an event says, the same in each of its copies: its id, when, and its groups."""

    event: str
    created: int
    order: str
    once: str


@dataclass(slots=True)
class Member:
    """What can stand in a lane: `due` while it waits there, `token` and `ends` while it is held."""

    due: int | None = None
    token: str | None = None
    ends: int = 0
    first_due: int = 0
    expiries: int = 0

    def owe(self, due: int) -> None:
        self.due, self.token = due, None

    def lend(self, token: str, now: int) -> None:
        assert self.due is not None
        self.first_due, self.due, self.token, self.ends = self.due, None, token, now + LEASE

    def let_go(self) -> int:
        self.token = None
        return self.first_due

    def out(self) -> None:
        self.due, self.token, self.expiries = None, None, 0


@dataclass(slots=True, kw_only=True)
class Delivery(Member):
    id: str
    fact: Fact
    state: str = "queued"
    again: int = 0
    first: str | None = None
    jobs: list[str] = field(default_factory=list)
    changed: int = 0
    #: When it was filed and stayed, since a job of it keeps a place; None where that is not so, or no longer.
    stayed: int | None = None
    round: int = 0

    @property
    def queued(self) -> bool:
        return self.due is not None or self.token is not None


@dataclass(slots=True, kw_only=True)
class Job(Member):
    key: str
    action: str
    order: str | None
    once: str | None
    created: int
    arrival: str
    state: str = "parked"
    attempts: int = 0
    before: int = 0
    effect_possible_ms: int | None = None
    changed: int = 0
    effects: int = 0
    by_plan: bool = False

    @property
    def effect_possible(self) -> bool:
        """Whether an attempt may have had its effect."""
        return self.effect_possible_ms is not None

    @property
    def keeps(self) -> bool:
        """Whether it is settled and yet may have had its effect."""
        return self.state == "uncertain" or (self.state == "dead" and self.effect_possible)

    @property
    def rank(self) -> tuple[int, str]:
        return self.created, self.arrival


class World:
    """The ledger's contents, and what happened in the world outside."""

    def __init__(self, now: int, *, keep: int = KEEP, keep_dead: int = KEEP_DEAD) -> None:
        self.now = now
        self.keep, self.keep_dead = keep, keep_dead
        self.deliveries: dict[str, Delivery] = {}
        self.jobs: dict[str, Job] = {}
        #: Event -> the delivery that told it first, and the day of its last sight.
        self.marks: dict[str, tuple[str, int]] = {}
        #: What is filed by now, as it was then, by delivery; whether there is a history at all.
        self.filed: dict[str, tuple[Delivery, list[Job]]] = {}
        self.files = False
        self.paused: set[str] = set()
        self.hold_until: dict[str, int] = {}
        self.taken: dict[tuple[str, str], str] = {}
        self.newest: dict[tuple[str, str], tuple[int, str]] = {}
        self.effects_once: dict[tuple[str, str], int] = {}
        self.effects_order: dict[tuple[str, str], int] = {}

    # --- lanes

    def members(self, lane: str) -> Iterator[tuple[str, Member]]:
        """All that stand in a lane, with their names."""
        if lane == DELIVERY_LANE:
            yield from ((d.id, d) for d in self.deliveries.values() if d.queued)
        else:
            action = lane.removeprefix("jobs/")
            yield from ((j.key, j) for j in self.jobs.values() if j.action == action and j.state == "owed")

    def sweep(self, lane: str) -> None:
        """Ended leases: back to their place, or poison."""
        for _, member in list(self.members(lane)):
            if member.token is None or member.ends > self.now:
                continue
            member.owe(member.first_due)
            member.expiries += 1
            if isinstance(member, Job):
                member.effect_possible_ms = self.now
                member.attempts += 1
            if member.expiries < ENDED:
                continue
            if isinstance(member, Job):
                self.finish(member, "dead")
            elif isinstance(member, Delivery):
                self.settle_delivery(member, "quarantined")

    def hold(self, lane: str, ms: int) -> None:
        """Hold a lane; of two holds the later one stays."""
        self.hold_until[lane] = max(self.hold_until.get(lane, 0), self.now + ms)

    def needs_isolation(self, lane: str) -> bool:
        """Whether a due member has lost its lease twice or more."""
        return any(m.due is not None and m.due <= self.now and m.expiries > 1 for _, m in self.members(lane))

    def claim(
        self, lane: str, token: str, n: int, *, cap: int | None = None, redelivered: int = 16, isolated: bool = False
    ) -> list[str]:
        """Hand out what is due; returns the names in the order in which they are claimed."""
        self.sweep(lane)
        members = dict(self.members(lane))
        if lane in self.paused or self.hold_until.get(lane, 0) > self.now:
            return []
        self.hold_until.pop(lane, None)
        held = sum(m.token is not None for m in members.values())
        room = n if cap is None else cap - held
        n = max(0, min(n, room, TOGETHER if isolated else n))
        due = sorted((m.due, name) for name, m in members.items() if m.due is not None and m.due <= self.now)
        # A member that was redelivered waits for its turn in the lane, too: it is looked for among the first only.
        seen = [name for _, name in due[: n + 1 + sum(m.expiries > 0 for m in members.values())]]
        if isolated:
            twice = [name for name in seen if members[name].expiries == 2]
            suspect = next((name for name in seen if members[name].expiries > 1), None)
            claimed = [suspect] if suspect and members[suspect].expiries > 2 else twice
        else:
            once = [name for name in seen if members[name].expiries == 1][:redelivered]
            claimed = [name for name in seen if members[name].expiries == 0 or name in once]
        claimed = claimed[:n]
        if cap is not None and not isolated:
            # Of the places, up to a half is left to what needs isolation and is due.
            waiting = sum(members[name].expiries > 1 for name in seen)
            claimed = claimed[: max(0, room - min(waiting, max(1, cap // 2)))]
        for name in claimed:
            members[name].lend(token, self.now)
        return claimed

    def held_under(self, lane: str, token: str) -> set[str]:
        return {name for name, member in self.members(lane) if member.token == token}

    # --- deliveries

    def record(self, id_: str, fact: Fact, due: int) -> None:
        if id_ not in self.deliveries:
            self.deliveries[id_] = Delivery(id=id_, fact=fact, due=min(due, self.now))

    def settle_delivery(self, delivery: Delivery, state: str) -> None:
        delivery.state, delivery.again, delivery.first, delivery.changed = state, 0, None, self.now
        delivery.out()

    def process(self, delivery: Delivery, actions: Iterable[tuple[str, bool]]) -> str:
        """Record an event with its jobs: (action, whether it is to be skipped)."""
        fact, again = delivery.fact, delivery.again
        today = self.now // DAY
        first, seen = self.marks.get(fact.event, (None, today))
        if first is not None and first != delivery.id and today - seen <= MARK_DAYS and not delivery.jobs:
            self.marks[fact.event] = first, today
            self.settle_delivery(delivery, "duplicate")
            delivery.first = first
            return "duplicate"
        self.marks[fact.event] = delivery.id, today
        self.settle_delivery(delivery, "processed")
        for action, skipped in actions:
            self._add_job(delivery, action, again, skipped=skipped)
        return "processed"

    def _add_job(self, delivery: Delivery, action: str, again: int, *, skipped: bool) -> None:
        key, name, rounds = f"{SOURCE}:{delivery.fact.event}:{action}", action, 1
        while again == 2 and (known := self.jobs.get(self._round(key, rounds))) and known.state == "done":
            rounds += 1
        if rounds > 1:
            key, name = self._round(key, rounds), self._round(action, rounds)
        if key in self.jobs:
            return
        ordered, once = ACTIONS[action]
        fact = delivery.fact
        job = self.jobs[key] = Job(
            key=key,
            action=action,
            order=fact.order if ordered else None,
            once=fact.once if once and rounds == 1 else None,
            created=fact.created,
            arrival=delivery.id,
        )
        delivery.jobs.append(name)
        if skipped:
            job.by_plan = True
            self._set(job, "skipped")
        else:
            self.enter(job)

    @staticmethod
    def _round(text: str, number: int) -> str:
        return text if number == 1 else f"{text}:r{number}"

    def family(self, delivery: Delivery) -> list[Job]:
        return [self.jobs[f"{SOURCE}:{delivery.fact.event}:{name}"] for name in delivery.jobs]

    def leaves_at(self, delivery: Delivery) -> int | None:
        """When a delivery's retention is over; None while anything of it is open."""
        family = self.family(delivery)
        if delivery.queued or any(job.state not in FINAL for job in family):
            return None
        if self.files:
            return None if delivery.stayed is None else delivery.stayed + self.keep_dead
        bad = delivery.state == "quarantined" or any(job.state in NEED_OPERATOR for job in family)
        last = max([delivery.changed, *(job.changed for job in family)])
        return last + (self.keep_dead if bad else self.keep)

    def trim(self, most: int) -> int:
        times = [(at, d.id) for d in self.deliveries.values() if (at := self.leaves_at(d)) is not None]
        gone = sorted(pair for pair in times if pair[0] <= self.now)[:most]
        for _, id_ in gone:
            for job in self.family(self.deliveries[id_]):
                if job.keeps:
                    self._reserve(job)
            self._leave(self.deliveries[id_])
        return len(gone)

    def _leave(self, delivery: Delivery) -> None:
        family = self.family(delivery)
        for job in family:
            del self.jobs[job.key]
        del self.deliveries[delivery.id]
        if self.files:
            self.filed[delivery.id] = delivery, family

    # --- the history

    def to_file(self, delivery: Delivery) -> bool:
        """Whether nothing of a delivery can change by itself, and it is not filed as it is."""
        settled = all(job.state in FINAL and job.state != "uncertain" for job in self.family(delivery))
        return not delivery.queued and settled and delivery.stayed is None

    def let_go(self, delivery: Delivery) -> None:
        """It is in the history."""
        if any(job.state == "dead" and job.keeps and (job.order or job.once) for job in self.family(delivery)):
            delivery.stayed = self.now
        else:
            self._leave(delivery)

    def bring_back(self, id_: str) -> None:
        """It is in the ledger again, as it was filed."""
        delivery, family = self.filed.pop(id_)
        delivery.round, delivery.stayed = delivery.round + 1, None
        self.deliveries[id_] = delivery
        for job in family:
            self.jobs[job.key] = job

    # --- jobs

    def group(self, job: Job, kind: str) -> list[Job]:
        """The other jobs of its order or once group."""
        name = getattr(job, kind)
        if name is None:
            return []
        return [
            other
            for other in self.jobs.values()
            if other is not job and other.action == job.action and getattr(other, kind) == name
        ]

    def _set(self, job: Job, state: str) -> None:
        if job.state in FINAL:
            self.deliveries[job.arrival].stayed = None
        if state in FINAL or state == "parked":
            job.out()
        job.state, job.changed = state, self.now

    def stand(self, job: Job) -> None:
        self._set(job, "owed")
        job.owe(self.now)

    def enter(self, job: Job) -> None:
        """A job finds its place; one of a group is released by `adopt`, if at all."""
        if self._is_superseded(job):
            self._set(job, "superseded")
        elif job.order is None and job.once is None:
            self.stand(job)
        else:
            self._set(job, "parked")

    def _is_superseded(self, job: Job) -> bool:
        if job.once is not None and (job.action, job.once) in self.taken:
            return True
        newest = self.newest.get((job.action, job.order)) if job.order is not None else None
        return newest is not None and job.rank < newest

    def finish(self, job: Job, state: str) -> None:
        self._set(job, state)
        if state == "done":
            self._reserve(job)

    def _reserve(self, job: Job) -> None:
        """An effect that happened, or may have: it takes the once place for ever, and older ones lose their point."""
        if job.once is not None:
            self.taken[job.action, job.once] = job.key
        if job.order is not None:
            name = (job.action, job.order)
            self.newest[name] = max(self.newest.get(name, job.rank), job.rank)

    def settle(self, job: Job, verdict: str, *, wait: int, effect_possible: bool | None) -> None:
        due = job.let_go()
        if verdict == "released":
            job.owe(due)
            return
        job.attempts += 1
        if effect_possible is not None:
            job.effect_possible_ms = self.now if effect_possible else None
        if verdict == "later":
            job.owe(self.now + wait)
        else:
            self.finish(job, verdict)

    def retry(self, job: Job) -> bool:
        """An operator's retry; says whether it is allowed."""
        if job.state == "owed":
            if job.token is None:
                job.owe(self.now)
                return True
            return False
        if job.by_plan or job.state not in ("dead", "skipped", "superseded"):
            return False
        if job.keeps and job.once is not None and job.order is not None:
            # It keeps the once place while it is asked for again, so it stands at once or not at all.
            order = self.group(job, "order")
            if self._is_superseded(job) or self._is_barred(job) or any(other.state == "owed" for other in order):
                return False
            job.before = job.attempts
            self.stand(job)
            return True
        self.start_over(job)
        return True

    def start_over(self, job: Job) -> None:
        job.before = job.attempts
        self.enter(job)

    # --- who may be released

    def may_stand(self, job: Job) -> bool:
        """Whether a parked job's places are free and its turn has come."""
        order, once = self.group(job, "order"), self.group(job, "once")
        if self._is_superseded(job) or any(other.state == "owed" for other in order):
            return False
        if any(other.state == "owed" or other.keeps for other in once):
            return False
        if self._is_barred(job):
            return False
        waiting = [
            other
            for other in order
            if other.state == "parked" and not self._is_barred(other) and not self._is_superseded(other)
        ]
        return not any(self._goes_before(other, job) for other in waiting)

    def _is_barred(self, job: Job) -> bool:
        """Whether a newer one of its order group may have had its effect."""
        return any(other.keeps and other.rank > job.rank for other in self.group(job, "order"))

    @staticmethod
    def _goes_before(other: Job, job: Job) -> bool:
        return (-other.created, other.arrival, other.key) < (-job.created, job.arrival, job.key)

    def adopt(self, found: Snapshot, *, strict: bool) -> None:
        """Take over what the ledger did with parked jobs; `strict` unless several plans came in one step."""
        parked = [job for job in self.jobs.values() if job.state == "parked"]
        states = {job.key: found.hash("j", job.key).get("s") for job in parked}
        for job in parked:
            if states[job.key] == "superseded":
                assert self._is_superseded(job), f"{job.key} was superseded by nothing"
                self._set(job, "superseded")
        for job in parked:
            if states[job.key] != "owed":
                continue
            if strict:
                assert self.may_stand(job), f"{job.key} was released out of turn"
            job.state, job.changed = "owed", self.now
            job.owe(self.now)

    def assert_nobody_waits_in_vain(self, unfinished: set[str]) -> None:
        """Check that whoever may stand does, and that who lost their purpose is superseded.

        `unfinished` are groups that the ledger has noted to go on with.
        """
        for job in self.jobs.values():
            if job.state != "parked":
                continue
            if self._is_superseded(job):
                assert self._groups_of(job) & unfinished, f"{job.key} lost its purpose, and no script will look at it"
            elif self.may_stand(job):
                before = [other for other in self.group(job, "order") if other.state == "parked"]
                groups = self._groups_of(job).union(*(self._groups_of(o) for o in before if self._is_superseded(o)))
                assert groups & unfinished, f"{job.key} is parked though it may stand"

    @staticmethod
    def _groups_of(job: Job) -> set[str]:
        order = {f"o:{job.action}:{job.order}"} if job.order is not None else set()
        return order | ({f"c:{job.action}:{job.once}"} if job.once is not None else set())

    # --- the world outside

    def effect(self, job: Job) -> None:
        """The action's effect happens; the promises about it are checked here."""
        job.effects += 1
        if job.order is not None:
            name = (job.action, job.order)
            assert job.created >= self.effects_order.get(name, 0), f"{job.key} overwrote a newer one"
            self.effects_order[name] = job.created
        if job.once is not None:
            group = (job.action, job.once)
            self.effects_once[group] = self.effects_once.get(group, 0) + 1
            assert self.effects_once[group] == 1, f"{job.key} was paid again"

    def happened(self, job: Job) -> bool:
        """What `confirm` would find under the job's key (the once key where there is one)."""
        return self.effects_once.get((job.action, job.once), 0) > 0 if job.once is not None else job.effects > 0
