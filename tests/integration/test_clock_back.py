"""The ledger's clock goes back by an hour: what was owed goes on at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Clock
from tests.integration.test_ledger import claim, delivery_id, process, record, settle
from tiercast.ledger import Ledger, new_token
from tiercast.ledger.clock import ClockGuard, clock_state
from tiercast.ledger.model import Claim, Hold, Outcome, PlannedJob

HOUR = 3600.0


class Own:
    """A process's monotonic clock: it goes on when the ledger's clock passes, and does not jump."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class World:
    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger, self.clock, self.own = ledger, clock, Own()
        self.guards = [self.guard(), self.guard()]

    def guard(self) -> ClockGuard:
        return ClockGuard(self.ledger, limits=["vendor"], monotonic=self.own)

    def pass_(self, seconds: float) -> None:
        self.own.now += seconds
        self.clock.pass_(seconds)

    def look(self) -> list[float]:
        """Both workers look until nothing is left; returns what they found."""
        found = []
        for _ in range(100):
            steps = [guard.look() for guard in self.guards]
            found += [step.found for step in steps if step.found]
            if not any(step.more for step in steps):
                return found
        raise AssertionError("it never ends")

    def scores(self, key: str) -> dict[str, int]:
        client: Any = self.ledger.client
        return {member.decode(): int(at) for member, at in client.zrange(f"t:{key}", 0, -1, withscores=True)}


@pytest.fixture
def world(timed: Ledger, clock: Clock) -> World:
    return World(timed, clock)


def test_what_was_due_and_what_will_be_are_moved_once_by_two_workers(world: World) -> None:
    for number in range(1, 4):
        process(world.ledger, f"e{number}", PlannedJob(action="mail"), number=number)
    one, two, _ = claim(world.ledger, 3)
    settle(world.ledger, one, "later", wait=7200)
    settle(world.ledger, two, "later", wait=1)
    record(world.ledger, 10)
    world.pass_(10)
    assert world.look() == []
    before, held = world.scores("due:jobs/mail"), world.scores("held:jobs/mail")

    world.clock.pass_(-HOUR)
    assert world.ledger.exchange_deliveries("voucherify", claim=Claim(token=new_token(), n=1)).claimed == []
    world.pass_(1)
    assert [round(each) for each in world.look()] == [3600]
    assert world.look() == []

    after = world.scores("due:jobs/mail")
    assert {key: round((before[key] - at) / 1000) for key, at in after.items()} == {one.key: 3600, two.key: 3600}
    assert [job.key for job in claim(world.ledger)] == [two.key]
    assert [
        each.id for each in world.ledger.exchange_deliveries("voucherify", claim=Claim(token=new_token(), n=1)).claimed
    ]
    # The lease of the one that a dead worker holds ends within a lease.
    assert world.scores("held:jobs/mail").keys() >= held.keys()
    world.pass_(31)
    assert sorted(job.expiries for job in claim(world.ledger)) == [1, 1]


def test_many_are_moved_in_bounded_steps_and_another_worker_goes_on_after_a_crash(world: World) -> None:
    numbers = list(range(1, 1801))
    for start in range(0, 1800, 100):
        record(world.ledger, *numbers[start : start + 100])
    before = world.scores("due:deliveries/voucherify")
    world.look()
    world.clock.pass_(-HOUR)

    first = world.guards[0].look()
    assert (first.more, round(first.found)) == (True, 3600)
    moved = sum(before[each] != at for each, at in world.scores("due:deliveries/voucherify").items())
    assert moved == 500
    # The first worker dies here. One that starts now has seen no jump, and goes on.
    world.guards = [world.guard()]
    assert world.look() == []
    after = world.scores("due:deliveries/voucherify")
    assert {round((before[each] - at) / 1000) for each, at in after.items()} == {3600}


def test_without_a_worker_when_it_happened(world: World) -> None:
    world.look()
    world.pass_(1800)
    record(world.ledger, 1, 2)
    world.clock.pass_(-HOUR)
    world.pass_(3)
    world.guards = [world.guard(), world.guard()]
    assert [round(each) for each in world.look()] == [3597]
    assert len(world.ledger.exchange_deliveries("voucherify", claim=Claim(token=new_token(), n=9)).claimed) == 2


def test_two_jumps_count_as_both(world: World) -> None:
    record(world.ledger, 1)
    world.look()
    world.clock.pass_(-HOUR)
    assert world.guards[0].look().found
    world.clock.pass_(-HOUR)
    # The second worker saw both at once, the first one only the second.
    assert [round(each) for each in world.look()] == [3600]
    at = world.scores("due:deliveries/voucherify")[delivery_id(1)]
    assert at <= world.clock.now


def test_holds_and_limits_move_and_it_is_seen(world: World) -> None:
    process(world.ledger, "e1", PlannedJob(action="mail"), number=1)
    (held,) = claim(world.ledger)
    hold = Hold(seconds=10.0, cause="vendor", reason="429")
    world.ledger.exchange_jobs("jobs/mail", [Outcome(job=held.key, token=held.token, verdict="released", hold=hold)])
    client: Any = world.ledger.client
    client.set("t:limit:vendor", (world.clock.now + 500) * 1000, px=10**7)
    world.look()
    assert clock_state(world.ledger).moved == 0

    world.clock.pass_(-HOUR)
    assert clock_state(world.ledger).behind == pytest.approx(3600, abs=6)
    world.look()
    state = clock_state(world.ledger)
    assert (state.behind, round(state.moved), state.moving) == (0.0, 3600, False)
    world.pass_(11)
    limits = (("vendor", 1000),)
    assert [job.delay for job in claim(world.ledger, limits=limits)] == [0]


def test_ahead_moves_nothing(world: World) -> None:
    process(world.ledger, "e1", PlannedJob(action="mail"), number=1)
    (held,) = claim(world.ledger)
    settle(world.ledger, held, "later", wait=7200)
    before = world.scores("due:jobs/mail")
    world.look()
    world.clock.pass_(60)
    assert world.look() == []
    assert world.scores("due:jobs/mail") == before
