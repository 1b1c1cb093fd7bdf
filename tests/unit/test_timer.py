"""The timer: what it rings for, and when it has a lane drained without a bell."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.holding import action_spec
from tests.kinds import Scripted
from tests.stack import wait_for
from tiercast.config.model import Config, Source
from tiercast.errors import LedgerUnavailable
from tiercast.ledger import Ledger
from tiercast.ledger.model import Due, Shifted
from tiercast.ringer import BellRinger
from worker.isolation.supervisor import IsolationSupervisor
from worker.timer import MAX_TICK_SECONDS, MIN_TICK_SECONDS, TRIM_MAX_DELIVERIES, TRIM_SECONDS, Ticker

LANES = ["deliveries/tea", "jobs/one", "jobs/slow", "operations/all"]

CONFIG = Config(
    path=None,
    sources={"tea": Source(name="tea", secrets=("s",))},
    limits={},
    actions={
        "one": replace(action_spec(Scripted, Path("/nowhere")), name="one"),
        "slow": replace(action_spec(Scripted, Path("/nowhere")), name="slow", queue="slow"),
    },
    rules=(),
)


class FakeLedger:
    """Says what is due; `away` is how many calls fail first."""

    lease = 30.0

    def __init__(self) -> None:
        self.answer = Due([], [], 1.0, [])
        self.shifted = Shifted(0, False, 0.0, [])
        self.away = 0
        self.asked: list[list[str]] = []
        self.trimmed: list[tuple[int, list[str]]] = []

    def due(self, lanes: list[str]) -> Due:
        if self.away:
            self.away -= 1
            raise LedgerUnavailable("away")
        self.asked.append(lanes)
        return self.answer

    def shift(self, *_: Any, **__: Any) -> Shifted:
        return self.shifted

    def trim(self, _most: int) -> tuple[int, list[str]]:
        return self.trimmed.pop(0) if self.trimmed else (0, [])


class FakeRinger:
    def __init__(self) -> None:
        self.rung: list[str] = []
        self.closed = False

    def ring(self, lanes: Iterable[str]) -> None:
        self.rung += lanes

    def close(self, _timeout: float) -> None:
        self.closed = True


class FakeIsolation:
    def __init__(self) -> None:
        self.drained: list[str] = []
        self.isolated: list[str] = []
        self.ended = False

    def drain(self, lane: str) -> None:
        self.drained.append(lane)

    def isolate(self, lane: str) -> None:
        self.isolated.append(lane)

    def end(self) -> None:
        self.ended = True


class Bench:
    """A timer over fakes, of a worker that consumes the queue of all lanes but jobs/slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ledger, self.ringer, self.isolation = FakeLedger(), FakeRinger(), FakeIsolation()
        self.deaf = False
        self.stop = threading.Event()
        monkeypatch.setattr("worker.timer.ClockGuard", lambda _ledger: _Clock(self.ledger))
        self.ticker = Ticker(
            ledger=cast(Ledger, self.ledger),
            ringer=cast(BellRinger, self.ringer),
            isolation=cast(IsolationSupervisor, self.isolation),
            consumed=frozenset({"tiercast"}),
            stop=self.stop,
            config=lambda: CONFIG,
            is_deaf=lambda: self.deaf,
        )


class _Clock:
    def __init__(self, ledger: FakeLedger) -> None:
        self._ledger = ledger
        self.limits: tuple[str, ...] = ()

    def look(self) -> Shifted:
        return self._ledger.shifted


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_it_rings_for_what_is_due_and_looks_again_when_the_next_is(bench: Bench) -> None:
    bench.ledger.answer = Due(["jobs/one", "jobs/slow"], [], 0.3, [])
    assert bench.ticker.tick() == 0.3
    assert bench.ledger.asked == [LANES]
    assert bench.ringer.rung == ["jobs/one", "jobs/slow"]
    assert bench.isolation.drained == bench.isolation.isolated == []


@pytest.mark.parametrize(("next_in", "pause"), [(0.0, MIN_TICK_SECONDS), (500.0, MAX_TICK_SECONDS)])
def test_it_looks_once_a_second_at_the_least_and_never_in_a_busy_loop(
    bench: Bench, next_in: float, pause: float
) -> None:
    bench.ledger.answer = Due([], [], next_in, [])
    assert bench.ticker.tick() == pause


def test_a_worker_that_hears_has_no_lane_drained_elsewhere(bench: Bench) -> None:
    bench.ledger.answer = Due([], ["jobs/one"], 1.0, [])
    bench.ticker.tick()
    assert bench.isolation.drained == []


def test_a_deaf_worker_has_the_lanes_of_its_own_queues_drained(bench: Bench) -> None:
    bench.deaf = True
    bench.ledger.answer = Due([], ["jobs/one", "jobs/slow"], 1.0, [])
    bench.ticker.tick()
    assert bench.isolation.drained == ["jobs/one"]


def test_members_that_need_isolation_get_a_process_where_their_queue_is_consumed(bench: Bench) -> None:
    bench.ledger.answer = Due([], [], 1.0, ["deliveries/tea", "jobs/slow"])
    bench.ticker.tick()
    assert bench.isolation.isolated == ["deliveries/tea"]


def test_while_the_ledgers_clock_is_moved_it_goes_on_at_once(bench: Bench) -> None:
    bench.ledger.shifted = Shifted(3_600_000, True, 0.0, ["jobs/one"])
    bench.ledger.answer = Due([], [], 1.0, [])
    assert bench.ticker.tick() == MIN_TICK_SECONDS
    assert bench.ringer.rung == ["jobs/one"]


def test_what_has_outlived_its_retention_goes_in_steps_until_nothing_is_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ledger.trimmed = [(TRIM_MAX_DELIVERIES, ["jobs/one"]), (TRIM_MAX_DELIVERIES, []), (3, []), (3, ["jobs/slow"])]
    now = time.monotonic() + 2 * TRIM_SECONDS
    monkeypatch.setattr("worker.timer.time.monotonic", lambda: now)
    bench.ticker.tick()
    bench.ticker.tick()
    assert bench.ringer.rung == ["jobs/one"]
    assert len(bench.ledger.trimmed) == 1, "the next step comes when it is time"


def test_a_ledger_that_is_away_is_said_once_and_the_timer_goes_on(bench: Bench) -> None:
    bench.ledger.away = 2
    bench.ledger.answer = Due(["jobs/one"], [], 1.0, [])
    with capture_logs() as logs:
        thread = threading.Thread(target=bench.ticker.run)
        thread.start()
        wait_for(lambda: bench.ringer.rung, seconds=10)
        bench.stop.set()
        thread.join(10)
    levels = [line["log_level"] for line in logs]
    assert levels == ["warning", "info"]
    assert bench.ringer.closed
    assert bench.isolation.ended


def test_a_fault_of_ours_does_not_end_the_timer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([RuntimeError("a fault")])

    def due(_lanes: list[str]) -> Due:
        for error in answers:
            raise error
        return Due(["jobs/one"], [], 1.0, [])

    monkeypatch.setattr(bench.ledger, "due", due)
    thread = threading.Thread(target=bench.ticker.run)
    thread.start()
    wait_for(lambda: bench.ringer.rung, seconds=10)
    bench.stop.set()
    thread.join(10)
    assert not thread.is_alive()
