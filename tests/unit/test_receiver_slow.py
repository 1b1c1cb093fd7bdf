"""The sweeper: shuts down connections on which nothing comes, and only while somebody waits for a body."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from receiver.slow import Reads, Sweeper

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's count is Linux's")


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


@contextmanager
def pair(listener: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's connection and the server's end of it."""
    client = socket.create_connection(listener.getsockname(), timeout=10)
    accepted, _ = listener.accept()
    accepted.settimeout(20)
    with client, accepted:
        yield client, accepted


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def read_all(reads: Reads, accepted: socket.socket, got: list[bytes]) -> None:
    with reads:
        while chunk := accepted.recv(65536):
            got.append(chunk)


def test_stalled_and_trickling_connections_are_ended_and_busy_ones_are_not(listener: socket.socket) -> None:
    reads = Reads()
    sweeper = Sweeper(reads, timeout=1.0)
    with pair(listener) as (stalled, one), pair(listener) as (trickling, two), pair(listener) as (busy, three):
        got: list[list[bytes]] = [[], [], []]
        threads = [
            threading.Thread(target=read_all, args=(reads, accepted, into))
            for accepted, into in zip((one, two, three), got, strict=True)
        ]
        for thread in threads:
            thread.start()
        stalled.sendall(b"half")

        # When one sends nothing more, one a byte now and then, one a body at a decent pace
        closed = 0
        deadline = time.monotonic() + 20
        while closed < 2:
            assert time.monotonic() < deadline
            busy.sendall(b"x" * 2000)
            try:
                trickling.sendall(b"x")
            except OSError:
                trickling.close()
            time.sleep(0.1)
            closed += sweeper.sweep()

        # Then the reads of the first two have returned, and the third goes on
        threads[0].join(10)
        threads[1].join(10)
        assert [thread.is_alive() for thread in threads] == [False, False, True]
        assert b"".join(got[0]) == b"half"
        busy.close()
        threads[2].join(10)
    assert reads.longest() == 0


def test_nothing_is_ended_while_nobody_waits_for_a_body(listener: socket.socket) -> None:
    sweeper = Sweeper(Reads(), timeout=0.01)
    with pair(listener) as (client, accepted):
        for _ in range(5):
            assert sweeper.sweep() == 0
            time.sleep(0.01)
        client.sendall(b"still there")
        assert accepted.recv(100) == b"still there"


def test_connections_that_this_process_opened_are_left_alone(listener: socket.socket) -> None:
    """The ledger's and the broker's, which idle as they please."""
    outside = socket.create_server(("127.0.0.1", 0))
    reads = Reads()
    sweeper = Sweeper(reads, timeout=0.05)
    with pair(outside) as (own, theirs), reads:
        outside.close()
        time.sleep(0.06)
        for _ in range(3):
            assert sweeper.sweep() == 0
            time.sleep(0.06)
        theirs.sendall(b"pong")
        assert own.recv(10) == b"pong"


def test_it_runs_by_itself_and_stops(listener: socket.socket) -> None:
    reads = Reads()
    sweeper = Sweeper(reads, timeout=0.2)
    sweeper.start()
    got: list[bytes] = []
    with pair(listener) as (client, accepted):
        client.sendall(b"half")
        read_all(reads, accepted, got)
    sweeper.stop()
    assert got == [b"half"]
    assert not sweeper._thread.is_alive()


def test_longest_read_is_that_of_the_thread_that_waits_longest() -> None:
    reads = Reads()
    assert reads.longest() == 0
    with reads:
        until(lambda: reads.longest() > 0.05)
    assert reads.longest() == 0
