"""How many jobs are claimed, and how many one call or thread takes on."""

from __future__ import annotations

import pytest

from worker.execution.sizing import FIRST_BATCH_JOBS, PORTION_MAX_JOBS, BatchSizer


def learnt(seconds: float, batch: int | None = None) -> BatchSizer:
    sizer = BatchSizer(batch)
    for _ in range(50):
        sizer.learn(seconds)
    return sizer


@pytest.mark.parametrize(("batch", "jobs"), [(None, 1), (100, FIRST_BATCH_JOBS), (3, 3)])
def test_little_is_taken_on_while_nothing_is_known(batch: int | None, jobs: int) -> None:
    sizer = BatchSizer(batch)
    assert sizer.portion() == jobs
    assert sizer.ahead(16) == 0
    assert sizer.is_quick()


@pytest.mark.parametrize(
    ("batch", "seconds", "jobs"),
    [(100, 0.001, 100), (100, 0.1, 10), (100, 30.0, 1), (None, 0.0, PORTION_MAX_JOBS), (None, 0.1, 10), (None, 5.0, 1)],
)
def test_a_portion_is_what_ends_within_about_a_second(batch: int | None, seconds: float, jobs: int) -> None:
    assert abs(learnt(seconds, batch).portion() - jobs) <= 1


def test_what_is_claimed_ahead_can_start_within_half_a_second() -> None:
    assert learnt(0.01).ahead(16) == 800
    assert learnt(0.3).ahead(16) == 26
    assert learnt(60.0).ahead(16) == 0


def test_quick_jobs_are_told_from_slow_ones() -> None:
    assert learnt(0.001).is_quick()
    assert not learnt(0.03).is_quick()


def test_one_slow_job_among_quick_ones_changes_little_and_one_quick_among_slow_ones_much() -> None:
    quick, slow = learnt(0.01, 100), learnt(1.0, 100)
    quick.learn(0.1)
    slow.learn(0.1)
    assert quick.portion() > 50
    assert slow.portion() >= 1
    slow.learn(0.1)
    slow.learn(0.1)
    assert slow.portion() >= 4
