"""The time of a bulk call."""

from __future__ import annotations

import time

import pytest

from tiercast.outbound import Deadline


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_no_call_is_begun_that_would_not_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    deadline = Deadline(10)
    assert deadline.another()
    clock.now += 3  # the first call took 3 seconds, 7 are left
    assert deadline.another()
    clock.now += 3  # 4 are left, and 4.5 would be wanted
    assert not deadline.another()


def test_a_fifth_of_the_time_is_kept_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    deadline = Deadline(10)
    calls = 0
    while deadline.another():
        calls += 1
        clock.now += 0.5
    assert calls == 16
    clock.now += 100
    assert deadline.left == 0
