"""An HTTP server that keeps what it is sent and answers by script."""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it arrived; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True, kw_only=True)
class Answer:
    """What to answer. With `hang_up`, nothing: the connection is closed after the request was read."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False
    drip: float = 0.0  #: seconds between bytes

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Script = Callable[[Request], Answer]


class WebServer:
    """Answers the queued answers in turn, then what `default` says. A context manager."""

    def __init__(self, default: Script | None = None) -> None:
        self.requests: list[Request] = []
        self.queue: deque[Answer] = deque()
        self.connections = 0
        self.stopping = threading.Event()
        self.default: Script = default or (lambda request: Answer())
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _make_handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wrap(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            queued = self.queue.popleft() if self.queue else None
        return queued or self.default(request)

    def connected(self) -> None:
        with self._lock:
            self.connections += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""


def _make_handler(server: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            server.connected()

        def _handle(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(method=self.command, path=self.path, headers=headers, body=self.rfile.read(length))
            answer = server.answer(request)
            if answer.hang_up:
                self.close_connection = True
                return
            self._reply(answer)

        def _reply(self, answer: Answer) -> None:
            content = answer.content()
            self.send_response(answer.status)
            headers = {"content-type": "application/json", "content-length": str(len(content))} | answer.headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            for place in range(len(content) if answer.drip else 0):
                self.wfile.write(content[place : place + 1])
                if server.stopping.wait(answer.drip):
                    return
            if not answer.drip:
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = _handle  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    return Handler
