"""The sweeper: shuts down connections that hold a place and bring nothing, and leaves alone who is quick."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from receiver.connections import Reads, Sweeper

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
    with reads.since(time.monotonic()):
        while chunk := accepted.recv(65536):
            got.append(chunk)


def answer(accepted: socket.socket, client: socket.socket) -> None:
    """Let the server's end answer."""
    accepted.sendall(b"202")
    assert client.recv(10) == b"202"


def is_ended(client: socket.socket) -> bool:
    client.settimeout(0.01)
    try:
        return client.recv(10) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_request_is_ended_in_time_however_much_of_it_comes_and_answered_ones_are_not(
    listener: socket.socket,
) -> None:
    reads = Reads()
    sweeper = Sweeper(reads, timeout=1.0)
    with pair(listener) as (stalled, one), pair(listener) as (steady, two), pair(listener) as (quick, three):
        got: list[list[bytes]] = [[], []]
        threads = [
            threading.Thread(target=read_all, args=(reads, accepted, into))
            for accepted, into in zip((one, two), got, strict=True)
        ]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        stalled.sendall(b"half")

        # When one sends nothing more, one goes on without an end, and one has each request answered
        closed = 0
        while closed < 2:
            assert time.monotonic() < started + 20
            with contextlib.suppress(OSError):
                steady.sendall(b"x" * 20_000)
            quick.sendall(b"request")
            assert three.recv(100)
            answer(three, quick)
            time.sleep(0.05)
            closed += sweeper.sweep()

        # Then the reads of the first two have ended, not before their time, and the third is served
        assert time.monotonic() - started >= 0.8
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert b"".join(got[0]) == b"half"
        quick.sendall(b"more")
        assert three.recv(100) == b"more"
    assert reads.longest() == 0


def crowd(listener: socket.socket, stack: ExitStack, count: int) -> list[socket.socket]:
    """Connections that send nothing."""
    return [stack.enter_context(pair(listener))[0] for _ in range(count)]


@pytest.mark.parametrize(
    ("limits", "left"), [({"per_address": 5}, 5), ({"most": 60, "reserve": 53}, 7), ({"most": 60, "reserve": 10}, 50)]
)
def test_slow_connections_make_room_oldest_first(listener: socket.socket, limits: dict[str, Any], left: int) -> None:
    sweeper = Sweeper(Reads(), timeout=1.0, **limits)
    with ExitStack() as stack:
        connections = crowd(listener, stack, 70)
        newest = stack.enter_context(pair(listener))[0]
        # None that is quick has to go
        assert sweeper.sweep() == 0
        time.sleep(0.15)
        until(lambda: sweeper.sweep() == 0 and sum(not is_ended(one) for one in [*connections, newest]) == left)
        assert not is_ended(newest)


def test_without_a_limit_an_address_has_all_but_the_reserve(listener: socket.socket) -> None:
    sweeper = Sweeper(Reads(), timeout=1.0, most=200, reserve=20)
    with ExitStack() as stack:
        crowd(listener, stack, 100)
        for _ in range(3):
            assert sweeper.sweep() == 0
            time.sleep(0.15)


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
    with pair(outside) as (own, theirs), reads.since(time.monotonic()):
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


def test_longest_read_is_that_of_the_thread_that_waits_longest() -> None:
    reads = Reads()
    assert reads.longest() == 0
    with reads.since(time.monotonic()):
        until(lambda: reads.longest() > 0.05)
    assert reads.longest() == 0
