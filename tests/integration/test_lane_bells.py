"""Bells of a lane: rung when its work may start, one at a time, and not while a drain is about to claim anyway."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import redis

from tests.conftest import Clock
from tests.integration.test_ledger import SOURCE, claim, delivery_id, process, record
from tests.operators import ANN
from tiercast.control import Control
from tiercast.ledger import Ledger, new_token
from tiercast.ledger.model import Claim, DeliveryState, Exchange, HeldDelivery, HeldJob, Outcome, Plan, PlannedJob

DELIVERIES = f"deliveries/{SOURCE}"
MAIL = "jobs/mail"


def jobs(ledger: Ledger, *numbers: int) -> None:
    """Owe one job of the action `mail` for each number; bells are heard by nobody."""
    for number in numbers:
        process(ledger, f"e{number}", PlannedJob(action="mail"), number=number)


def ask(ledger: Ledger, n: int = 10, **more: object) -> Exchange[HeldJob]:
    return ledger.exchange_jobs(MAIL, claim=Claim(token=new_token(), n=n, **more))  # type: ignore[arg-type]


class Office:
    """Receivers and workers that do at random what receivers and workers do, and hear each bell some time later.

    It counts, per lane, the bells that stand in Celery's queue: rung and not heard yet.
    """

    LANES = (DELIVERIES, "jobs/mail", "jobs/crm", "jobs/log")

    def __init__(self, ledger: Ledger, clock: Clock, seed: int) -> None:
        self.ledger, self.clock = ledger, clock
        self.random = random.Random(seed)
        self.number = 0
        self.under_way: Counter[str] = Counter()
        self.rung: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.since: dict[str, int] = {}
        self.deliveries: list[HeldDelivery] = []
        self.jobs: dict[str, list[HeldJob]] = {lane: [] for lane in self.LANES[1:]}

    def note(self, bells: list[str]) -> None:
        for lane in bells:
            self.rung[lane] += 1
            self.under_way[lane] += 1
            self.since[lane] = self.clock.now
            self.most[lane] = max(self.most[lane], self.under_way[lane])

    def record(self) -> None:
        count = self.random.randint(1, 4)
        batch = [(SOURCE, delivery_id(self.number + i), b"{}") for i in range(count)]
        self.number += count
        self.note(self.ledger.record(batch).bells)

    def claim_for(self, lane: str, *, heard: bool) -> Claim:
        # A window or a process that is full claims nothing and passes the bell on.
        return Claim(
            token=new_token(),
            n=self.random.choice((0, 1, 3, 10)),
            cap=self.random.choice((None, 6)) if lane != DELIVERIES else None,
            heard=heard,
            claims_again_ms=self.random.choice((0, 40)),
        )

    def turn(self, lane: str, *, heard: bool = False) -> None:
        """One exchange of a drain: settle some of what is held, and claim, or only settle."""
        claim = self.claim_for(lane, heard=heard) if heard or self.random.random() < 0.8 else None
        if lane == DELIVERIES:
            count = self.random.randint(0, len(self.deliveries))
            plans = [self.plan(held) for held in self.deliveries[:count]]
            read = self.ledger.exchange_deliveries(SOURCE, plans, claim)
            self.deliveries = self.deliveries[count:] + read.claimed
            self.note(read.bells)
        else:
            held = self.jobs[lane]
            count = self.random.randint(0, len(held))
            worked = self.ledger.exchange_jobs(lane, [self.outcome(job) for job in held[:count]], claim)
            self.jobs[lane] = held[count:] + worked.claimed
            self.note(worked.bells)

    def plan(self, held: HeldDelivery) -> Plan:
        number = int(held.id[-12:], 16)
        actions = self.random.sample(("mail", "crm", "log"), self.random.randint(0, 3))
        return Plan(
            delivery=held.id,
            token=held.token,
            state=DeliveryState.PROCESSED,
            event_id=f"e{number}",
            type="x",
            created_us=number,
            jobs=tuple(PlannedJob(action=action, order=self.random.choice((None, "g"))) for action in actions),
        )

    def outcome(self, job: HeldJob) -> Outcome:
        verdict = self.random.choice(("done", "done", "later", "released", "dead"))
        return Outcome(
            job=job.key, token=job.token, verdict=verdict, wait=self.random.choice((0.0, 1.0)), duration=0.01
        )

    def hear(self) -> None:
        """A worker takes a bell from the queue; its lane's drain claims for it, as the first thing it does."""
        waiting = [lane for lane, count in self.under_way.items() if count]
        if waiting:
            lane = self.random.choice(waiting)
            self.under_way[lane] -= 1
            self.turn(lane, heard=True)

    def step(self) -> None:
        """One thing that happens; no bell waits in the queue for longer than a few seconds."""
        how = self.random.choice(("record", "record", "turn", "turn", "hear", "hear", "time"))
        if how == "record":
            self.record()
        elif how == "turn":
            self.turn(self.random.choice(self.LANES))
        elif how == "time":
            self.clock.pass_(self.random.choice((0.001, 0.02, 0.3, 1.0)))
        late = any(count and self.clock.now - self.since[lane] > 5000 for lane, count in self.under_way.items())
        if how == "hear" or late:
            self.hear()


