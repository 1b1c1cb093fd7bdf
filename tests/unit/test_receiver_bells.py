"""The bell ringer: never in the way, each lane once, quiet about failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from tiercast.ringer import BellRinger


class Tower:
    """Rings by noting the lane; the first bell of a test can be held."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()
        self.failing: set[str] = set()

    def ring(self, lane: str) -> None:
        self.started.release()
        assert self.go.wait(10)
        if lane in self.failing:
            raise ConnectionError("a broker's address with a password")
        self.rung.append(lane)

    def heard(self, count: int) -> None:
        for _ in range(count):
            assert self.started.acquire(timeout=10)


@pytest.fixture
def tower() -> Tower:
    return Tower()


@pytest.fixture
def ringer(tower: Tower) -> Iterator[BellRinger]:
    ringer = BellRinger(tower.ring, max_pending=3)
    yield ringer
    tower.go.set()
    ringer.close()


def test_each_lane_that_waits_is_rung_once_in_order(ringer: BellRinger, tower: Tower) -> None:
    # Given a bell under way
    tower.go.clear()
    ringer.ring(["a"])
    tower.heard(1)

    # When others are asked for repeatedly, the one under way too
    for _ in range(5):
        ringer.ring(["b", "a"])
    tower.go.set()
    tower.heard(2)
    ringer.close()

    # Then each rings once more
    assert tower.rung == ["a", "b", "a"]


def test_a_held_bell_blocks_no_request_and_what_waits_is_bounded(ringer: BellRinger, tower: Tower) -> None:
    tower.go.clear()
    ringer.ring(["held"])
    tower.heard(1)

    ringer.ring(str(number) for number in range(1000))

    assert list(ringer._pending) == ["0", "1", "2"]


def test_nothing_to_ring_starts_no_thread(ringer: BellRinger) -> None:
    ringer.ring([])

    assert ringer._thread is None


def test_failures_are_told_once_without_the_errors_text_and_ringing_goes_on(tower: Tower) -> None:
    ringer = BellRinger(tower.ring)
    with capture_logs() as logs:
        # Given a broker that is away for three bells, then back
        tower.failing = {"a", "b", "c"}

        # When five are rung
        ringer.ring(["a", "b", "c", "d", "e"])
        tower.heard(5)
        ringer.close()

    # Then one line tells of its going and one of its return
    assert tower.rung == ["d", "e"]
    assert [(line["event"], line["lane"]) for line in logs] == [("bells.lost", "a"), ("bells.back", "d")]
    assert "password" not in str(logs)


def test_closed_it_rings_no_more_and_its_thread_is_gone(tower: Tower) -> None:
    ringer = BellRinger(tower.ring)
    ringer.ring(["a"])
    tower.heard(1)

    ringer.close()
    ringer.ring(["b"])

    assert ringer._thread is not None
    assert not ringer._thread.is_alive()
    assert tower.rung == ["a"]
