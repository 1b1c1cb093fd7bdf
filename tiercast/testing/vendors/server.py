"""What the vendors of this package share: an HTTP server with routes, windows of calls, and scripted failures."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, get_args
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from ...event import Event

#: How a call that changes something can go wrong: "before" it has its effect, or "after". `hang` gives no answer until
#: the server stops, `hang up` closes the connection.
Fault = Literal[
    "hang before", "hang after", "hang up before", "hang up after", "500 before", "500 after", "503 before", "429"
]

_FAULTS: frozenset[str] = frozenset(get_args(Fault))

#: Methods that change nothing.
_READING = frozenset({"GET", "HEAD"})

#: Seconds in which a server is up, or gone.
_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it arrived.

    Attributes:
        path: with the query, percent-encoded as it was sent.
        headers: by lower-case name.
        at: when it was read, by the monotonic clock, in seconds.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float = 0.0

    @property
    def json(self) -> Any:
        """The body, parsed; ValueError where it is no JSON."""
        return json.loads(self.body)

    @property
    def route(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The last value of each name."""
        return dict(parse_qsl(self.path.partition("?")[2], keep_blank_values=True))


@dataclass(slots=True, kw_only=True)
class Answer:
    """What to answer.

    Attributes:
        body: bytes as they are; anything else goes as JSON; None is an empty body.
        hang_up: give no answer and close the connection, once the request was read.
        hang: give no answer until the server stops.
        drip: seconds between the bytes of the body.
        delay: seconds before the answer.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False
    hang: bool = False
    drip: float = 0.0
    delay: float = 0.0

    def content(self) -> bytes:
        """The body's bytes."""
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True, slots=True)
class Window:
    """At most `calls` in any `seconds`.

    Attributes:
        name: what the vendor calls it in its answer, where it does.
    """

    calls: int
    seconds: float
    name: str = ""


