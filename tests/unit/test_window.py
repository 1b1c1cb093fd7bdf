"""How many calls at once a process finds that a vendor bears."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest

from worker.execution.window import MAX_CALLS, Window


class Vendor:
    """Serves calls in simulated time: `latency` of how many are in flight gives seconds."""

    def __init__(self, window: Window, latency: Callable[[int], float]) -> None:
        self.now = 0.0
        self.window = window
        self.latency = latency
        self.calls: list[float] = []
        self.began: dict[float, float] = {}
        self.done = 0

    def run(self, seconds: float) -> float:
        """Keep the window full for a while; returns calls a second."""
        until, before, start = self.now + seconds, self.done, self.now
        while self.now < until:
            while self.window.free:
                self.window.begin()
                end = self.now + self.latency(self.window.in_flight) + len(self.calls) * 1e-9
                heapq.heappush(self.calls, end)
                self.began[end] = self.now
            end = heapq.heappop(self.calls)
            self.now = end
            self.done += 1
            self.window.end(end - self.began.pop(end))
        return (self.done - before) / (self.now - start)


def make(**options: int) -> tuple[Window, list[Vendor]]:
    holder: list[Vendor] = []
    return Window(clock=lambda: holder[0].now if holder else 0.0, **options), holder


def test_it_grows_to_the_most_where_calls_take_no_longer_for_it() -> None:
    window, holder = make()
    holder.append(Vendor(window, lambda _: 0.3))
    holder[0].run(6)
    assert window.size == MAX_CALLS


def test_it_finds_what_a_vendor_serves_at_once() -> None:
    # Given a vendor that serves 50 calls at once, each in 100 ms, and lets others wait
    window, holder = make()
    vendor = Vendor(window, lambda calls: 0.1 * max(1.0, calls / 50))
    holder.append(vendor)
    vendor.run(20)

    rate = vendor.run(20)

    assert rate >= 0.85 * 500
    assert 40 <= window.size <= 120, "it does not queue hundreds"


def test_a_vendor_whose_calls_vary_is_not_mistaken_for_a_slow_one() -> None:
    random.seed(7)
    window, holder = make()
    vendor = Vendor(window, lambda _: random.expovariate(1 / 0.1))
    holder.append(vendor)
    vendor.run(20)
    assert window.size >= 256


def test_refusals_halve_it_once_for_calls_that_were_in_flight_together() -> None:
    window, holder = make(start=64)
    holder.append(Vendor(window, lambda _: 0.1))
    holder[0].now = 10.0
    for _ in range(64):
        window.begin()
    for _ in range(64):
        window.end(1.0, refused=True)
    assert window.size == 32
    for number in range(10):
        holder[0].now += 2
        window.begin()
        window.end(1.0, refused=True)
        assert window.size == max(1, 16 >> number)


def test_a_fixed_window_stays_as_it_is() -> None:
    window = Window(fixed=7)
    for _ in range(7):
        window.begin()
    assert window.free == 0
    for _ in range(7):
        window.end(9.0, refused=True)
    assert (window.size, window.free) == (7, 7)


def test_it_does_not_grow_while_it_is_not_used() -> None:
    window, holder = make()
    holder.append(Vendor(window, lambda _: 0.1))
    for _ in range(500):
        holder[0].now += 0.1
        window.begin()
        window.end(0.1)
    assert window.size == 16


@pytest.mark.parametrize("slower", [3.0])
def test_a_vendor_that_is_slower_for_good_becomes_the_new_measure(slower: float) -> None:
    window, holder = make()
    vendor = Vendor(window, lambda _: 0.05)
    holder.append(vendor)
    vendor.run(5)
    vendor.latency = lambda _: 0.05 * slower

    vendor.run(240)

    assert window.size >= 64
