"""What a process holds under leases, and what it may still begin."""

from __future__ import annotations

import pytest

from tests.holding import held_job
from worker.execution.leases import MARGIN_SECONDS, Leased, LeaseTable


class Clock:
    """Monotonic seconds, as the test sets them."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> LeaseTable:
    return LeaseTable(30.0, 15.0, clock=clock)


def add(table: LeaseTable, clock: Clock, *numbers: int, ago: float = 0.0) -> list[Leased]:
    return table.add([held_job(number=number) for number in numbers], clock.now - ago)


def key(number: int) -> str:
    return f"voucherify:ev{number}:act"


def test_a_job_is_begun_once_and_leaves_with_its_outcome(table: LeaseTable, clock: Clock) -> None:
    (job,) = add(table, clock, 1)
    assert (len(table), table.running(), table.waiting()) == (1, 0, [job])

    assert table.begin(job) == "begun"
    assert table.begin(job) == "lost", "it runs already"
    assert (table.running(), table.waiting()) == (1, [])

    assert table.remove(job)
    assert not table.remove(job), "there is one outcome of a job"
    assert len(table) == 0


@pytest.mark.parametrize(
    ("ago", "verdict"), [(0.0, "begun"), (30 - MARGIN_SECONDS - 0.1, "begun"), (30 - MARGIN_SECONDS + 0.1, "too late")]
)
def test_no_effect_begins_shortly_before_its_lease_ends(
    table: LeaseTable, clock: Clock, ago: float, verdict: str
) -> None:
    # The lease counts from when the claim was asked for: its answer may have been long under way.
    (job,) = add(table, clock, 1, ago=ago)
    assert table.begin(job) == verdict


def test_of_a_short_lease_a_third_must_be_left(clock: Clock) -> None:
    table = LeaseTable(3.0, 15.0, clock=clock)
    (early,) = table.add([held_job(number=1)], clock.now - 1.9)
    (late,) = table.add([held_job(number=2)], clock.now - 2.1)
    assert (table.begin(early), table.begin(late)) == ("begun", "too late")


def test_a_renewed_lease_lasts_from_when_the_renewal_was_asked_for(table: LeaseTable, clock: Clock) -> None:
    (job,) = add(table, clock, 1)
    clock.now += 25
    assert table.to_renew() == [(key(1), "tok")]
    table.renewed({key(1): True}, clock.now)
    clock.now += 20
    assert table.begin(job) == "begun"


def test_a_lost_lease_costs_a_job_that_has_not_begun_and_leaves_the_outcome_of_one_that_has(
    table: LeaseTable, clock: Clock
) -> None:
    running, waiting = add(table, clock, 1, 2)
    table.begin(running)

    table.renewed({key(1): False, key(2): False, "voucherify:unknown:act": True}, clock.now)

    assert table.begin(waiting) == "lost"
    assert not table.remove(waiting)
    assert table.remove(running), "the ledger decides what its outcome is worth"


def test_a_job_that_was_claimed_again_is_another(table: LeaseTable, clock: Clock) -> None:
    (first,) = add(table, clock, 1)
    (second,) = add(table, clock, 1)
    assert table.begin(first) == "lost"
    assert table.begin(second) == "begun"


def test_what_runs_past_its_time_is_overdue_and_its_lease_is_left_to_expire(table: LeaseTable, clock: Clock) -> None:
    stuck, other, waiting = add(table, clock, 1, 2, 3)
    table.begin(stuck)
    clock.now += 10
    table.begin(other)
    clock.now += 5.1

    assert table.overdue() == [key(1)]
    assert table.running() == 1
    assert sorted(table.to_renew()) == [(key(2), "tok"), (key(3), "tok")]
    assert table.waiting() == [waiting]


def test_progress_of_a_bulk_call_keeps_its_jobs_from_being_overdue(table: LeaseTable, clock: Clock) -> None:
    jobs = add(table, clock, 1, 2)
    for job in jobs:
        table.begin(job)
    clock.now += 14
    table.note_progress(jobs[1:])
    clock.now += 2
    assert table.overdue() == [key(1)]


def test_how_long_jobs_have_waited(table: LeaseTable, clock: Clock) -> None:
    (old,) = add(table, clock, 1)
    clock.now += 2
    (new,) = add(table, clock, 2)
    assert table.waiting(older=1.5) == [old]
    assert table.waiting() == [old, new]


def test_jobs_that_have_lost_a_lease_before_are_counted_while_they_are_held(table: LeaseTable, clock: Clock) -> None:
    again, _new = table.add([held_job(number=1, expiries=1), held_job(number=2)], clock.now)
    assert table.redelivered() == 1
    table.begin(again)
    assert table.redelivered() == 1
    table.remove(again)
    assert table.redelivered() == 0
