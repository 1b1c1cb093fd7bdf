"""The far side of the workloads that wait: an HTTP endpoint, a bulk CRM endpoint or an SMTP server, as a program.

    python -m bench.endpoint '{"protocol": "http", "delay": 0.3}'

It answers each call after `delay` seconds, and counts every event that arrives. It prints `{"port": N}` first, and then
answers each line on its standard input with a line of JSON: `stats`, `reset`. It ends with its input.

Two cores are shared with what is measured, so it does little for a call: one regular expression, one entry in a
dictionary, one timer for all calls together. Standard library only, and uvloop where it is installed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import resource
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal

Protocol = Literal["http", "crm", "smtp"]

#: One signature in this many is checked.
_SIGNATURES_CHECKED = 64

#: The most bytes of one request or message; a real one has a few thousand, a bulk call of 100 records 30,000.
_MAX_BYTES = 4 * 1024 * 1024

#: Seconds by which an answer may be early, so that calls that came together are answered together.
_EARLY_SECONDS = 0.0005

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_EVENT_ID = re.compile(rb"\r\nwebhook-id:[^\r]*?(evcus_[0-9A-Za-z_]+)", re.IGNORECASE)
_HEADER = re.compile(rb"\r\n([A-Za-z0-9-]+):[ \t]*([^\r]*)")
_SUBJECT = re.compile(rb"(?:\A|\r\n)subject:[^\r]*?(evcus_[0-9A-Za-z_]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What the endpoint is.

    `delay` is seconds from a call to its answer. `capacity` is how many calls it serves at once; what is above waits
    in a queue (0: any number). `rate` is how many calls it takes in any second; what is above is answered 429 at once,
    without a time (0: any number). `secret` is the base64 part of a Standard Webhooks secret; empty: unsigned.
    """

    protocol: Protocol = "http"
    delay: float = 0.0
    capacity: int = 0
    rate: int = 0
    secret: str = ""


@dataclass(slots=True, kw_only=True)
class Stats:
    """What has been counted since the last reset.

    `jobs` are events, `calls` requests: they differ where one call holds many. `first` and `last` are when the first
    call arrived and the last was answered, in seconds since 1970. `answered` and `refused` count the calls of each
    second since `first`. `cpu` is the endpoint's own CPU seconds since it started.
    """

    calls: int = 0
    jobs: int = 0
    distinct: int = 0
    unknown: int = 0
    unsigned: int = 0
    in_flight: int = 0
    peak: int = 0
    first: float = 0.0
    last: float = 0.0
    cpu: float = 0.0
    answered: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)


class Service:
    """Decides when each call is answered, and counts it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, spec: Spec) -> None:
        self.spec = spec
        self._loop = loop
        self._due: deque[tuple[float, Callable[[bool], None]]] = deque()
        self._queue: deque[Callable[[bool], None]] = deque()
        self._accepted: deque[float] = deque()
        self._serving = 0
        self.reset()

    def reset(self) -> None:
        """Forget what was counted, not what is in flight."""
        self._ids: Counter[bytes] = Counter()
        self._stats = Stats()
        self._waiting_or_served = len(self._due) + len(self._queue)

    def stats(self) -> Stats:
        """What was counted so far."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        found = self._stats
        found.distinct = len(self._ids)
        found.jobs = self._ids.total() + found.unknown
        found.in_flight = self._waiting_or_served
        found.cpu = used.ru_utime + used.ru_stime
        return found

    def call(self, ids: Iterable[bytes], finish: Callable[[bool], None]) -> None:
        """Take a call. `finish` is called when it is due, with False at once where the call is refused."""
        now = time.time()
        stats = self._stats
        if not stats.calls:
            stats.first = now
        stats.calls += 1
        if self.spec.rate and not self._admits(now):
            self._note(stats.refused, now)
            finish(False)
            return
        for one in ids:
            if one:
                self._ids[one] += 1
            else:
                stats.unknown += 1
        self._waiting_or_served += 1
        stats.peak = max(stats.peak, self._waiting_or_served)
        if self.spec.capacity and self._serving >= self.spec.capacity:
            self._queue.append(finish)
        else:
            self._serve(finish)

    def signature(self, *, right: Callable[[], bool]) -> None:
        """Check the signature of one call in many."""
        if self.spec.secret and self._stats.calls % _SIGNATURES_CHECKED == 0 and not right():
            self._stats.unsigned += 1

    def _admits(self, now: float) -> bool:
        accepted = self._accepted
        while accepted and accepted[0] <= now - 1:
            accepted.popleft()
        if len(accepted) >= self.spec.rate:
            return False
        accepted.append(now)
        return True

    def _serve(self, finish: Callable[[bool], None]) -> None:
        self._serving += 1
        due = self._loop.time() + self.spec.delay
        if not self._due:
            self._loop.call_at(due, self._answer)
        self._due.append((due, finish))  # every call takes as long, so this stays in order

    def _answer(self) -> None:
        now, until = time.time(), self._loop.time() + _EARLY_SECONDS
        due, stats = self._due, self._stats
        while due and due[0][0] <= until:
            _, finish = due.popleft()
            self._serving -= 1
            self._waiting_or_served -= 1
            self._note(stats.answered, now)
            stats.last = now
            finish(True)
        if due:
            self._loop.call_at(due[0][0], self._answer)
        while self._queue and self._serving < self.spec.capacity:
            self._serve(self._queue.popleft())

    def _note(self, seconds: list[int], now: float) -> None:
        place = int(now - self._stats.first)
        if place >= len(seconds):
            seconds.extend([0] * (place + 1 - len(seconds)))
        seconds[place] += 1


