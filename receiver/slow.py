"""Ends requests whose body does not come.

Reading a body blocks a thread until it is there, and granian sets it no limit of time (see serve.py). So each process
has a thread for every connection that it takes: a client that stalls holds its own connection and nothing that another
needs. What bounds the time is this module: while a read is overdue, connections on which next to nothing arrives are
shut down, whereupon the read returns.

WSGI does not tell which connection a request came by, so what the kernel has counted of each decides (`TCP_INFO`,
Linux; see tcp(7)). A connection that idles between two requests may be shut down, too, as any server may do with one;
that happens only while somebody stalls. On other systems nothing is shut down.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time

import structlog

log = structlog.get_logger()

#: Seconds in which a body has to come: the sender gives up after ten.
BODY_TIMEOUT = 10.0

#: Bytes that a connection has to bring in that time so as not to count as stalled.
_LEAST = 1024

#: `tcpi_bytes_received` in Linux's `struct tcp_info` (linux/tcp.h; since 4.1).
_BYTES_RECEIVED = struct.Struct("=128xQ")

#: A connection: its descriptor, and its peer, since descriptors are used again.
Connection = tuple[int, object]


class Reads:
    """The reads of bodies that are under way in this process: `with` it a thread reads one."""

    def __init__(self) -> None:
        self._started: dict[int, float] = {}

    def __enter__(self) -> None:
        """Note that this thread reads a body, until it leaves."""
        self._started[threading.get_ident()] = time.monotonic()

    def __exit__(self, *_: object) -> None:
        del self._started[threading.get_ident()]

    def longest(self) -> float:
        """Seconds for which the oldest read has been under way; 0 if there is none."""
        started = min(list(self._started.values()), default=None)
        return 0.0 if started is None else time.monotonic() - started


class Sweeper:
    """Shuts down stalled connections that this process has accepted.

    Args:
        reads: nothing is looked at while none of them is slow.
        timeout: seconds.
    """

    def __init__(self, reads: Reads, *, timeout: float = BODY_TIMEOUT) -> None:
        self._reads = reads
        self._timeout = timeout
        self._seen: dict[Connection, tuple[float, int]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin to look around, where the system can tell what arrived."""
        if sys.platform == "linux":
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def sweep(self) -> int:
        """Look at all connections once; returns how many were shut down."""
        if self._reads.longest() < self._timeout / 5:
            self._seen.clear()
            return 0
        now = time.monotonic()
        ports, connections = _sockets()
        seen, closed = {}, 0
        for descriptor, connection in connections:
            with connection:
                try:
                    if connection.getsockname()[1] not in ports:
                        continue
                    key = (descriptor, connection.getpeername())
                    received = _received(connection)
                    since, before = self._seen.get(key, (now, received))
                    if received - before >= _LEAST:
                        since, before = now, received
                    if now - since >= self._timeout:
                        connection.shutdown(socket.SHUT_RDWR)
                        closed += 1
                        continue
                    seen[key] = (since, before)
                except OSError:
                    continue  # it has just been closed
        self._seen = seen
        return closed

    def _run(self) -> None:
        while not self._stopping.wait(self._timeout / 5):
            try:
                closed = self.sweep()
            except Exception as error:
                log.error("receiver.sweep_failed", error=type(error).__name__)
                continue
            if closed:
                log.warning("connections.ended", count=closed, reason=f"no body within {self._timeout:g} s")


def _sockets() -> tuple[set[int], list[tuple[int, socket.socket]]]:
    """The ports that this process listens on, and duplicates of its TCP connections."""
    ports: set[int] = set()
    connections: list[tuple[int, socket.socket]] = []
    for descriptor in map(int, os.listdir("/dev/fd")):  # noqa: PTH208 - numbers, not paths
        one = _duplicate(descriptor)
        if one is None:
            continue
        if one.family not in (socket.AF_INET, socket.AF_INET6) or one.type != socket.SOCK_STREAM:
            one.close()
        elif one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            ports.add(one.getsockname()[1])
            one.close()
        else:
            connections.append((descriptor, one))
    return ports, connections


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


def _received(connection: socket.socket) -> int:
    """Bytes that have arrived on a connection so far."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
    return int(_BYTES_RECEIVED.unpack(info)[0])


#: Those of this process.
READS = Reads()
