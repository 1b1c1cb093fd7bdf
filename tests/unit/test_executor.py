"""Jobs that are performed: as many at once as the window allows, each with one outcome, whatever its kind does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.holding import action_spec, held_job
from tests.kinds import Async, AsyncBulk, Bulk, Marking, Scripted, marks
from tests.stack import wait_for
from tiercast.ledger.model import Claim, Exchange, HeldJob, Outcome
from worker.execution.executor import Executor
from worker.execution.leases import LeaseTable
from worker.execution.outbox import Outbox
from worker.execution.window import START_CALLS, START_THREADS

KINDS = [Scripted, Bulk, Async, AsyncBulk]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


class Bench:
    """An executor with what it needs, and what it settled."""

    def __init__(self, loop: asyncio.AbstractEventLoop, cls: type[Marking], folder: Path, **changes: Any) -> None:
        self.effects = folder / "effects"
        self.loop = loop
        self.started = 0
        self.outcomes: list[Outcome] = []
        spec = action_spec(cls, self.effects, **changes)
        self.leases = LeaseTable(30.0, 60.0)
        self.outbox = Outbox(self._settle)
        self.executor = Executor(spec, spec.make(), self.leases, self.outbox, loop)

    def _settle(self, outcomes: list[Outcome], claim: Claim | None) -> Exchange[HeldJob]:
        self.outcomes += outcomes
        return Exchange([(each.job, each.verdict, "") for each in outcomes], [], [], False)

    def start(self, *behaviours: str, more: bool = False, ago: float = 0.0, **changes: Any) -> None:
        first = self.started + 1
        self.started += len(behaviours)
        jobs = [held_job(name, first + number, **changes) for number, name in enumerate(behaviours)]
        self.executor.start(jobs, time.monotonic() - ago, more=more)

    def verdicts(self) -> Counter[str]:
        """What has come of the jobs so far."""
        self.outbox.exchange(None)
        return Counter(each.verdict for each in self.outcomes)

    def end(self) -> Counter[str]:
        """Wait until each job has its outcome; returns what came of all."""
        wait_for(lambda: self.verdicts().total() >= self.started, seconds=20, every=0.005)
        return self.verdicts()

    def on_loop(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)


@pytest.mark.parametrize("cls", KINDS)
def test_each_job_gets_one_outcome(loop: asyncio.AbstractEventLoop, cls: type[Marking], tmp_path: Path) -> None:
    bench = Bench(loop, cls, tmp_path)
    bench.start(*["done"] * 30, "permanent", "skip", "later", "raises", "exits", "odd", "unavailable", "rate-limited")

    assert bench.end() == {"done": 31, "dead": 1, "skipped": 1, "later": 4, "released": 1}
    assert len({each.job for each in bench.outcomes}) == len(bench.outcomes) == 38
    assert len(marks(bench.effects)) == 31
    signals = Counter(each.signal for each in bench.outcomes if each.signal)
    assert signals == {"outage": 1, "rate": 1}


@pytest.mark.parametrize(("cls", "at_once"), [(Scripted, START_THREADS), (Async, START_CALLS)])
def test_no_more_run_at_once_than_the_window_allows(
    loop: asyncio.AbstractEventLoop, cls: type[Marking], at_once: int, tmp_path: Path
) -> None:
    bench = Bench(loop, cls, tmp_path, seconds=0.3)
    assert bench.executor.capacity() == at_once
    bench.start(*["slow"] * at_once * 2)
    wait_for(lambda: len(marks(bench.effects, "begin")) == at_once, every=0.005)
    assert bench.executor.capacity() == 0
    assert bench.leases.running() == at_once, "the others wait"
    assert bench.end() == {"done": at_once * 2}


def test_concurrency_is_never_exceeded(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    bench = Bench(loop, Async, tmp_path, concurrency=3, seconds=0.02)
    bench.start(*["slow"] * 30)
    most = 0
    while not bench.executor.is_idle():
        most = max(most, bench.leases.running())
        time.sleep(0.001)
    assert most == 3
    assert bench.end() == {"done": 30}


def test_the_window_grows_while_calls_take_no_longer(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    bench = Bench(loop, Async, tmp_path, seconds=0.05)
    for _ in range(50):  # a busy machine makes some calls take longer
        bench.start(*["slow"] * max(1, bench.executor.capacity()))
        bench.end()
        if bench.executor.window.size > START_CALLS:
            break
    assert bench.executor.window.size > START_CALLS


def test_a_job_whose_start_was_reserved_for_later_waits_for_it(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    bench = Bench(loop, Async, tmp_path)
    began = time.monotonic()
    bench.start("done", delay=0.3)
    assert bench.end() == {"done": 1}
    assert time.monotonic() - began >= 0.29


@pytest.mark.parametrize("cls", KINDS)
def test_a_job_whose_lease_ends_soon_is_given_back(
    loop: asyncio.AbstractEventLoop, cls: type[Marking], tmp_path: Path
) -> None:
    bench = Bench(loop, cls, tmp_path)
    bench.start("done", "done", ago=28.0)
    assert bench.end() == {"released": 2}
    assert marks(bench.effects) == []


@pytest.mark.parametrize("cls", [Scripted, Async])
def test_waiting_jobs_are_given_back_and_running_ones_go_on(
    loop: asyncio.AbstractEventLoop, cls: type[Marking], tmp_path: Path
) -> None:
    bench = Bench(loop, cls, tmp_path, concurrency=2, seconds=0.5)
    bench.start(*["slow"] * 10)
    wait_for(lambda: bench.leases.running() == 2, every=0.005)

    bench.executor.release_waiting()

    assert bench.verdicts() == {"released": 8}
    assert bench.end() == {"released": 8, "done": 2}


def test_waiting_jobs_are_given_back_once_they_have_waited_long_behind_others(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    bench = Bench(loop, Async, tmp_path, concurrency=1, seconds=0.4)
    bench.start("slow", "done", "done")
    wait_for(lambda: bench.leases.running() == 1, every=0.005)
    bench.executor.release_stuck(60.0)
    assert bench.verdicts() == {}
    bench.executor.release_stuck(0.0)
    assert bench.verdicts() == {"released": 2}
    assert bench.end() == {"released": 2, "done": 1}


@pytest.mark.parametrize("cls", KINDS)
def test_an_executor_that_is_closed_begins_nothing_more(
    loop: asyncio.AbstractEventLoop, cls: type[Marking], tmp_path: Path
) -> None:
    bench = Bench(loop, cls, tmp_path)
    bench.executor.close()
    assert bench.executor.capacity() == 0
    bench.start("done", "done")
    assert bench.end() == {"released": 2}
    assert marks(bench.effects, "effect") == []


@pytest.mark.parametrize("cls", [Async, AsyncBulk])
def test_an_async_call_past_its_time_out_is_cancelled_and_the_next_is_made(
    loop: asyncio.AbstractEventLoop, cls: type[Marking], tmp_path: Path
) -> None:
    bench = Bench(loop, cls, tmp_path, timeout=0.1)
    bench.start("hang")
    assert bench.end() == {"later": 1}
    assert [each.effect_possible for each in bench.outcomes] == [True], "it may have happened"
    assert "did not end within its time-out of 0.1 s" in (bench.outcomes[0].text or "")
    assert len(marks(bench.effects, "cancelled")) == 1
    bench.start("done")
    assert bench.end() == {"later": 1, "done": 1}


def test_refusals_and_time_outs_shrink_the_window(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    bench = Bench(loop, Async, tmp_path)
    bench.start("unavailable")
    bench.end()
    assert bench.executor.window.size < START_CALLS


@pytest.mark.parametrize("cls", [Async, AsyncBulk])
def test_cancelling_gives_every_call_that_runs_an_outcome(
    loop: asyncio.AbstractEventLoop, cls: type[Marking], tmp_path: Path
) -> None:
    bench = Bench(loop, cls, tmp_path, timeout=60)
    bench.start(*["hang"] * 10)
    wait_for(lambda: bench.leases.running() == 10, every=0.005)
    bench.executor.close()

    bench.on_loop(bench.executor.cancel())

    assert bench.end().total() == 10
    assert bench.executor.is_idle()
    assert set(bench.verdicts()) <= {"later", "released"}


def test_a_bulk_call_waits_for_more_jobs_only_while_others_are_under_way(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    # Given a call under way, and one job of which it is said that more will follow
    bench = Bench(loop, AsyncBulk, tmp_path, seconds=0.3)
    bench.start("slow", more=True)
    wait_for(lambda: bench.leases.running() == 1, every=0.005)
    bench.start("done", more=True)
    bench.start(*["done"] * 8, more=False)

    assert bench.end() == {"done": 10}
    assert len(marks(bench.effects, "call")) == 2, "one for the first, one for all others"


def test_a_thread_that_cannot_be_started_costs_nothing(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    bench = Bench(loop, Scripted, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        bench.start("done")
        assert bench.end() == {"released": 1}
    bench.start("done")
    assert bench.end() == {"released": 1, "done": 1}
    wait_for(lambda: bench.executor.window.in_flight <= 0, every=0.005)
    assert bench.executor.window.in_flight == 0, "the call that was not made is not counted twice"
