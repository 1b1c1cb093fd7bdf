"""A drain works on its lane in one thread at most, and misses no bell."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.stack import wait_for
from worker.drains import Drain
from worker.threads import Threads


class Counting(Drain):
    """Calls `work` for each time that it was started or woken to go on."""

    def __init__(self, work: Callable[[], None] = lambda: None) -> None:
        super().__init__("jobs/one", Threads("test"))
        self.work = work
        self.rounds = 0
        self.heard = 0
        self.woken = 0
        self.most = 0
        self._here = 0

    def wake(self) -> None:
        self.woken += 1

    def run(self) -> None:
        self._here += 1
        self.most = max(self.most, self._here)
        try:
            while True:
                self.heard += self.take_heard()
                self.rounds += 1
                self.work()
                if not self.has_more_to_do():
                    return
        finally:
            self._here -= 1


def test_a_drain_runs_once_for_each_start_and_says_when_it_has_ended() -> None:
    drain = Counting()
    for _ in range(3):
        drain.start(heard=True)
        assert drain.wait(10)
    assert (drain.rounds, drain.heard, drain.is_running) == (3, 3, False)


def test_a_bell_during_a_run_leads_to_another_round_of_the_same_thread() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        assert go_on.wait(10)

    drain = Counting(work)
    drain.start(heard=True)
    assert entered.wait(10)
    assert not drain.wait(0.01)
    for _ in range(5):
        drain.start(heard=True)
    go_on.set()
    assert drain.wait(10)

    assert (drain.rounds, drain.heard, drain.woken, drain.most) == (2, 2, 5, 1)


def test_no_bell_is_missed_however_it_meets_the_end_of_a_run() -> None:
    # Each bell is heard by a round that begins after it.
    drain = Counting()
    for number in range(500):
        before = drain.heard
        drain.start(heard=True)
        if number % 3:
            wait_for(lambda before=before: drain.heard > before, seconds=10, every=0.0001)  # type: ignore[misc]
    assert drain.wait(10)
    drain.start(heard=True)
    assert drain.wait(10)
    assert not drain.take_heard()
    assert drain.most == 1


def test_a_start_without_a_bell_does_not_prolong_a_run() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        assert go_on.wait(10)

    drain = Counting(work)
    drain.start(heard=False)
    assert entered.wait(10)
    drain.start(heard=False)
    go_on.set()
    assert drain.wait(10)
    assert (drain.rounds, drain.woken) == (1, 1)


def test_a_drain_that_is_closing_is_not_started() -> None:
    drain = Counting()
    drain.closing = True
    drain.start(heard=True)
    assert drain.wait(0)
    assert drain.rounds == 0


def test_a_fault_ends_a_run_and_not_the_drain(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise ValueError("ada@example.com")

    drain = Counting(work)
    drain.start(heard=True)
    assert drain.wait(10)
    drain.work = lambda: None
    drain.start(heard=True)
    assert drain.wait(10)
    assert drain.rounds == 2
    assert "ada@" not in "".join(capsys.readouterr()), "the text of an exception may quote an event"


def test_a_thread_that_cannot_be_started_leaves_the_drain_startable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    drain = Counting()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        drain.start(heard=True)
    assert not drain.is_running
    drain.start(heard=False)
    assert drain.wait(10)
    assert (drain.rounds, drain.heard) == (1, 1), "the bell is not forgotten"


def test_counts_are_given_out_once() -> None:
    drain = Counting()
    drain.count(claimed=3, done=2)
    drain.count(claimed=1)
    assert drain.take_counts() == {"claimed": 4, "done": 2}
    assert drain.take_counts() == {}
