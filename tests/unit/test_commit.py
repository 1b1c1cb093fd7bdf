"""Group commit: batches form by themselves, nobody is lost, errors reach those they concern."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from random import Random

import pytest

from receiver.commit import GroupCommit, Triple

Batch = list[str]


class Disk:
    """A store whose writes stop at a gate, so that a test decides what waits meanwhile."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.failures: list[BaseException] = []

    def write(self, batch: Sequence[Triple]) -> int:
        self.batches.append([delivery for _, delivery, _ in batch])
        self.entered.release()
        assert self.gate.acquire(timeout=10)
        if self.failures:
            raise self.failures.pop(0)
        return len(batch)


class Crowd:
    """Threads that submit while a write is under way."""

    def __init__(self, commit: GroupCommit[int]) -> None:
        self.commit = commit
        self.pool = ThreadPoolExecutor(64)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def submit(self, delivery: str, body: bytes = b"{}", source: str = "shop") -> Future[None]:
        """Submit from a thread of its own, and return when that thread leads or waits."""
        before = self.arrived()
        future = self.pool.submit(self.commit.submit, source, delivery, body)
        deadline = time.monotonic() + 10
        while self.arrived() == before:
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        return future

    def arrived(self) -> tuple[bool, int]:
        return self.commit._led, len(self.commit._waiting)


def test_one_alone_is_written_at_once_by_its_own_thread() -> None:
    writers: list[threading.Thread] = []
    commit = GroupCommit(lambda batch: writers.append(threading.current_thread()))

    commit.submit("shop", "1", b"{}")
    commit.submit("shop", "2", b"{}")

    assert writers == [threading.current_thread()] * 2


def test_what_arrives_during_a_write_is_written_together_after_it() -> None:
    # Given a write under way
    disk = Disk()
    with Crowd(GroupCommit(disk.write)) as crowd:
        futures = [crowd.submit("first")]
        assert disk.entered.acquire(timeout=10)

        # When twenty more arrive, of two sources
        futures += [crowd.submit(str(number), source=f"shop{number % 2}") for number in range(20)]
        disk.gate.release(2)

        # Then one more write takes them all, in the order of arrival
        for future in futures:
            future.result(timeout=10)
    assert disk.batches == [["first"], [str(number) for number in range(20)]]


def test_error_reaches_its_whole_batch_and_no_other() -> None:
    disk = Disk()
    with Crowd(GroupCommit(disk.write)) as crowd:
        good = [crowd.submit("good")]
        assert disk.entered.acquire(timeout=10)
        bad = [crowd.submit(f"bad{number}") for number in range(5)]
        disk.gate.release()
        assert disk.entered.acquire(timeout=10)
        disk.failures = [OSError("the disk is gone")]
        good += [crowd.submit(f"late{number}") for number in range(5)]
        disk.gate.release(2)

        for future in bad:
            with pytest.raises(OSError, match="the disk is gone"):
                future.result(timeout=10)
        for future in good:
            future.result(timeout=10)
    assert [len(batch) for batch in disk.batches] == [1, 5, 5]


def test_commit_works_on_after_a_failure_with_nobody_waiting() -> None:
    disk = Disk()
    disk.gate.release(2)
    disk.failures = [OSError("away")]
    commit = GroupCommit(disk.write)

    with pytest.raises(OSError, match="away"):
        commit.submit("shop", "1", b"{}")
    commit.submit("shop", "2", b"{}")

    assert disk.batches == [["1"], ["2"]]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1] * 7, [3, 3, 1]),
        ([60, 60, 60], [1, 1, 1]),
        ([50, 50, 1], [2, 1]),
        ([500, 1], [1, 1]),
    ],
)
def test_batches_are_bounded_by_count_and_bytes(sizes: list[int], expected: list[int]) -> None:
    disk = Disk()
    with Crowd(GroupCommit(disk.write, max_count=3, max_bytes=100)) as crowd:
        futures = [crowd.submit("first")]
        assert disk.entered.acquire(timeout=10)
        futures += [crowd.submit(str(number), b"x" * size) for number, size in enumerate(sizes)]
        disk.gate.release(1 + len(expected))
        for future in futures:
            future.result(timeout=10)
    assert [len(batch) for batch in disk.batches] == [1, *expected]


def test_then_gets_each_batch_once_and_only_where_it_was_stored() -> None:
    disk = Disk()
    disk.gate.release(2)
    seen: list[tuple[list[str], int]] = []
    commit = GroupCommit(disk.write, then=lambda batch, result: seen.append(([one[1] for one in batch], result)))

    commit.submit("shop", "1", b"{}")
    disk.failures = [OSError("away")]
    with pytest.raises(OSError, match="away"):
        commit.submit("shop", "2", b"{}")

    assert seen == [(["1"], 1)]


def test_failed_bodies_are_freed_at_once() -> None:
    """An error that many requests share must not keep their bodies alive until the next garbage collection."""

    class AwayError(Exception):
        """An exception that can be watched."""

    def refused(delivery: str, seen: list[weakref.ref[BaseException]]) -> None:
        try:
            commit.submit("shop", delivery, b"{}")
        except AwayError as error:
            seen.append(weakref.ref(error))

    # Given a write under way, behind which three wait for one that will fail
    disk = Disk()
    commit = GroupCommit(disk.write)
    seen: list[weakref.ref[BaseException]] = []
    gc.disable()
    try:
        with Crowd(commit) as crowd:
            crowd.submit("first")
            assert disk.entered.acquire(timeout=10)
            threads = [threading.Thread(target=refused, args=(str(number), seen)) for number in range(3)]
            for count, thread in enumerate(threads):
                thread.start()
                while len(commit._waiting) == count:
                    time.sleep(0.0005)
            disk.gate.release()
            assert disk.entered.acquire(timeout=10)

            # When it has failed and all have heard of it
            disk.failures = [AwayError()]
            disk.gate.release()
            for thread in threads:
                thread.join(10)

        # Then nothing holds the error, and the bodies in its traceback, any longer
        assert [reference() for reference in seen] == [None] * 3
    finally:
        gc.enable()


def test_many_threads_lose_nothing() -> None:
    # Given a store that fails now and then, and 32 threads that submit 50 each
    random = Random(7)
    stored: list[str] = []
    refused = 0

    def write(batch: Sequence[Triple]) -> None:
        if random.random() < 0.1:
            raise OSError("now and then")
        stored.extend(delivery for _, delivery, _ in batch)

    commit = GroupCommit(write, max_count=10)

    def client(number: int) -> tuple[list[str], int]:
        acknowledged, failed = [], 0
        for step in range(50):
            name = f"{number}-{step}"
            try:
                commit.submit("shop", name, b"{}")
                acknowledged.append(name)
            except OSError:
                failed += 1
        return acknowledged, failed

    # When all of them are through
    with ThreadPoolExecutor(32) as pool:
        results = list(pool.map(client, range(32)))

    # Then exactly what was acknowledged is stored, once
    acknowledged = [name for names, _ in results for name in names]
    refused = sum(failed for _, failed in results)
    assert sorted(acknowledged) == sorted(stored)
    assert len(acknowledged) + refused == 1600
    assert refused > 0
