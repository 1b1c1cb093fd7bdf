"""Random interleavings of all that receivers, workers, operators and time do to a ledger.

Every rule does one thing to the ledger and the same thing to the plain model (world.py); after each, everything
that the ledger holds is compared with the model, and recounted by itself (invariants.py).

A worker here forgets what it held (crash), is late (it settles under a token whose lease has expired), loses replies
(calls are made twice), and keeps the worker's contract: no effect after its lease ended; a kind that is not
repeatable is asked to confirm before an effect that may have happened already. The operator is truthful: what
happened is not dropped, and not resolved as "it did not".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.filing import Shelf
from tests.model import invariants
from tests.model.snapshot import Snapshot, take_snapshot
from tests.model.world import (
    ACTIONS,
    DELIVERY_LANE,
    LANES,
    NEED_OPERATOR,
    SOURCE,
    Delivery,
    Fact,
    Job,
    World,
)
from tiercast.history.rows import FiledDelivery
from tiercast.ledger import Ledger
from tiercast.ledger.client import LedgerClient
from tiercast.ledger.filing import HeldFiling, Released, bring_back, exchange_history, start_filing
from tiercast.ledger.model import Claim, DeliveryState, Hold, Outcome, Plan, PlannedJob

START = 1_790_000_000_000
PREFIX = "m"

_MOST_EVENTS = 7
_MOST_DELIVERIES = 24
#: Steps of an example before all is worked off; too often, and nothing interesting is ever left.
_STEPS_BEFORE_THE_END = 25
_SECOND, _DAY = 1000, 86_400_000


@dataclass(slots=True, eq=False)
class Hand:
    """What a worker believes that it holds. `tried` is what came of its effect, if it got that far."""

    lane: str
    member: str
    token: str
    ends: int
    effect_possible: bool = False
    tried: str | None = None


def planned(fact: Fact, action: str, *, skipped: bool) -> PlannedJob:
    """The job that an event leads to, with the groups that the action has."""
    ordered, once = ACTIONS[action]
    return PlannedJob(
        action=action,
        order=fact.order if ordered else None,
        once=fact.once if once else None,
        skipped="not wanted" if skipped else None,
    )


class LedgerMachine(RuleBasedStateMachine):
    """The ledger on a real server with a clock that the machine sets, beside the plain model."""

    def __init__(self, client: LedgerClient) -> None:
        super().__init__()
        self.client = client
        client.flushall()
        self.ledger = Ledger(client, prefix=PREFIX, test_clock=True)
        self.world = World(START)
        self.unfinished: set[str] = set()
        self.client.set(f"{PREFIX}:clock", START)
        self.facts: list[Fact] = []
        self.hands: list[Hand] = []
        self.claims: dict[str, tuple[str, bool]] = {}
        self.numbers = 0
        self.strict = True
        self.steps = 0
        self.shelf = Shelf()
        #: What filers believe that they hold, what they ever wrote, and who holds what until when, in which round.
        self.filers: list[HeldFiling] = []
        self.written: list[HeldFiling] = []
        self.filing: dict[str, tuple[str, int, int]] = {}

    # --- pieces

    def _token(self) -> str:
        self.numbers += 1
        return f"t{self.numbers}"

    def _twice(self, call: Callable[[], Any], *, lost: bool) -> Any:
        """Make a call; where its reply is lost, once more. Returns the first reply."""
        answer = call()
        if lost:
            call()
        return answer

    def _pass(self, ms: int) -> None:
        self.world.now += ms
        self.client.set(f"{PREFIX}:clock", self.world.now)

    def _live(self, *, jobs: bool) -> list[Hand]:
        return [hand for hand in self.hands if (hand.lane != DELIVERY_LANE) == jobs]

    def _valid(self, hand: Hand) -> bool:
        return hand.member in self.world.held_under(hand.lane, hand.token)

    # --- receivers

    @initialize(
        seeds=st.lists(
            st.tuples(st.sampled_from((10, 20, 20, 30)), st.sampled_from("gh"), st.sampled_from("kl")),
            min_size=_MOST_EVENTS,
            max_size=_MOST_EVENTS,
        ),
        read=st.integers(0, _MOST_EVENTS),
        # How many members of its groups a script visits: with few, all groups are large ones.
        budget=st.sampled_from((1, 2, 3, 300)),
        days=st.sampled_from(((7, 30), (3, 11), (30, 7), (1, 1))),
        files=st.booleans(),
    )
    def know_events(
        self, seeds: list[tuple[int, str, str]], read: int, budget: int, days: tuple[int, int], files: bool
    ) -> None:
        keep, keep_dead = days
        self.world.files = files
        self.client.set(f"{PREFIX}:budget", budget)
        self.ledger = Ledger(
            self.client, prefix=PREFIX, test_clock=True, keep=keep * 86400, keep_dead=keep_dead * 86400
        )
        self.world.keep, self.world.keep_dead = keep * _DAY, keep_dead * _DAY
        if files:
            start_filing(self.ledger)
        self.facts = [Fact(f"e{i}", *seed) for i, seed in enumerate(seeds)]
        for which in range(read):
            self._record(which, 1, self.world.now)
            self._succeed(DELIVERY_LANE, self._claim(DELIVERY_LANE, 1))

    @precondition(lambda self: len(self.world.deliveries) < _MOST_DELIVERIES)
    @rule(which=st.integers(0, _MOST_EVENTS - 1), copies=st.integers(1, 3), late=st.booleans(), lost=st.booleans())
    def record(self, which: int, copies: int, late: bool, lost: bool) -> None:
        self._record(which, copies, self.world.now - 5 * _SECOND if late else self.world.now, lost=lost)

    def _record(self, which: int, copies: int, due: int, *, lost: bool = False) -> None:
        batch = []
        for _ in range(copies):
            self.numbers += 1
            # Not in the order of time: events overtake one another on their way in.
            id_ = f"{self.numbers * 7 % 16:08x}-0000-7000-8000-{self.numbers:012x}"
            batch.append((SOURCE, id_, f"body {id_}".encode()))
            self.world.record(id_, self.facts[which], due)
        self._twice(lambda: self.ledger.record(batch, due_ms=[due] * copies), lost=lost)

    # --- workers: claiming

    def _busy(self) -> list[str]:
        """The lanes that somebody stands in."""
        return [lane for lane in LANES if any(True for _ in self.world.members(lane))]

    @precondition(lambda self: self._busy())
    @rule(
        data=st.data(),
        n=st.integers(0, 4),
        cap=st.sampled_from((None, None, 1, 2)),
        redelivered=st.sampled_from((1, 2, 16)),
        heard=st.booleans(),
        lost=st.booleans(),
    )
    def claim(self, data: st.DataObject, n: int, cap: int | None, redelivered: int, heard: bool, lost: bool) -> None:
        lane = data.draw(st.sampled_from(self._busy()), label="lane")
        isolated = n > 0 and self._asks_isolated(lane, data)
        self._claim(lane, n, cap=cap, redelivered=redelivered, isolated=isolated, heard=heard, lost=lost)

    def _asks_isolated(self, lane: str, data: st.DataObject) -> bool:
        """Whether a claim is an isolated process's; drawn only where that makes a difference."""
        return any(member.expiries > 1 for _, member in self.world.members(lane)) and data.draw(st.booleans())

    def _claim(
        self,
        lane: str,
        n: int,
        *,
        cap: int | None = None,
        redelivered: int = 16,
        isolated: bool = False,
        heard: bool = False,
        lost: bool = False,
    ) -> list[Hand]:
        token = self._token()
        request = Claim(token=token, n=n, cap=cap, redelivered=redelivered, isolated=isolated, heard=heard)
        exchange = self._call(lane, [], request)
        # What the same step released can be claimed in it.
        self.world.sweep(lane)
        self._adopt()
        needs_isolation = self.world.needs_isolation(lane)
        expected = self.world.claim(lane, token, n, cap=cap, redelivered=redelivered, isolated=isolated)
        assert not exchange.isolated or needs_isolation, f"{lane}: nothing that is due needs isolation"
        claimed = self._check_claimed(lane, exchange.claimed, expected)
        if lost and claimed:
            again = self._call(lane, [], request)
            assert sorted(map(_name, again.claimed)) == sorted(expected), "a repeated claim returned others"
        self.claims[token] = (lane, bool(claimed))
        self.hands += claimed
        return claimed

    def _call(self, lane: str, settle: list[Any], claim: Claim | None) -> Any:
        if lane == DELIVERY_LANE:
            return self.ledger.exchange_deliveries(SOURCE, settle, claim)
        return self.ledger.exchange_jobs(lane, settle, claim)

    def _check_claimed(self, lane: str, claimed: list[Any], expected: list[str]) -> list[Hand]:
        assert list(map(_name, claimed)) == expected, "claimed others than expected"
        hands = []
        for held in claimed:
            if lane == DELIVERY_LANE:
                delivery = self.world.deliveries[held.id]
                assert held.body == f"body {held.id}".encode()
                assert (held.again, held.expiries) == (delivery.again, delivery.expiries)
                hands.append(Hand(lane, held.id, held.token, delivery.ends))
            else:
                job = self.world.jobs[held.key]
                assert job.state == "owed", f"{job.key} was claimed though it is {job.state}"
                assert (held.attempts, held.tries) == (job.attempts, job.attempts - job.before)
                assert (held.effect_possible, held.expiries, held.once) == (job.effect_possible, job.expiries, job.once)
                since = None if job.effect_possible_ms is None else (self.world.now - job.effect_possible_ms) / 1000
                assert held.since == since
                assert (held.created_us, held.delivery) == job.rank
                assert held.body == f"body {job.arrival}".encode()
                hands.append(Hand(lane, held.key, held.token, job.ends, effect_possible=job.effect_possible))
        return hands

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), what=st.sampled_from(("claim again", "renew", "crash", "freeze")))
    def something_odd(self, data: st.DataObject, what: str) -> None:
        odd = {
            "claim again": self._repeat_an_old_claim,
            "renew": self._renew,
            "crash": self._crash,
            "freeze": self._freeze,
        }
        odd[what](data)

    def _freeze(self, data: st.DataObject) -> None:
        """A worker stops for longer than its lease; another takes its work up, and then the first one goes on."""
        hand = data.draw(st.sampled_from(self.hands))
        self._pass(31 * _SECOND)
        self._claim(hand.lane, 1, isolated=self._asks_isolated(hand.lane, data))
        if hand.lane == DELIVERY_LANE:
            self._read([hand], data, lost=False, then_claim=False)
        else:
            self._settle(hand.lane, [hand], [self._outcome(hand, data)], lost=False, claim=0)

    def _repeat_an_old_claim(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from([token for token, (_, claimed) in self.claims.items() if claimed]))
        lane = self.claims[token][0]
        exchange = self._call(lane, [], Claim(token=token, n=3))
        self.world.sweep(lane)
        assert set(map(_name, exchange.claimed)) == self.world.held_under(lane, token)

    def _renew(self, data: st.DataObject) -> None:
        hand = data.draw(st.sampled_from(self.hands))
        kept = self.ledger.renew(hand.lane, [(hand.member, hand.token)])
        member = dict(self.world.members(hand.lane)).get(hand.member)
        ours = member is not None and member.token == hand.token and member.ends > self.world.now
        assert kept == [ours]
        if ours and member is not None:
            member.ends = hand.ends = self.world.now + 30 * _SECOND

    def _crash(self, data: st.DataObject) -> None:
        self.hands.remove(data.draw(st.sampled_from(self.hands)))

    def _adopt(self) -> None:
        self.world.adopt(take_snapshot(self.client, PREFIX), strict=True)

    # --- workers: deliveries

    @precondition(lambda self: DELIVERY_LANE in self._busy())
    @rule(data=st.data(), n=st.integers(1, 3))
    def read_some(self, data: st.DataObject, n: int) -> None:
        if hands := self._claim(DELIVERY_LANE, n):
            self._read(hands[:2], data, lost=False, then_claim=False)

    @precondition(lambda self: self._live(jobs=False))
    @rule(data=st.data(), lost=st.booleans(), then_claim=st.booleans())
    def plan(self, data: st.DataObject, lost: bool, then_claim: bool) -> None:
        hands = data.draw(st.lists(st.sampled_from(self._live(jobs=False)), min_size=1, max_size=2, unique_by=id))
        self._read(hands, data, lost=lost, then_claim=then_claim)

    def _read(self, hands: list[Hand], data: st.DataObject, *, lost: bool, then_claim: bool) -> None:
        plans = [self._plan(hand, data) for hand in hands]
        expected = [state for plan in plans if (state := self._expect(plan))]
        claim = Claim(token=self._token(), n=1) if then_claim else None
        exchange = self._call(DELIVERY_LANE, plans, claim)
        assert exchange.settled == expected
        if claim:
            claimed = self.world.claim(DELIVERY_LANE, claim.token, 1)
            self.hands += self._check_claimed(DELIVERY_LANE, exchange.claimed, claimed)
            self.claims[claim.token] = (DELIVERY_LANE, bool(claimed))
        if lost:
            assert self._call(DELIVERY_LANE, plans, None).settled == []
        self.strict = len(plans) == 1
        for hand in hands:
            self.hands.remove(hand)

    def _plan(self, hand: Hand, data: st.DataObject) -> Plan:
        delivery = self.world.deliveries.get(hand.member)
        fact = delivery.fact if delivery else self.facts[0]
        states = ("processed", "processed", "processed", "ignored", "quarantined", "test")
        state = data.draw(st.sampled_from(states), label="state")
        actions: dict[str, bool] = {}
        if state == "processed":
            names = data.draw(st.sets(st.sampled_from(sorted(ACTIONS))), label="actions") or set(ACTIONS)
            actions = {name: data.draw(st.integers(0, 9), label="skipped at 9") == 9 for name in sorted(names)}
        return Plan(
            delivery=hand.member,
            token=hand.token,
            state=DeliveryState(state),
            event_id=fact.event,
            type="customer.loyalty.tier.joined",
            created_us=fact.created,
            customer=(f"customer-{fact.order}", f"alias-{fact.order}"),
            jobs=tuple(planned(fact, action, skipped=skipped) for action, skipped in sorted(actions.items())),
        )

    def _expect(self, plan: Plan) -> tuple[str, str, str] | None:
        if plan.delivery not in self.world.held_under(DELIVERY_LANE, plan.token):
            return None
        delivery = self.world.deliveries[plan.delivery]
        if plan.state == "processed":
            state = self.world.process(delivery, [(job.action, job.skipped is not None) for job in plan.jobs])
        else:
            state = str(plan.state)
            self.world.settle_delivery(delivery, state)
        return plan.delivery, state, delivery.first or ""

    # --- workers: jobs

    @precondition(lambda self: self._busy_with_jobs())
    @rule(data=st.data(), n=st.integers(1, 4), works=st.booleans())
    def work_some(self, data: st.DataObject, n: int, works: bool) -> None:
        """What a worker mostly does: claim, perform, settle."""
        lane = data.draw(st.sampled_from(self._busy_with_jobs()), label="lane")
        if hands := self._claim(lane, n, isolated=self._asks_isolated(lane, data)):
            for hand in hands:
                self._perform(hand, works=works)
            self._settle(lane, hands, [self._outcome(hand, data) for hand in hands], lost=False, claim=0)

    def _busy_with_jobs(self) -> list[str]:
        return [lane for lane in self._busy() if lane != DELIVERY_LANE]

    @precondition(lambda self: any(hand.tried is None for hand in self._live(jobs=True)))
    @rule(data=st.data(), works=st.booleans())
    def perform(self, data: st.DataObject, works: bool) -> None:
        """The effect, or a failure without one, under a lease that has not ended; not settled yet."""
        hand = data.draw(st.sampled_from([hand for hand in self._live(jobs=True) if hand.tried is None]))
        self._perform(hand, works=works)

    def _perform(self, hand: Hand, *, works: bool) -> None:
        if hand.ends <= self.world.now or not self._valid(hand):
            return
        job = self.world.jobs[hand.member]
        repeatable = not ACTIONS[job.action][1]
        if not repeatable and hand.effect_possible and self.world.happened(job):
            hand.tried = "confirmed"
        elif works:
            self.world.effect(job)
            hand.tried = "worked"
        else:
            hand.tried = "failed"

    @precondition(lambda self: self._live(jobs=True))
    @rule(data=st.data(), lost=st.booleans(), then_claim=st.booleans())
    def settle(self, data: st.DataObject, lost: bool, then_claim: bool) -> None:
        lane = data.draw(st.sampled_from(sorted({hand.lane for hand in self._live(jobs=True)})))
        ours = [hand for hand in self._live(jobs=True) if hand.lane == lane]
        hands = data.draw(st.lists(st.sampled_from(ours), min_size=1, max_size=3, unique_by=id))
        outcomes = [self._outcome(hand, data) for hand in hands]
        self._settle(lane, hands, outcomes, lost=lost, claim=1 if then_claim else 0)

    def _settle(self, lane: str, hands: list[Hand], outcomes: list[Outcome], *, lost: bool, claim: int) -> None:
        expected = []
        for hand, outcome in zip(hands, outcomes, strict=True):
            if self._valid(hand):
                wait = round((outcome.wait or 0) * 1000)
                self.world.settle(
                    self.world.jobs[hand.member], outcome.verdict, wait=wait, effect_possible=outcome.effect_possible
                )
                expected.append((hand.member, "", ""))
        request = Claim(token=self._token(), n=claim) if claim else None
        exchange = self._call(lane, outcomes, request)
        assert exchange.settled == expected
        # What was released by settling can be claimed in the same step.
        self._adopt()
        if request:
            claimed = self.world.claim(lane, request.token, claim)
            self.hands += self._check_claimed(lane, exchange.claimed, claimed)
            self.claims[request.token] = (lane, bool(claimed))
        if lost:
            assert self._call(lane, outcomes, None).settled == []
        for hand in hands:
            self.hands.remove(hand)

    def _outcome(self, hand: Hand, data: st.DataObject) -> Outcome:
        """A verdict that a truthful worker could give."""
        job = self.world.jobs.get(hand.member)
        unknown = [("later", True), ("dead", True), ("uncertain", True)]
        clean = [("later", False), ("skipped", None), ("dead", False), ("dead", None), ("later", None)]
        if hand.tried in ("worked", "confirmed"):
            choices: list[tuple[str, bool | None]] = [("done", None), ("done", None), *unknown]
        elif job is not None and self._happened(job):
            choices = [("later", None), ("dead", None), *unknown]
        else:
            choices = [*clean, *unknown]
        if hand.tried is None:
            choices = [("released", None), *choices]
        verdict, effect_possible = data.draw(st.sampled_from(choices), label="verdict")
        wait = data.draw(st.sampled_from((0.0, 10.0, 40.0))) if verdict == "later" else None
        duration = None if verdict == "released" else 0.01
        return Outcome(
            job=hand.member,
            token=hand.token,
            verdict=verdict,
            effect_possible=effect_possible,
            wait=wait,
            duration=duration,
            text="x",
        )

    # --- time

    @rule(ms=st.sampled_from((1, _SECOND, 10 * _SECOND, 29 * _SECOND, 31 * _SECOND)))
    def time_passes(self, ms: int) -> None:
        self._pass(ms)

    @precondition(lambda self: any(self.world.leaves_at(d) for d in self.world.deliveries.values()))
    @rule(days=st.sampled_from((0, 2, 4, 8, 12, 31)), most=st.integers(1, 9))
    def retention_ends(self, days: int, most: int) -> None:
        self._pass(days * _DAY)
        self._trim(most)

    @precondition(lambda self: self.unfinished)
    @rule()
    def trimmer_goes_on(self) -> None:
        self._trim(1)

    def _trim(self, most: int) -> None:
        count, _ = self.ledger.trim(most)
        gone = self.world.trim(most)
        self._check()
        assert count == (most if self.unfinished else gone)

    # --- operators

    @precondition(lambda self: self._busy())
    @rule(data=st.data(), how=st.sampled_from(("pause", "resume")))
    def pause_or_resume(self, data: st.DataObject, how: str) -> None:
        lane = data.draw(st.sampled_from(self._busy()), label="lane")
        if how == "resume":
            self._resume(lane)
        else:
            assert self.ledger.operate("pause", lane=lane, reason="tea")[0]
            self.world.paused.add(lane)

    def _without_effect(self) -> list[Hand]:
        """The jobs under way whose call, if there was one, had no effect."""
        return [hand for hand in self._live(jobs=True) if hand.tried in (None, "failed")]

    @precondition(lambda self: self._without_effect())
    @rule(data=st.data(), seconds=st.sampled_from((5, 40)))
    def hold(self, data: st.DataObject, seconds: int) -> None:
        """The vendor refuses a call for everybody: its job is released, and its lane is held."""
        hand = data.draw(st.sampled_from(self._without_effect()))
        outcome = Outcome(
            job=hand.member,
            token=hand.token,
            verdict="released",
            hold=Hold(seconds=seconds, cause="vendor", reason="429"),
        )
        if self._valid(hand):
            self.world.hold(hand.lane, seconds * _SECOND)
        self._settle(hand.lane, [hand], [outcome], lost=False, claim=0)

    @precondition(lambda self: self.world.paused)
    @rule()
    def resume_all(self) -> None:
        for lane in sorted(self.world.paused):
            self._resume(lane)

    def _resume(self, lane: str) -> None:
        assert self.ledger.operate("resume", lane=lane)[0]
        self.world.paused.discard(lane)
        self.world.hold_until.pop(lane, None)

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), verb=st.sampled_from(("retry", "drop", "resolve")))
    def decide(self, data: st.DataObject, verb: str) -> None:
        state = data.draw(st.sampled_from(sorted({job.state for job in self.world.jobs.values()})), label="state")
        jobs = sorted(key for key, job in self.world.jobs.items() if job.state == state)
        job = self.world.jobs[data.draw(st.sampled_from(jobs), label="job")]
        if verb == "drop":
            self._drop(job)
        elif verb == "resolve" or state == "uncertain":
            self._resolve(job, "done" if self._happened(job) else data.draw(st.sampled_from(("done", "retry"))))
        else:
            self._retry(job)

    def _happened(self, job: Job) -> bool:
        return job.effects > 0 or self.world.happened(job)

    def _retry(self, job: Job) -> None:
        assert self.ledger.operate("retry", job=job.key)[0] == self.world.retry(job)

    def _drop(self, job: Job) -> None:
        if self._happened(job):
            return
        allowed = job.state in ("parked", "dead", "uncertain") or (job.state == "owed" and job.token is None)
        assert self.ledger.operate("drop", job=job.key)[0] == allowed
        if allowed:
            self.world.finish(job, "skipped")

    def _resolve(self, job: Job, as_: str) -> None:
        allowed = job.state == "uncertain"
        assert self.ledger.operate("resolve", job=job.key, **{"as": as_})[0] == allowed
        if not allowed:
            return
        if as_ == "done":
            self.world.finish(job, "done")
        else:
            job.effect_possible_ms = None
            self.world.start_over(job)

    @precondition(lambda self: self.world.deliveries)
    @rule(data=st.data(), again=st.sampled_from((1, 2)), lost=st.booleans())
    def replay(self, data: st.DataObject, again: int, lost: bool) -> None:
        delivery = self.world.deliveries[data.draw(st.sampled_from(sorted(self.world.deliveries)))]
        allowed = self._may_replay(delivery)
        call = self._twice(lambda: self.ledger.operate("replay", delivery=delivery.id, again=again), lost=lost)
        assert call[0] == allowed
        if allowed:
            delivery.stayed = None
            delivery.again = max(delivery.again, again)
            if not delivery.queued:
                delivery.owe(self.world.now)

    @staticmethod
    def _may_replay(delivery: Delivery) -> bool:
        return delivery.state not in ("queued", "duplicate")

    # --- filers

    @precondition(lambda self: any(map(self.world.to_file, self.world.deliveries.values())))
    @rule(n=st.integers(1, 4), wait=st.sampled_from((0, 2, 31)), lost=st.booleans())
    def claim_to_file(self, n: int, wait: int, lost: bool) -> None:
        self._pass(wait * _SECOND)
        self._claim_to_file(n, lost=lost)

    def _claim_to_file(self, n: int, *, isolated: bool = False, lost: bool = False) -> list[HeldFiling]:
        if not self.world.files:
            return []
        request = Claim(token=self._token(), n=n, redelivered=n, isolated=isolated)
        held = self._twice(lambda: exchange_history(self.ledger, claim=request), lost=lost).claimed
        ends = self.world.now + 30 * _SECOND
        for one in held:
            delivery = self.world.deliveries[one.id]
            assert self.world.to_file(delivery), f"{one.id} is to be filed though it may change"
            _, until, round = self.filing.get(one.id, ("", 0, -1))
            # What changes meanwhile leaves its filer, and is filed as a newer round.
            assert until <= self.world.now or one.row.round > round, f"{one.id} was claimed by two filers"
            self.filing[one.id] = request.token, ends, one.row.round
            self._compare_row(one.row, delivery, self.world.family(delivery))
        self.filers += held
        return list(held)

    @precondition(lambda self: self.filers)
    @rule(data=st.data(), what=st.sampled_from(("write", "write", "let go", "crash", "release")), lost=st.booleans())
    def file(self, data: st.DataObject, what: str, lost: bool) -> None:
        """A filer writes to the history, or lets go of what is in it; or it dies between the two, or hands back."""
        held = data.draw(st.lists(st.sampled_from(self.filers), min_size=1, max_size=3, unique_by=id))
        if what == "write":
            self._write(held)
        elif what == "let go":
            self._let_go([one for one in held if any(one is other for other in self.written)], lost=lost)
        else:
            self.filers = [one for one in self.filers if not any(one is other for other in held)]
            if what == "release":
                released = [Released(id=one.id, token=one.token) for one in held]
                self._twice(lambda: exchange_history(self.ledger, released=released), lost=lost)
                for one in held:
                    if self._is_filing(one):
                        del self.filing[one.id]

    def _write(self, held: list[HeldFiling]) -> None:
        self.shelf.file([one.row for one in held])
        self.written += held

    def _is_filing(self, one: HeldFiling) -> bool:
        """Whether a delivery is still held by this filer: nobody else claimed it, and nothing of it has changed."""
        delivery = self.world.deliveries.get(one.id)
        known = self.filing.get(one.id, ("", 0, -1))[0] == one.token
        return known and delivery is not None and delivery.round == one.row.round and self.world.to_file(delivery)

    def _let_go(self, held: list[HeldFiling], *, lost: bool) -> None:
        expected = [one.id for one in held if self._is_filing(one)]
        assert self._twice(lambda: exchange_history(self.ledger, held), lost=lost).settled == expected
        for id_ in expected:
            delivery = self.world.deliveries[id_]
            del self.filing[id_]
            self._compare_filed(delivery, self.world.family(delivery))
            self.world.let_go(delivery)
        self.filers = [one for one in self.filers if not any(one is other for other in held)]

    def _file_all(self) -> None:
        while held := self._claim_to_file(9) + self._claim_to_file(9, isolated=True):
            self._write(held)
            self._let_go(held, lost=False)
            self._check()

    @precondition(lambda self: self.world.filed)
    @rule(data=st.data(), stale=st.booleans())
    def bring_back(self, data: st.DataObject, stale: bool) -> None:
        """An operator reads a row of the history, at once or long ago, and asks for it."""
        ids = sorted(self.world.filed)
        id_ = data.draw(st.sampled_from(ids))
        rows = [self._whole(self.shelf.deliveries[id_])]
        if stale:
            rows = [one.row for one in self.written if one.id == id_] or rows
        row = data.draw(st.sampled_from(rows))
        (answer,) = bring_back(self.ledger, [row])
        delivery, family = self.world.filed[id_]
        if any(job.key in self.world.jobs for job in family) and row.round == delivery.round:
            assert answer == "told again"
        elif row.round != delivery.round:
            assert answer == "stale"
        else:
            assert answer == "back"
            self.world.bring_back(id_)
            assert bring_back(self.ledger, [row]) == ["here"]

    def _whole(self, row: FiledDelivery) -> FiledDelivery:
        """A row with its jobs, as the history has them by now."""
        jobs = tuple(self.shelf.jobs[f"{SOURCE}:{row.event_id}:{name}"] for name in row.names)
        return replace(row, jobs=jobs)

    @staticmethod
    def _compare_row(row: FiledDelivery, delivery: Delivery, family: list[Job]) -> None:
        assert (row.state, row.settled_ms, row.round) == (delivery.state, delivery.changed, delivery.round)
        assert (row.first, row.names, row.body) == (delivery.first, tuple(delivery.jobs), f"body {row.id}".encode())
        rows = [(job.key, job.state, job.attempts, job.before, job.changed_ms, job.maybe_ms) for job in row.jobs]
        assert rows == [
            (job.key, job.state, job.attempts, job.before, job.changed, job.effect_possible_ms) for job in family
        ]

    def _compare_filed(self, delivery: Delivery, family: list[Job]) -> None:
        """The history holds a delivery as it is."""
        row = self.shelf.deliveries[delivery.id]
        self._compare_row(replace(row, jobs=tuple(self.shelf.jobs[job.key] for job in family)), delivery, family)

    # --- in the end

    @precondition(lambda self: self.steps > _STEPS_BEFORE_THE_END and self._busy())
    @rule()
    def everyone_works_until_nothing_is_owed(self) -> None:
        """All workers forget what they held; then all that the timer rings for succeeds, until it rings no more."""
        self.steps = 0
        self.hands.clear()
        for lane in LANES:
            self._resume(lane)
        self._pass(31 * _SECOND)
        for _ in range(60):
            self._check()
            if not any(True for lane in LANES for _ in self.world.members(lane)):
                break
            self._work_off(self.ledger.due(LANES).bells)
            self._check()
            while self.unfinished:
                self._trim(9)
            self._file_all()
            # Bells of all that are under way by now; the timer's next look is after them.
            self._pass(11 * _SECOND)
        self._check()
        for lane in LANES:
            assert not list(self.world.members(lane)), f"{lane} is never done"
        if self.world.files:
            self._pass(61 * _SECOND)
            self._file_all()
            assert not any(map(self.world.to_file, self.world.deliveries.values())), "what is settled is never filed"
        barred = {job.action for job in self.world.jobs.values() if job.keeps}
        for job in self.world.jobs.values():
            assert job.state != "parked" or job.action in barred, f"{job.key} waits for nobody"

    def _work_off(self, rung: list[str]) -> None:
        for lane in LANES:
            # A lease that ended makes its member due, too.
            due = [m for _, m in self.world.members(lane) if (m.ends if m.due is None else m.due) <= self.world.now]
            assert not due or lane in rung, f"{lane} has work and nobody rings for it"
        for lane in rung:
            for isolated in (False, True):
                while hands := self._claim(lane, 5, isolated=isolated, heard=True):
                    self._succeed(lane, hands)
                    self._check()

    def _succeed(self, lane: str, hands: list[Hand]) -> None:
        if lane != DELIVERY_LANE:
            for hand in hands:
                self._perform(hand, works=True)
            outcomes = [Outcome(job=h.member, token=h.token, verdict="done", duration=0.01) for h in hands]
            self._settle(lane, hands, outcomes, lost=False, claim=0)
            return
        for hand in hands:
            fact = self.world.deliveries[hand.member].fact
            plan = Plan(
                delivery=hand.member,
                token=hand.token,
                state=DeliveryState.PROCESSED,
                event_id=fact.event,
                type="customer.loyalty.tier.joined",
                created_us=fact.created,
                customer=(f"customer-{fact.order}", f"alias-{fact.order}"),
                jobs=tuple(planned(fact, action, skipped=False) for action in sorted(ACTIONS)),
            )
            expected = self._expect(plan)
            assert self._call(lane, [plan], None).settled == [expected]
            self.hands.remove(hand)
            self._check()

    # --- after every step

    @invariant()
    def ledger_and_model_agree(self) -> None:
        self.steps += 1
        self._check()

    def _check(self) -> None:
        found = take_snapshot(self.client, PREFIX)
        invariants.check(found, keep=self.world.keep, keep_dead=self.world.keep_dead)
        self.world.adopt(found, strict=self.strict)
        self.strict = True
        self.unfinished = set(found.hash("unfinished", ""))
        self.world.assert_nobody_waits_in_vain(self.unfinished)
        self._compare(found)

    def _compare(self, found: Snapshot) -> None:
        assert found.names("b") == set(self.world.deliveries), "deliveries on record"
        assert found.names("j") == set(self.world.jobs), "jobs on record"
        for lane in LANES:
            members = dict(self.world.members(lane))
            assert found.zset("due", lane) == {n: m.due for n, m in members.items() if m.due is not None}, lane
            held = {n: m for n, m in members.items() if m.token is not None}
            assert found.zset("held", lane) == {n: m.ends for n, m in held.items()}, lane
            leases = {n: f"{m.token} {m.first_due}" for n, m in held.items()}
            assert found.hash("lease", lane) == leases, lane
            assert found.hash("expiries", lane) == {n: str(m.expiries) for n, m in members.items() if m.expiries}, lane
        for delivery in self.world.deliveries.values():
            self._compare_delivery(found.hash("d", delivery.id), delivery)
        for job in self.world.jobs.values():
            self._compare_job(found.hash("j", job.key), job)
        assert {lane for lane in LANES if "paused" in found.hash("lane", lane)} == self.world.paused
        taken = {(action, once): key for action, f in found.hashes.get("once", {}).items() for once, key in f.items()}
        assert taken == self.world.taken, "once places"
        self._compare_open(found)
        newest = {f"o:{action}:{order}": f"{us} {d}" for (action, order), (us, d) in self.world.newest.items()}
        assert found.texts.get("n", {}) == newest, "the newest done of each order group"

    def _compare_open(self, found: Snapshot) -> None:
        deliveries = [*self.world.deliveries.values(), *(delivery for delivery, _ in self.world.filed.values())]
        jobs = [*self.world.jobs.values(), *(job for _, family in self.world.filed.values() for job in family)]
        expected = Counter(f"{job.state} {SOURCE} {job.action}" for job in jobs if job.state in NEED_OPERATOR)
        expected += Counter(f"quarantined {SOURCE}" for delivery in deliveries if delivery.state == "quarantined")
        assert {name: int(count) for name, count in found.hash("open", "").items()} == expected, "what is still open"

    @staticmethod
    def _compare_delivery(f: dict[str, str], delivery: Delivery) -> None:
        round = int(f.get("rd", 0))
        assert delivery.round <= round <= delivery.round + 1, f"{delivery.id}: round {round} after {delivery.round}"
        delivery.round = round
        state = f.get("s", "queued")
        assert state == delivery.state, delivery.id
        assert int(f.get("again", 0)) == delivery.again, delivery.id
        assert f.get("first") == delivery.first, delivery.id
        assert f.get("j", "").split() == delivery.jobs, delivery.id
        assert int(f.get("z", 0)) == delivery.changed, delivery.id

    @staticmethod
    def _compare_job(f: dict[str, str], job: Job) -> None:
        assert f["s"] == job.state, job.key
        assert (int(f["n"]), int(f.get("b", 0))) == (job.attempts, job.before), job.key
        assert (f.get("m") == "1", int(f["z"])) == (job.effect_possible, job.changed), job.key
        assert f["d"] == job.arrival, job.key
        assert ("og" not in f and "cg" not in f) or int(f["us"]) == job.created, job.key
        assert (f.get("og"), f.get("cg")) == (job.order, job.once), job.key


def _name(held: Any) -> str:
    return str(getattr(held, "id", None) or held.key)
