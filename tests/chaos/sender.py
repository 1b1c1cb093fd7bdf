"""The sender: posts signed events as Voucherify would, repeats what was not acknowledged, counts every 202."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tiercast.samples import envelope, new_id, sample_data
from tiercast.signature import sign

JOINED = "customer.loyalty.tier.joined"
UPGRADED = "customer.loyalty.tier.upgraded"

#: Seconds between two tries of one event; the real sender waits a minute.
_AGAIN = 0.25

#: Seconds that an answer may take; the real sender waits ten.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """One 202: the event's id and type, the delivery's id, and how many seconds the answer took."""

    event: str
    type: str
    delivery: str
    took: float


@dataclass(slots=True)
class Sender:
    """Sends `count` events at `rate` a second from threads with connections that are kept.

    Args:
        ports: asked before each try: where receivers listen; an event that one did not take goes to the next.
    """

    secret: str
    ports: Callable[[], list[int]]
    count: int
    rate: float = 200.0
    threads: int = 12
    path: str = "/webhooks/voucherify"
    #: How many copies of each event are sent, all at once; and the types of the events, one after the other.
    copies: int = 1
    types: tuple[str, ...] = (*[JOINED] * 7, UPGRADED)
    accepted: list[Accepted] = field(default_factory=list)
    #: What came instead of a 202: the status, or "no answer".
    refused: Counter[str] = field(default_factory=Counter)
    #: Ids of events whose every try failed: nobody promised anything about them.
    given_up: list[str] = field(default_factory=list)
    _turn: Iterator[int] = field(default_factory=itertools.count)
    _running: list[threading.Thread] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _began: float = 0.0
    _ids: dict[int, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Begin to send."""
        self._began = time.monotonic()
        for number in range(self.threads):
            thread = threading.Thread(target=self._run, args=(number,), name=f"sender-{number}", daemon=True)
            self._running.append(thread)
            thread.start()

    def finish(self, seconds: float = 180.0) -> None:
        """Wait until all is sent; what is not acknowledged by then is given up."""
        deadline = time.monotonic() + seconds
        for thread in self._running:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.stop()

    def stop(self) -> None:
        """Send nothing more."""
        self._stop.set()
        for thread in self._running:
            thread.join(_PATIENCE + 1)

    def wait(self, share: float) -> None:
        """Wait until about that share of the events has been begun, by the clock."""
        self._stop.wait(max(0.0, self._began + share * self.count / self.rate - time.monotonic()))

    def _run(self, place: int) -> None:
        post = _Post(self.secret, self.path, self.ports, place)
        while not self._stop.is_set():
            number = next(self._turn)
            if number >= self.count:
                break
            event = number // self.copies
            self._stop.wait(max(0.0, self._began + event * self.copies / self.rate - time.monotonic()))
            self._send(post, self._id_of(event), self.types[event % len(self.types)])
        post.close()

    def _id_of(self, event: int) -> str:
        """One id for all copies of an event."""
        with self._lock:
            return self._ids.setdefault(event, new_id("evcus_"))

    def _send(self, post: _Post, event: str, type: str) -> None:
        body = json.dumps(envelope(type, sample_data(type), event_id=event)).encode()
        while not self._stop.is_set():
            began = time.monotonic()
            status, answer = post(body)
            if status == "202":
                delivery = json.loads(answer).get("delivery", "")
                self.accepted.append(Accepted(event, type, delivery, time.monotonic() - began))
                return
            self.refused[status] += 1
            self._stop.wait(_AGAIN)
        self.given_up.append(event)


class _Post:
    """One kept connection, to one receiver after the other."""

    def __init__(self, secret: str, path: str, ports: Callable[[], list[int]], place: int) -> None:
        self._secret, self._path, self._ports, self._place = secret, path, ports, place
        self._connection: http.client.HTTPConnection | None = None

    def __call__(self, body: bytes) -> tuple[str, bytes]:
        """Post once; returns the status and the body, or "no answer"."""
        try:
            if self._connection is None:
                ports = self._ports()
                port = ports[self._place % len(ports)]
                self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
            headers = {"x-voucherify-signature": sign(body, self._secret), "content-type": "application/json"}
            self._connection.request("POST", self._path, body, headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self._move_on()
            return "no answer", b""
        if response.status != 202:
            self._move_on()
        bare = response.status == 503 and not response.headers["Retry-After"]
        return f"{response.status}{' without Retry-After' if bare else ''}", answer

    def _move_on(self) -> None:
        self.close()
        self._place += 1

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
