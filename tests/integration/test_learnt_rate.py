"""A vendor that answers 429 and names no time: the ledger finds the rate that it bears, over all workers and lanes."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from itertools import count

import pytest

from tests.conftest import Clock
from tests.integration.test_ledger import SOURCE, delivery_id
from tiercast.ledger import Ledger, new_token
from tiercast.ledger.model import Claim, DeliveryState, Outcome, Plan, PlannedJob

_TICK_MS = 20
_numbers = count()


def owe(ledger: Ledger, jobs: int, action: str = "mail") -> None:
    """Owe so many jobs of an action."""
    for start in range(0, jobs, 200):
        numbers = [next(_numbers) for _ in range(min(200, jobs - start))]
        ledger.record([(SOURCE, delivery_id(number), b"{}") for number in numbers])
        token = new_token()
        claimed = ledger.exchange_deliveries(SOURCE, claim=Claim(token=token, n=len(numbers))).claimed
        plans = [
            Plan(
                delivery=held.id,
                token=token,
                state=DeliveryState.PROCESSED,
                event_id=held.id,
                type="x",
                created_us=1,
                jobs=(PlannedJob(action=action),),
            )
            for held in claimed
        ]
        ledger.exchange_deliveries(SOURCE, plans)


@dataclass
class Vendor:
    """Answers 429 above so many calls within any second; times are milliseconds."""

    rate: float
    calls: deque[int] = field(default_factory=deque)

    def call(self, now: int) -> bool:
        while self.calls and self.calls[0] <= now - 1000:
            self.calls.popleft()
        if len(self.calls) >= self.rate:
            return False
        self.calls.append(now)
        return True


class Worker:
    """Drains one action as a worker does: hundreds in flight, each answered after some time.

    It counts what was done and what was refused, by the second.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        vendor: Vendor,
        *,
        action: str = "mail",
        learn: str = "",
        latency: int = 60,
        refuses_in: int = 60,
    ) -> None:
        self.ledger, self.clock, self.vendor = ledger, clock, vendor
        self.lane, self.latency, self.refuses_in = f"jobs/{action}", latency, refuses_in
        self.learn = learn or self.lane
        self.began = clock.now
        self.waiting: list[tuple[int, str, str]] = []
        self.in_flight: list[tuple[int, str, str, bool]] = []
        self.held = 0
        self.done: list[int] = []
        self.refused: list[int] = []

    def tick(self) -> None:
        now = self.clock.now
        while self.waiting and self.waiting[0][0] <= now:
            _, job, token = heapq.heappop(self.waiting)
            well = self.vendor.call(now)
            heapq.heappush(self.in_flight, (now + (self.latency if well else self.refuses_in), job, token, well))
        outcomes = []
        while self.in_flight and self.in_flight[0][0] <= now:
            _, job, token, well = heapq.heappop(self.in_flight)
            (self.done if well else self.refused).append(now - self.began)
            verdict, signal = ("done", None) if well else ("released", "rate")
            outcomes.append(Outcome(job=job, token=token, verdict=verdict, signal=signal, duration=0.06))  # type: ignore[arg-type]
        self.held -= len(outcomes)
        claim = Claim(token=new_token(), n=256 - self.held, learn=self.learn)
        exchange = self.ledger.exchange_jobs(self.lane, outcomes, claim, learn=self.learn)
        for held in exchange.claimed:
            heapq.heappush(self.waiting, (now + round(held.delay * 1000), held.key, held.token))
        self.held += len(exchange.claimed)
        if exchange.on_hold:
            # What has not started is released, as the executor does.
            kept = [waiting for waiting in self.waiting if waiting[0] <= now + 1000]
            back = [
                Outcome(job=job, token=token, verdict="released") for at, job, token in self.waiting if at > now + 1000
            ]
            if back:
                self.ledger.exchange_jobs(self.lane, back, learn=self.learn)
                self.waiting, self.held = kept, self.held - len(back)

    def done_between(self, start: float, end: float) -> float:
        """Jobs a second that were done between two times (seconds since it began)."""
        return sum(start * 1000 <= at < end * 1000 for at in self.done) / (end - start)

    def refused_between(self, start: float, end: float) -> float:
        return sum(start * 1000 <= at < end * 1000 for at in self.refused) / (end - start)


def run(clock: Clock, seconds: float, *workers: Worker) -> None:
    for _ in range(round(seconds * 1000 / _TICK_MS)):
        for worker in workers:
            worker.tick()
        clock.pass_(_TICK_MS / 1000)


