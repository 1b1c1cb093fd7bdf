"""The load generator: one thread, kept connections, requests made beforehand. A program of its own, so that it can
say what CPU time it took from the two cores it shares with what it measures: `python -m bench.load < plan.json`.

Closed loop: each connection sends its next request when its last is answered. Open loop: requests are due at a
fixed rate, whatever the answers do, and latency counts from when a request was due.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from .events import PATH, event_ids, requests

#: Seconds without any answer after which the measurement is given up.
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to send. `rate` is requests a second, None for the closed loop; `ids` are the events', made if not given."""

    port: int
    secret: str
    count: int = 0
    connections: int = 32
    rate: float | None = None
    prefix: str = "evcus_"
    path: str = PATH
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came back. Times are seconds; `sent` holds when each request was written, since 1970, by event id."""

    acks: int
    refused: int
    seconds: float
    began: float
    cpu: float
    latencies: list[float]
    sent: dict[str, float] = field(default_factory=dict)


class Answers:
    """Takes whole answers out of a connection's bytes; they carry a Content-Length."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, some: bytes) -> int | None:
        """Add bytes; the status once the answer is whole, else None."""
        self._bytes += some
        head, gap, rest = self._bytes.partition(b"\r\n\r\n")
        if not gap:
            return None
        if len(rest) < _length(head):
            return None
        self._bytes = b""
        return int(head[9:12])


def _length(head: bytes) -> int:
    at = head.lower().find(b"\r\ncontent-length:")
    if at < 0:
        raise ValueError("an answer without a Content-Length; the load generator reads no other")
    return int(head[at + 17 :].split(b"\r\n", 1)[0])


class Generator:
    """Sends requests over kept connections and notes when they were due, sent and answered."""

    def __init__(self, plan: Plan, ids: Sequence[str], payloads: Sequence[bytes]) -> None:
        self._plan = plan
        self._ids = ids
        self._payloads = payloads
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._answers: dict[int, Answers] = {}
        self._since: dict[int, float] = {}
        self._latencies: list[float] = []
        self._sent: dict[str, float] = {}
        self._refused = 0
        self._next = 0

    def run(self) -> Load:
        """Send everything; return when everything is answered.

        Raises:
            TimeoutError: nothing was answered for a long time.
        """
        self._connect()
        used = _cpu()
        began_at, began = time.time(), time.perf_counter()
        if self._plan.rate is None:
            self._closed()
        else:
            self._open(1 / self._plan.rate)
        seconds, cpu = time.perf_counter() - began, _cpu() - used
        for connection in self._sockets.values():
            connection.close()
        self._epoll.close()
        return Load(
            acks=len(self._latencies) - self._refused,
            refused=self._refused,
            seconds=seconds,
            began=began_at,
            cpu=cpu,
            latencies=self._latencies,
            sent=self._sent,
        )

    def _connect(self) -> None:
        for _ in range(min(self._plan.connections, len(self._payloads))):
            connection = socket.create_connection(("127.0.0.1", self._plan.port), timeout=_PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = connection.fileno()
            self._sockets[number] = connection
            self._answers[number] = Answers()
            self._epoll.register(number, select.EPOLLIN)

    def _closed(self) -> None:
        for number in self._sockets:
            self._send(number, time.perf_counter())
        while len(self._latencies) < len(self._payloads):
            for number in self._answered(_PATIENCE):
                if self._next < len(self._payloads):
                    self._send(number, time.perf_counter())

    def _open(self, interval: float) -> None:
        free = deque(self._sockets)
        waiting: deque[float] = deque()
        due = time.perf_counter()
        left = len(self._payloads)
        while len(self._latencies) < len(self._payloads):
            now = time.perf_counter()
            while left and due <= now:
                waiting.append(due)
                due += interval
                left -= 1
            while waiting and free:
                self._send(free.popleft(), waiting.popleft())
            pause = max(0.0, due - time.perf_counter()) if left else _PATIENCE
            # epoll rounds up to milliseconds, select waits for microseconds, and an epoll can be selected.
            if select.select([self._epoll.fileno()], [], [], pause)[0]:
                free.extend(self._answered(0))
            elif not left:
                raise TimeoutError(f"no answer for {_PATIENCE:.0f} s")

    def _send(self, number: int, due: float) -> None:
        self._since[number] = due
        self._sent[self._ids[self._next]] = time.time()
        self._sockets[number].sendall(self._payloads[self._next])
        self._next += 1

    def _answered(self, timeout: float) -> Iterator[int]:
        ready = self._epoll.poll(timeout)
        if not ready and timeout:
            raise TimeoutError(f"no answer for {timeout:.0f} s")
        for number, _ in ready:
            some = self._sockets[number].recv(65536)
            if not some:
                raise ConnectionError("the server closed a connection while it owed an answer")
            status = self._answers[number].feed(some)
            if status is not None:
                self._latencies.append(time.perf_counter() - self._since[number])
                self._refused += not 200 <= status < 300
                yield number


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(plan: Plan) -> Load:
    """Make the requests, then send them."""
    ids = list(plan.ids) or event_ids(plan.count, plan.prefix)
    return Generator(plan, ids, requests(ids, plan.secret, path=plan.path)).run()


if __name__ == "__main__":
    json.dump(asdict(run(Plan(**json.load(sys.stdin)))), sys.stdout)
