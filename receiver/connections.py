"""Ends connections that hold a place and bring nothing, so that there is always one for whoever is quick.

Reading a body blocks a thread until it is there, and granian sets it no limit of time (see serve.py). So each process
has a thread for every connection that it takes, and this module bounds what a connection may do with its place:

- A request has to be whole within `BODY_TIMEOUT_SECONDS` of its first byte, however it drips.
- Where no proxy is configured, an address has `PER_ADDRESS` places; an IPv6 network of 64 bits counts as one address.
- `RESERVE` places are kept free, so health and quick requests find one while slow ones fill all others.

For the last two, those go first that got an answer longest ago, and none that got one within a second.

WSGI does not tell which connection a request came by, so what the kernel has counted of each decides (`TCP_INFO`,
Linux; see tcp(7)): bytes that have arrived since the last answer are a request that is not whole. On other systems
nothing is shut down, and a proxy has to stand before the receiver.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import structlog

from .limits import CONNECTIONS

log = structlog.get_logger()

#: Seconds within which a body has to be whole: the sender gives up after ten.
BODY_TIMEOUT_SECONDS = 10.0


#: Connections that are kept free for whoever comes next, health among them.
RESERVE = 64

#: Connections that one address may keep in a process where no proxy is configured.
PER_ADDRESS = 64

#: Seconds between two looks.
_LOOK = 0.5

#: Seconds without an answer after which a connection may have to make room.
_SLOW = 1.0

#: Descriptors of a process beside its connections, roughly.
_OTHERS = 48

#: `tcpi_state`, `tcpi_bytes_acked` and `tcpi_bytes_received` in Linux's `struct tcp_info` (linux/tcp.h; since 4.1).
_INFO = struct.Struct("=B119xQQ")

#: States of a connection that we have not shut down: TCP_ESTABLISHED and TCP_CLOSE_WAIT (the peer sends no more).
_OPEN = (1, 8)

#: A connection: its descriptor, and its peer, since descriptors are used again.
Connection = tuple[int, object]


class Reads:
    """The reads of bodies that are under way in this process."""

    def __init__(self) -> None:
        self._started: dict[int, float] = {}

    def read(self, stream: Any, size: int) -> bytes:
        """Read a body that is one piece, which nearly all are."""
        thread = threading.get_ident()
        self._started[thread] = time.monotonic()
        try:
            piece: bytes = stream.read(size)
            return piece
        finally:
            del self._started[thread]

    @contextmanager
    def since(self, started: float) -> Iterator[None]:
        """Within it this thread reads from a body that it began to read at `started` (monotonic clock)."""
        self._started[threading.get_ident()] = started
        try:
            yield
        finally:
            del self._started[threading.get_ident()]

    def longest(self) -> float:
        """Seconds since the oldest body that a thread waits for was begun; 0 if none does."""
        started = min(list(self._started.values()), default=None)
        return 0.0 if started is None else time.monotonic() - started


@dataclass(slots=True)
class _Seen:
    """What is known of a connection. Times are seconds of the monotonic clock.

    `answered` is when its last answer was seen, or it itself for the first time; `begun` is since when a request is
    under way, None where none is.
    """

    answered: float
    begun: float | None
    acked: int
    received: int


class Sweeper:
    """Shuts down connections that this process has accepted.

    Args:
        reads: the reads of bodies that are under way.
        timeout: seconds within which a request has to be whole.
        most: connections that the process takes.
        reserve: how many of them are kept free.
        per_address: how many an address may keep; None for no limit.
        each: is called at each look, about twice a second.
    """

    def __init__(
        self,
        reads: Reads,
        *,
        timeout: float = BODY_TIMEOUT_SECONDS,
        most: int = CONNECTIONS,
        reserve: int = RESERVE,
        per_address: int | None = None,
        each: Callable[[], None] = lambda: None,
    ) -> None:
        self._reads = reads
        self._timeout = timeout
        self._look = min(_LOOK, timeout / 10)
        self._slow = min(_SLOW, timeout / 10)
        self._most = most - reserve
        self._per_address = per_address
        self._each = each
        self._seen: dict[Connection, _Seen] = {}
        self._ended = 0
        self._told = float("-inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin to look around; connections are shut down only where the system can tell what arrived."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def sweep(self) -> int:
        """Look at all connections once; returns how many were shut down."""
        longest = self._reads.longest()
        descriptors = os.listdir("/dev/fd")  # noqa: PTH208 - numbers, not paths
        crowded = len(descriptors) > _OTHERS + min(self._per_address or self._most, self._most)
        if longest < self._look and not crowded:
            self._seen.clear()
            return 0
        now = time.monotonic()
        found = {}
        for connection, acked, received in _accepted(map(int, descriptors)):
            found[connection] = _look_at(self._seen.get(connection), now, acked, received)
        self._seen = found
        ended = [one for one, seen in found.items() if self._is_late(seen, now, longest)]
        ended += self._crowding({one: seen for one, seen in found.items() if one not in set(ended)}, now)
        for one in ended:
            del found[one]
        return sum(_shut_down(one) for one in ended)

    def _is_late(self, seen: _Seen, now: float, longest: float) -> bool:
        # It may have begun up to two looks before it was seen to.
        patience = self._timeout - 2 * self._look
        if seen.begun is not None and now - seen.begun >= patience:
            return True
        # A request whose first bytes arrived with the last answer is not seen to begin; its read is seen to last.
        overdue = self._timeout * 1.2
        return longest >= overdue and now - seen.answered >= overdue

    def _crowding(self, found: dict[Connection, _Seen], now: float) -> list[Connection]:
        """Which slow connections have to make room, for others of their address and for those of all addresses."""
        slow = sorted(
            (one for one, seen in found.items() if now - seen.answered >= self._slow),
            key=lambda one: found[one].answered,
        )
        ended: set[Connection] = set()
        if self._per_address is not None:
            counts: dict[str, int] = defaultdict(int)
            for one in found:
                counts[_address(one)] += 1
            for one in slow:
                if counts[_address(one)] > self._per_address:
                    counts[_address(one)] -= 1
                    ended.add(one)
        excess = len(found) - len(ended) - self._most
        if excess > 0:
            ended.update([one for one in slow if one not in ended][:excess])
        return list(ended)

    def _run(self) -> None:
        while not self._stopping.wait(self._look):
            try:
                self._each()
                if sys.platform == "linux":
                    self._ended += self.sweep()
            except Exception as error:
                log.error("receiver.sweep_failed", error=type(error).__name__)
                continue
            now = time.monotonic()
            if self._ended and now - self._told >= 1:
                log.warning("connections.ended", count=self._ended, reason="slow, or too many of one address")
                self._ended, self._told = 0, now


def _look_at(before: _Seen | None, now: float, acked: int, received: int) -> _Seen:
    if before is None:
        # The first byte that is acknowledged is the handshake's; more of them are an answer.
        return _Seen(now, now if received and acked <= 1 else None, acked, received)
    if acked > before.acked:
        return _Seen(now, None, acked, received)
    if received > before.received and before.begun is None:
        return _Seen(before.answered, now, acked, received)
    return before


def _address(connection: Connection) -> str:
    """What counts as one address: all of IPv4's, the network of IPv6's."""
    peer = connection[1]
    text = str(peer[0]).partition("%")[0] if isinstance(peer, tuple) else ""
    try:
        address = ip_address(text)
    except ValueError:
        return text
    if address.version == 4:
        return text
    return address.ipv4_mapped.compressed if address.ipv4_mapped else address.exploded[:19]


def _accepted(descriptors: Iterator[int]) -> Iterator[tuple[Connection, int, int]]:
    """This process's accepted TCP connections, with the bytes acknowledged and received of each.

    What listens is found first: a connection that this process opened itself has another port.
    """
    ports: set[int] = set()
    found: list[tuple[int, Connection, int, int]] = []
    for descriptor in descriptors:
        one = _duplicate(descriptor)
        if one is None:
            continue
        with one:
            if one.family not in (socket.AF_INET, socket.AF_INET6) or one.type != socket.SOCK_STREAM:
                continue
            try:
                port = one.getsockname()[1]
                if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    ports.add(port)
                    continue
                info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
                state, acked, received = _INFO.unpack(info)
                if state in _OPEN:
                    found.append((port, (descriptor, one.getpeername()), acked, received))
            except OSError:
                continue  # it has just been closed
    return ((connection, acked, received) for port, connection, acked, received in found if port in ports)


def _shut_down(connection: Connection) -> bool:
    """Shut a connection down if its descriptor is still its own."""
    one = _duplicate(connection[0])
    if one is None:
        return False
    with one:
        try:
            if one.getpeername() != connection[1]:
                return False
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
    return True


def _duplicate(descriptor: int) -> socket.socket | None:
    """Another handle on a socket, so that it cannot meanwhile become something else; None for what is no socket."""
    try:
        own = os.dup(descriptor)
    except OSError:
        return None  # it has just been closed
    try:
        return socket.socket(fileno=own)
    except OSError:
        os.close(own)
        return None


#: Those of this process.
READS = Reads()