class TestFound:
    @pytest.mark.parametrize(
        ("latency", "refuses_in"), [(60, 60), (300, 10), (1000, 20)], ids=["alike", "quick refusals", "slow answers"]
    )
    def test_a_vendor_that_bears_20_a_second(self, timed: Ledger, clock: Clock, latency: int, refuses_in: int) -> None:
        owe(timed, 1400)
        worker = Worker(timed, clock, Vendor(20), latency=latency, refuses_in=refuses_in)
        run(clock, 60, worker)

        assert worker.done_between(30, 60) >= 0.85 * 20
        assert worker.done_between(10, 30) >= 0.8 * 20
        assert worker.refused_between(10, 60) < 0.5

    def test_refusals_cost_the_jobs_nothing(self, timed: Ledger, clock: Clock) -> None:
        owe(timed, 60)
        worker = Worker(timed, clock, Vendor(20))
        run(clock, 2, worker)
        assert worker.refused
        attempts = {
            timed.client.hget(key, "n") for key in timed.client.keys("t:j:*") if timed.client.hget(key, "s") == b"owed"
        }
        assert attempts == {b"0"}

    def test_a_slow_vendor(self, timed: Ledger, clock: Clock) -> None:
        owe(timed, 300)
        worker = Worker(timed, clock, Vendor(2))
        run(clock, 90, worker)
        assert worker.done_between(30, 90) >= 0.7 * 2
        assert worker.refused_between(30, 90) < 0.2


class TestChanges:
    def test_it_grows_again_where_the_vendor_bears_more(self, timed: Ledger, clock: Clock) -> None:
        owe(timed, 4000)
        vendor = Vendor(5)
        worker = Worker(timed, clock, vendor)
        run(clock, 20, worker)
        assert worker.done_between(10, 20) <= 5
        vendor.rate = 40
        run(clock, 60, worker)
        assert worker.done_between(65, 80) >= 0.85 * 40
        assert worker.refused_between(20, 80) < 1

    def test_it_shrinks_where_the_vendor_bears_less(self, timed: Ledger, clock: Clock) -> None:
        owe(timed, 1400)
        vendor = Vendor(20)
        worker = Worker(timed, clock, vendor)
        run(clock, 20, worker)
        vendor.rate = 5
        run(clock, 30, worker)
        assert worker.done_between(30, 50) >= 0.7 * 5
        assert worker.refused_between(30, 50) < 0.5

    def test_a_quiet_time_does_not_make_it_grow(self, timed: Ledger, clock: Clock) -> None:
        # Given a rate that was learnt, and then no work for ten minutes
        owe(timed, 300)
        worker = Worker(timed, clock, Vendor(20))
        run(clock, 20, worker)
        assert len(worker.done) == 300
        for _ in range(60):
            clock.pass_(10)
            worker.tick()
        # When much comes at once
        before = len(worker.refused)
        owe(timed, 400)
        run(clock, 10, worker)
        # Then the vendor is not asked for more than it bears
        assert len(worker.refused) - before < 10
        assert len(worker.done) > 300 + 0.8 * 200

    def test_it_is_forgotten_an_hour_after_the_last_refusal(self, timed: Ledger, clock: Clock) -> None:
        owe(timed, 100)
        run(clock, 2, Worker(timed, clock, Vendor(20)))
        assert 3_500_000 < timed.client.pttl("t:rate:jobs/mail") <= 3_600_000


class TestShared:
    def test_all_actions_of_a_limit_find_its_rate_together(self, timed: Ledger, clock: Clock) -> None:
        for action in ("mail", "crm"):
            owe(timed, 1000, action)
        vendor = Vendor(20)
        workers = [Worker(timed, clock, vendor, action=action, learn="hubspot") for action in ("mail", "crm")]
        run(clock, 60, *workers)

        assert sum(worker.done_between(30, 60) for worker in workers) >= 0.85 * 20
        assert sum(worker.refused_between(10, 60) for worker in workers) < 0.5
        # Neither has starved the other.
        assert all(worker.done_between(10, 60) > 3 for worker in workers)
        assert timed.client.exists("t:rate:hubspot")
        assert not timed.client.exists("t:rate:jobs/mail", "t:rate:jobs/crm")

    def test_two_workers_of_one_action_do_not_get_twice_as_much(self, timed: Ledger, clock: Clock) -> None:
        owe(timed, 1400)
        vendor = Vendor(20)
        workers = [Worker(timed, clock, vendor) for _ in range(2)]
        run(clock, 45, *workers)
        assert sum(worker.done_between(20, 45) for worker in workers) >= 0.85 * 20
        assert sum(worker.refused_between(20, 45) for worker in workers) < 0.5

    def test_another_action_is_not_slowed_down(self, timed: Ledger, clock: Clock) -> None:
        owe(timed, 600)
        owe(timed, 600, "crm")
        refused, free = Worker(timed, clock, Vendor(20)), Worker(timed, clock, Vendor(10_000), action="crm")
        run(clock, 5, refused, free)
        assert len(free.done) == 600
        assert len(refused.done) < 150