class HttpConnection(asyncio.Protocol):
    """One kept HTTP/1.1 connection: a call, its answer, the next call."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._bytes = b""
        self._answer = _OK
        self._busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._bytes = self._bytes + data if self._bytes else data
        if not self._busy:
            self._next()

    def _next(self) -> None:
        end = self._bytes.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._bytes[:end]
        found = _LENGTH.search(head)
        whole = end + 4 + (int(found[1]) if found else 0)
        if whole > _MAX_BYTES:
            self._end()
            return
        if len(self._bytes) < whole:
            return
        body = self._bytes[end + 4 : whole]
        self._bytes = self._bytes[whole:]
        self._busy = True
        ids, self._answer = self._read(head, body)
        self._service.call(ids, self._finish)

    def _read(self, head: bytes, body: bytes) -> tuple[Iterable[bytes], bytes]:
        """The events that a call is about, and its answer."""
        found = _EVENT_ID.search(head)
        self._service.signature(right=lambda: signed(head, body, self._service.spec.secret))
        return (found[1] if found else b"",), _OK

    def _finish(self, accepted: bool) -> None:
        if self._transport is not None:
            self._transport.write(self._answer if accepted else _TOO_MANY)
            self._busy = False
            if self._bytes:
                self._next()

    def _end(self) -> None:
        if self._transport is not None:
            self._transport.close()


class CrmConnection(HttpConnection):
    """A bulk endpoint: up to 100 records a call, in the shape of HubSpot's batch upsert."""

    def _read(self, _: bytes, body: bytes) -> tuple[Iterable[bytes], bytes]:
        records = json.loads(body)["inputs"]
        results = [{"id": one["id"], "new": True, "objectWriteTraceId": one["objectWriteTraceId"]} for one in records]
        answer = json.dumps({"status": "COMPLETE", "results": results}, separators=(",", ":")).encode()
        return [one["properties"]["event"].encode() for one in records], _http("200 OK", answer)


