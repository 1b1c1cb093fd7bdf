"""Members whose lease expired are redelivered, so that what kills its process takes no neighbour along."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.conftest import Clock
from tests.integration.test_ledger import SOURCE, claim, delivery_id, process, record, settle, state_of
from tiercast.ledger import Ledger, new_token
from tiercast.ledger.model import Claim, Exchange, HeldJob, PlannedJob

MAIL = "jobs/mail"


def jobs(ledger: Ledger, count: int) -> None:
    for number in range(count):
        process(ledger, f"e{number}", PlannedJob(action="mail"), number=number)


def lose(ledger: Ledger, clock: Clock, times: int, count: int = 100) -> None:
    """Have all that is due lose its lease so often."""
    for losses in range(times):
        held = claim(ledger, n=count, redelivered=count)
        assert {job.expiries for job in held} == {losses}
        clock.pass_(31)


def ask(ledger: Ledger, n: int = 100, **more: object) -> Exchange[HeldJob]:
    return ledger.exchange_jobs(MAIL, claim=Claim(token=new_token(), n=n, **more))  # type: ignore[arg-type]


class TestOnce:
    @pytest.mark.parametrize("most", [1, 3, 16])
    def test_a_claim_takes_no_more_of_them_than_asked_for(self, timed: Ledger, clock: Clock, most: int) -> None:
        # Given 40 jobs that were redelivered, and 20 new ones behind them
        jobs(timed, 40)
        lose(timed, clock, 1)
        for number in range(40, 60):
            process(timed, f"e{number}", PlannedJob(action="mail"), number=number)

        # When one claim asks for more than all of them
        exchange = ask(timed, redelivered=most)

        # Then the new ones come with a few of them, in their order
        assert Counter(job.expiries for job in exchange.claimed) == {0: 20, 1: most}
        in_order = sorted((f"e{number}" for number in range(40)), key=lambda event: event + ":")
        assert [job.event_id for job in exchange.claimed if job.expiries] == in_order[:most]
        assert (exchange.more, exchange.isolated) == (True, False)

    def test_sixteen_where_a_claim_does_not_say(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 40)
        lose(timed, clock, 1)
        sizes = []
        while held := ask(timed).claimed:
            sizes.append(len(held))
        assert sizes == [16, 16, 8]

    def test_they_do_not_hide_what_is_due_behind_them(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 40)
        lose(timed, clock, 1)
        process(timed, "new", PlannedJob(action="mail"), number=99)
        held = ask(timed, n=2, redelivered=1).claimed
        assert [job.event_id for job in held] == ["e0", "new"]

    def test_of_deliveries_too(self, timed: Ledger, clock: Clock) -> None:
        record(timed, *range(40))
        assert len(timed.exchange_deliveries(SOURCE, claim=Claim(token="a", n=100)).claimed) == 40
        clock.pass_(31)
        exchange = timed.exchange_deliveries(SOURCE, claim=Claim(token="b", n=100))
        assert [held.id for held in exchange.claimed] == [delivery_id(number) for number in range(16)]
        assert (exchange.more, exchange.isolated) == (True, False)


class TestIsolated:
    def test_what_lost_its_lease_twice_is_for_isolated_claims_alone(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 3)
        lose(timed, clock, 2)
        process(timed, "new", PlannedJob(action="mail"), number=99)

        ordinary = ask(timed)
        assert [job.event_id for job in ordinary.claimed] == ["new"]
        assert (ordinary.more, ordinary.isolated) == (False, True)
        isolated = ask(timed, isolated=True)
        assert [(job.event_id, job.expiries) for job in isolated.claimed] == [("e0", 2), ("e1", 2), ("e2", 2)]
        assert not ask(timed).isolated

    def test_at_most_sixteen_of_those_together(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 20)
        lose(timed, clock, 2)
        exchange = ask(timed, isolated=True)
        assert (len(exchange.claimed), exchange.more) == (16, True)

    def test_what_lost_its_lease_three_times_is_alone(self, timed: Ledger, clock: Clock) -> None:
        # Given three jobs that lost their lease three times, and behind them two that lost it twice
        jobs(timed, 3)
        lose(timed, clock, 2)
        assert len(ask(timed, isolated=True).claimed) == 3
        clock.pass_(31)
        for number in (10, 11):
            process(timed, f"e{number}", PlannedJob(action="mail"), number=number)
        lose(timed, clock, 2)

        claimed = []
        while held := ask(timed, isolated=True).claimed:
            claimed.append([(job.event_id, job.expiries) for job in held])
        assert claimed == [[("e0", 3)], [("e1", 3)], [("e2", 3)], [("e10", 2), ("e11", 2)]]

    def test_one_behind_those_that_lost_it_twice_waits_for_a_claim_of_its_own(
        self, timed: Ledger, clock: Clock
    ) -> None:
        jobs(timed, 2)
        lose(timed, clock, 2)
        # e0 is due later than e1 from now on, and has lost its lease once more.
        first = next(job for job in ask(timed, isolated=True).claimed if job.event_id == "e0")
        settle(timed, first, "later", wait=0)
        assert [job.event_id for job in ask(timed, isolated=True).claimed] == ["e0"]
        clock.pass_(31)
        claimed = []
        while held := ask(timed, isolated=True).claimed:
            claimed.append([(job.event_id, job.expiries) for job in held])
        assert sorted(claimed) == [[("e0", 3)], [("e1", 3)]]

    def test_an_isolated_claim_takes_nothing_else(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 3)
        lose(timed, clock, 1)
        process(timed, "new", PlannedJob(action="mail"), number=99)
        assert ask(timed, isolated=True).claimed == []


@dataclass
class Process:
    """A worker process of the simulation; one that performs poison dies with all that it holds."""

    isolated: bool

    def run(self, ledger: Ledger, poison: set[str]) -> Counter[str]:
        """Claim, perform and settle until nothing is left; returns what was done."""
        done: Counter[str] = Counter()
        while held := ledger.exchange_jobs(
            MAIL, claim=Claim(token=new_token(), n=50, redelivered=16, isolated=self.isolated)
        ).claimed:
            if any(job.event_id in poison for job in held):
                return done
            for job in held:
                done[job.event_id] += 1
                settle(ledger, job, "done")
        return done


class TestPoison:
    @pytest.mark.parametrize("poisonous", [1, 3, 7])
    def test_its_neighbours_never_die(self, timed: Ledger, clock: Clock, poisonous: int) -> None:
        # Given 200 jobs, some of which kill their process whenever they are performed
        jobs(timed, 200)
        poison = {f"e{number}" for number in random.Random(poisonous).sample(range(200), poisonous)}

        # When ordinary and isolated processes work until nothing is owed
        done: Counter[str] = Counter()
        for _ in range(40 * poisonous):
            if not timed.client.zcard(f"t:due:{MAIL}") and not timed.client.zcard(f"t:held:{MAIL}"):
                break
            for isolated in (False, False, True):
                done += Process(isolated).run(timed, poison)
            clock.pass_(31)

        # Then all others are done, each once, and the poison is dead
        assert set(done.values()) == {1}
        assert {f"e{n}" for n in range(200)} - set(done) == poison
        assert {state_of(timed, event) for event in poison} == {"dead"}

    def test_five_expired_leases_end_a_job_whatever_claims_it(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 1)
        expiries = 0
        while state_of(timed, "e0") == "owed":
            expiries += bool(claim(timed) or claim(timed, isolated=True))
            clock.pass_(31)
            claim(timed, n=0)
        assert (expiries, state_of(timed, "e0")) == (5, "dead")
        assert not timed.client.exists(f"t:expiries:{MAIL}", f"t:held:{MAIL}", f"t:lease:{MAIL}", f"t:due:{MAIL}")

    def test_handing_back_and_failing_count_as_no_expiry(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 1)
        lose(timed, clock, 1)
        for verdict in ("released", "later") * 6:
            (held,) = claim(timed)
            assert held.expiries == 1
            settle(timed, held, verdict, **({"wait": 0} if verdict == "later" else {}))

    def test_a_retry_by_an_operator_forgets_expired_leases(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 1)
        lose(timed, clock, 2)
        (held,) = claim(timed, isolated=True)
        settle(timed, held, "dead")
        assert timed.operate("retry", job=held.key)[0]
        assert [job.expiries for job in claim(timed)] == [0]