#: What answers a request: it gets the request and the parts of the path that the route leaves open, decoded.
Handler = Callable[..., Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """One call of a vendor's API.

    Attributes:
        method: of HTTP.
        path: with `{}` where one segment is open.
        handler: what answers it.
        group: whose windows count the call.
    """

    method: str
    path: str
    handler: Handler
    group: str = "api"

    def match(self, path: str) -> list[str] | None:
        """The open parts of a path, decoded; None where the path is another one."""
        pattern = "([^/]+)".join(map(re.escape, self.path.split("{}")))
        found = re.fullmatch(pattern, path)
        return [unquote(part) for part in found.groups()] if found else None


class FakeVendor:
    """An HTTP server on 127.0.0.1 that behaves as a vendor does. A context manager; it serves once.

    A vendor derives from it: `routes` says which calls there are, `refuse` looks at credentials, `too_many` forms its
    429. Handlers run one at a time, so they need no locks.

    Args:
        limits: windows by group, instead of the vendor's published ones; `{}` for no limit at all.

    Attributes:
        requests: all that arrived, in order, refused ones too.
        queue: answers to give instead of the vendor's own, one a request, before anything else is looked at.
        script: asked for an answer to each request; None from it leaves the request to the vendor.
        faults: failures of the next calls that would change something, one a call.
        down: answer 503 to everything.
        refused: how many calls a window refused.
    """

    #: How an operator names it.
    name: ClassVar[str] = ""
    #: The published limits, by group of calls.
    published: ClassVar[Mapping[str, Sequence[Window]]] = {}
    #: The longest body that it takes, in bytes.
    max_body_bytes: ClassVar[int] = 16 * 1024 * 1024

    def __init__(self, *, limits: Mapping[str, Sequence[Window]] | None = None) -> None:
        self.requests: list[Request] = []
        self.queue: deque[Answer] = deque()
        self.script: Callable[[Request], Answer | None] | None = None
        self.faults: deque[Fault] = deque()
        self.down = False
        self.refused = 0
        self._limits = self.published if limits is None else limits
        self._calls: dict[str, deque[float]] = {}
        self._routes = list(self.routes())
        self._port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    # --- what a vendor says of itself

    def routes(self) -> Iterable[Route]:
        """The calls of its API."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """The options by which an action reaches this server instead of the real vendor, secrets resolved."""
        raise NotImplementedError

    def prepare(self, options: Mapping[str, Any], event: Event) -> None:
        """Add what the real vendor has before it is called, for `tiercast actions test --against fake`.

        Args:
            options: of the job, rendered.
            event: of the job.
        """

    def effects(self) -> Any:
        """What the vendor holds by now: a test compares it with what should have happened."""
        raise NotImplementedError

    def refuse(self, request: Request) -> Answer | None:
        """The answer to a request whose credential or headers are wrong; None where they are right."""
        return None

    def unknown_route(self, request: Request) -> Answer:
        """The answer to a path that the API does not have."""
        return Answer(status=404, body={"message": "not found"})

    def too_many(self, window: Window, wait: float) -> Answer:
        """The answer to a call beyond a window, with the vendor's own headers.

        Args:
            window: the one that is full.
            wait: seconds until it takes a call again.
        """
        return Answer(status=429, body={"message": "Too many requests"}, headers={"retry-after": seconds_up(wait)})

    def failed(self, status: int) -> Answer:
        """The answer of a vendor in trouble."""
        return Answer(
            status=status, body=b"<html><body>Service Unavailable</body></html>", headers={"content-type": "text/html"}
        )

    # --- what a test asks

    @property
    def port(self) -> int:
        """Where it listens, once it has begun."""
        return self._port

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self._port}"

    def calls(self, method: str, path: str) -> list[Request]:
        """The requests for a route, in order; `{}` in `path` stands for one open segment."""
        route = Route(method, path, Answer)
        return [
            request
            for request in tuple(self.requests)
            if request.method == method and route.match(request.route) is not None
        ]

    def most_in(self, seconds: float) -> int:
        """The most requests that arrived in any such span of time."""
        times = sorted(request.at for request in tuple(self.requests))
        most = first = 0
        for last, at in enumerate(times):
            while times[first] <= at - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    # --- serving

    def answer(self, request: Request) -> Answer:
        """The answer to one request, and what it does to the vendor's state."""
        self.requests.append(request)
        if self.queue:
            return self.queue.popleft()
        if self.script is not None and (scripted := self.script(request)) is not None:
            return scripted
        if self.down:
            return self.failed(503)
        for route in self._routes:
            parts = route.match(request.route) if route.method == request.method else None
            if parts is not None:
                return self._guarded(route, request, parts)
        return self.refuse(request) or self.unknown_route(request)

    def _guarded(self, route: Route, request: Request, parts: list[str]) -> Answer:
        refusal = self.refuse(request) or self._count(route.group, request.at)
        if refusal is not None:
            return refusal
        fault = self.faults.popleft() if self.faults and request.method not in _READING else None
        if fault is not None and fault not in _FAULTS:
            raise ValueError(f"no such fault: {fault}")
        if fault == "429":
            return self.too_many(Window(1, 1.0), 1.0)
        answer = Answer() if fault and fault.endswith("before") else self._called(route, request, parts)
        if fault is None:
            return answer
        if fault.startswith("hang up"):
            return Answer(hang_up=True)
        return Answer(hang=True) if fault.startswith("hang") else self.failed(int(fault[:3]))

    def _called(self, route: Route, request: Request, parts: list[str]) -> Answer:
        if len(request.body) > self.max_body_bytes:
            return self.too_large(request)
        return route.handler(request, *parts)

    def too_large(self, request: Request) -> Answer:
        """The answer to a body above `max_body_bytes`."""
        return Answer(status=413, body={"message": "Payload Too Large"})

    def _count(self, group: str, now: float) -> Answer | None:
        windows = self._limits.get(group, ())
        times = self._calls.setdefault(group, deque())
        longest = max((window.seconds for window in windows), default=0.0)
        while times and times[0] <= now - longest:
            times.popleft()
        for window in windows:
            if len(times) >= window.calls and times[-window.calls] > now - window.seconds:
                self.refused += 1
                return self.too_many(window, times[-window.calls] + window.seconds - now)
        times.append(now)
        return None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name=f"fake-{self.name or 'vendor'}", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise RuntimeError("the server did not start")
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *exc: object) -> None:
        loop, stop, thread = self._loop, self._stop, self._thread
        if loop is not None and stop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        if thread is not None:
            thread.join(_START_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # the thread that started us raises it
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
            await site.start()
            self._port = int(runner.addresses[0][1])
            self._ready.set()
            await self._stop.wait()
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = Request(
            method=request.method,
            path=request.raw_path,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.content.read(),
            at=time.monotonic(),
        )
        answer = self.answer(seen)
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.hang and self._stop is not None:
            await self._stop.wait()
        if answer.hang or answer.hang_up:
            if request.transport is not None:
                request.transport.close()
            return web.Response()
        return await self._reply(request, answer)

    async def _reply(self, request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        content = answer.content()
        headers = {
            "content-type": "application/json",
            **{name.lower(): value for name, value in answer.headers.items()},
        }
        if not answer.drip:
            return web.Response(status=answer.status, body=content, headers=headers)
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.content_length = len(content)
        await response.prepare(request)
        for place in range(len(content)):
            await response.write(content[place : place + 1])
            await asyncio.sleep(answer.drip)
        return response


def seconds_up(wait: float) -> str:
    """A wait as whole seconds, never too short, as headers have it."""
    return str(max(1, -int(-wait // 1)))


def unix_after(wait: float) -> str:
    """The Unix time, in whole seconds, after a wait."""
    return str(int(time.time() + wait) + 1)