class SmtpConnection(asyncio.Protocol):
    """One SMTP session (RFC 5321), with PIPELINING (RFC 2920); a message is answered after the delay."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._bytes = b""
        self._sender = False
        self._recipients = 0
        self._reading_message = False
        self._busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's
        self._say(b"220 bench.example ESMTP")

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        if len(self._bytes) > _MAX_BYTES:
            self._say(b"552 5.3.4 the message is too long")
            self._end()
            return
        while (
            not self._busy
            and self._transport is not None
            and (self._message() if self._reading_message else self._line())
        ):
            pass

    def _line(self) -> bool:
        """Take one command; False where there is no whole one."""
        line, end, rest = self._bytes.partition(b"\r\n")
        if not end:
            return False
        self._bytes = rest
        verb = line[:4].upper()
        command = _COMMANDS.get(verb)
        if command is None:
            self._say(b"500 5.5.2 unknown command")
        else:
            command(self, line)
        return True

    def _message(self) -> bool:
        """Take the message that follows DATA; False where it is not whole."""
        if self._bytes.startswith(b".\r\n"):
            content, self._bytes = b"", self._bytes[3:]
        else:
            content, end, rest = self._bytes.partition(b"\r\n.\r\n")
            if not end:
                return False
            self._bytes = rest
        self._reading_message = False
        self._busy = True
        found = _SUBJECT.search(content.partition(b"\r\n\r\n")[0])
        self._service.call((found[1] if found else b"",), self._finish)
        return False

    def _finish(self, accepted: bool) -> None:
        self._busy = False
        self._forget()
        self._say(b"250 2.0.0 queued" if accepted else b"451 4.7.0 too many")
        if self._bytes:
            self.data_received(b"")

    def _hello(self, _: bytes) -> None:
        self._forget()
        self._say(b"250-bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 4194304")

    def _old_hello(self, _: bytes) -> None:
        self._forget()
        self._say(b"250 bench.example")

    def _mail(self, line: bytes) -> None:
        if not line.upper().startswith(b"MAIL FROM:"):
            self._say(b"501 5.5.4 expected MAIL FROM:<address>")
        elif self._sender:
            self._say(b"503 5.5.1 there is a sender already")
        else:
            self._sender = True
            self._say(b"250 2.1.0 sender taken")

    def _rcpt(self, line: bytes) -> None:
        if not line.upper().startswith(b"RCPT TO:"):
            self._say(b"501 5.5.4 expected RCPT TO:<address>")
        elif not self._sender:
            self._say(b"503 5.5.1 MAIL first")
        else:
            self._recipients += 1
            self._say(b"250 2.1.5 recipient taken")

    def _data(self, _: bytes) -> None:
        if not self._recipients:
            self._say(b"503 5.5.1 RCPT first")
        else:
            self._reading_message = True
            self._say(b"354 go on, end with a dot")

    def _reset(self, _: bytes) -> None:
        self._forget()
        self._say(b"250 2.0.0 forgotten")

    def _nothing(self, _: bytes) -> None:
        self._say(b"250 2.0.0 fine")

    def _quit(self, _: bytes) -> None:
        self._say(b"221 2.0.0 bye")
        self._end()

    def _forget(self) -> None:
        self._sender, self._recipients = False, 0

    def _say(self, line: bytes) -> None:
        if self._transport is not None:
            self._transport.write(line + b"\r\n")

    def _end(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None


_COMMANDS: dict[bytes, Callable[[SmtpConnection, bytes], None]] = {
    b"EHLO": SmtpConnection._hello,
    b"HELO": SmtpConnection._old_hello,
    b"MAIL": SmtpConnection._mail,
    b"RCPT": SmtpConnection._rcpt,
    b"DATA": SmtpConnection._data,
    b"RSET": SmtpConnection._reset,
    b"NOOP": SmtpConnection._nothing,
    b"VRFY": SmtpConnection._nothing,
    b"QUIT": SmtpConnection._quit,
}


def _http(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_OK = _http("200 OK", b'{"ok":true}')
_TOO_MANY = _http("429 Too Many Requests", b'{"ok":false}')

_CONNECTIONS: dict[Protocol, Callable[[Service], asyncio.Protocol]] = {
    "http": HttpConnection,
    "crm": CrmConnection,
    "smtp": SmtpConnection,
}


def signed(head: bytes, body: bytes, secret: str) -> bool:
    """Whether a call carries the signature of Standard Webhooks over its id, time and body.

    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    headers = {name.lower(): value for name, value in _HEADER.findall(head)}
    content = b".".join([headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b""), body])
    wanted = base64.b64encode(hmac.new(base64.b64decode(secret), content, hashlib.sha256).digest())
    return any(hmac.compare_digest(one, b"v1," + wanted) for one in headers.get(b"webhook-signature", b"").split())


async def serve(spec: Spec) -> None:
    """Listen on a port of the system's choice until standard input ends."""
    loop = asyncio.get_running_loop()
    service = Service(loop, spec)
    ended = asyncio.Event()
    server = await loop.create_server(lambda: _CONNECTIONS[spec.protocol](service), "127.0.0.1", 0, backlog=4096)

    def obey(line: str) -> None:
        if line == "reset":
            service.reset()
        print(json.dumps(asdict(service.stats())), flush=True)

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(obey, line.strip())
        loop.call_soon_threadsafe(ended.set)

    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    threading.Thread(target=listen, daemon=True).start()
    await ended.wait()
    server.close()


def main(argument: str) -> None:
    """Serve as the JSON of a `Spec` says."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    spec = Spec(**json.loads(argument))
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(spec))
    else:
        uvloop.run(serve(spec))


if __name__ == "__main__":
    main(sys.argv[1])