class TestOneAtATime:
    @pytest.mark.parametrize("seed", range(5))
    def test_whatever_receivers_and_workers_do(self, timed: Ledger, clock: Clock, seed: int) -> None:
        office = Office(timed, clock, seed)
        for _ in range(1200):
            office.step()

        assert set(office.most.values()) == {1}, office.most
        assert all(office.rung[lane] > 20 for lane in office.LANES), office.rung

    def test_a_second_bell_is_rung_once_the_first_was_heard(self, timed: Ledger) -> None:
        assert record(timed, 1) == [DELIVERIES]
        assert record(timed, 2) == []
        timed.exchange_deliveries(SOURCE, claim=Claim(token="a", n=10, heard=True))
        assert record(timed, 3) == [DELIVERIES]

    def test_a_claim_that_no_bell_brought_leaves_the_bell_under_way(self, timed: Ledger) -> None:
        assert record(timed, 1) == [DELIVERIES]
        timed.exchange_deliveries(SOURCE, claim=Claim(token="a", n=10))
        assert record(timed, 2) == []

    def test_a_bell_that_nobody_heard_for_ten_seconds_counts_as_lost(self, timed: Ledger, clock: Clock) -> None:
        assert record(timed, 1) == [DELIVERIES]
        clock.pass_(9.9)
        assert record(timed, 2) == []
        clock.pass_(0.2)
        assert record(timed, 3) == [DELIVERIES]


class TestWhileADrainIsAtWork:
    def test_new_work_rings_no_bell_within_the_time_in_which_the_drain_claims_again(
        self, timed: Ledger, clock: Clock
    ) -> None:
        # Given a quick drain that has claimed all there is
        record(timed, 1)
        assert timed.exchange_deliveries(SOURCE, claim=Claim(token="a", n=10, heard=True, claims_again_ms=40)).claimed

        # Then what comes within 40 ms waits for it
        clock.pass_(0.039)
        assert record(timed, 2) == []
        assert timed.due([DELIVERIES]).bells == []
        # And what comes later does not: the drain may have died
        clock.pass_(0.002)
        assert record(timed, 3) == [DELIVERIES]

    def test_a_claim_that_finds_nothing_makes_the_next_record_ring(self, timed: Ledger, clock: Clock) -> None:
        record(timed, 1)
        timed.exchange_deliveries(SOURCE, claim=Claim(token="a", n=10, heard=True, claims_again_ms=40))
        clock.pass_(0.02)
        assert timed.exchange_deliveries(SOURCE, claim=Claim(token="b", n=10, claims_again_ms=40)).claimed == []
        assert record(timed, 2) == [DELIVERIES]

    def test_a_drain_that_is_slow_to_come_back_says_so_and_new_work_rings(self, timed: Ledger) -> None:
        record(timed, 1)
        timed.exchange_deliveries(SOURCE, claim=Claim(token="a", n=10, heard=True, claims_again_ms=0))
        assert record(timed, 2) == [DELIVERIES]

    def test_a_drain_that_died_with_work_left_is_rung_for_after_a_second(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 1, 2)
        clock.pass_(11)
        assert ask(timed, n=1, heard=True).more
        ask(timed, n=0, heard=True)
        clock.pass_(1.1)
        assert timed.due([MAIL]).bells == [MAIL]


class TestHelp:
    def test_a_claim_that_leaves_work_rings_for_help_once_each_250_ms(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, *range(40))
        rung = []
        for step in range(30):
            # Every bell is heard at once.
            rung += [step * 0.05 for _ in ask(timed, n=1, heard=True).bells]
            clock.pass_(0.05)
        assert rung == pytest.approx([0, 0.25, 0.5, 0.75, 1.0, 1.25])

    def test_none_while_a_bell_is_under_way(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, *range(40))
        assert ask(timed, n=1, heard=True).bells == [MAIL]
        for _ in range(20):
            assert ask(timed, n=1).bells == []
            clock.pass_(0.3)

    def test_none_for_a_lane_at_its_cap(self, timed: Ledger) -> None:
        jobs(timed, 1, 2, 3)
        exchange = ask(timed, cap=2, heard=True)
        assert (len(exchange.claimed), exchange.more, exchange.bells) == (2, True, [])

    def test_a_full_process_passes_the_bell_on_once_a_second(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 1)
        rung = []
        for step in range(30):
            rung += [step * 0.1 for _ in ask(timed, n=0, heard=True).bells]
            clock.pass_(0.1)
        assert rung == pytest.approx([0, 1.0, 2.0])


class TestWhatNeedsNoBell:
    def test_an_ordinary_claim_does_not_ring_for_what_needs_isolation(self, timed: Ledger, clock: Clock) -> None:
        # Given a lane in which only one member is due, which has lost its lease twice
        jobs(timed, 1)
        for _ in range(2):
            assert len(claim(timed, heard=True)) == 1
            clock.pass_(31)

        # When drains hear bells for it, then they ring no others: none of them may take it
        for _ in range(10):
            exchange = ask(timed, heard=True)
            assert (exchange.claimed, exchange.isolated, exchange.bells) == ([], True, [])

    def test_a_settled_job_of_a_lane_at_its_cap_rings_for_the_next(self, timed: Ledger) -> None:
        jobs(timed, 1, 2)
        (held,) = ask(timed, cap=1, heard=True).claimed
        assert ask(timed, cap=1).bells == []
        outcome = Outcome(job=held.key, token=held.token, verdict="done", duration=0.01)
        assert timed.exchange_jobs(MAIL, [outcome]).bells == [MAIL]

    def test_a_paused_lane_is_not_rung_for_until_it_is_resumed(self, timed: Ledger) -> None:
        rung: list[str] = []
        operator = Control(timed, ANN, rung.extend)
        operator.pause(DELIVERIES)
        assert record(timed, 1) == []
        operator.resume(DELIVERIES)
        assert rung == [DELIVERIES]


def test_a_clock_that_went_back_does_not_keep_a_lane_silent(timed: Ledger, clock: Clock, client: redis.Redis) -> None:
    record(timed, 1)
    timed.exchange_deliveries(SOURCE, claim=Claim(token="a", n=10, heard=True, claims_again_ms=40))
    record(timed, 2)
    clock.pass_(-3600)
    assert record(timed, 3) == [DELIVERIES]
