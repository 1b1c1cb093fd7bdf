"""What the receiver answers: short JSON documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog

from .body import discard_body

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = structlog.get_logger()

#: Seconds after which a request that could not be stored may be sent again.
RETRY_AFTER = "5"

_JSON = ("Content-Type", "application/json")
_NO_HEADERS: Mapping[str, str] = {}


# fast path: Werkzeug's response would do as well, at half of what all else of a request costs in Python.
class Answer:
    """A short JSON document. It is a WSGI application of its own, which Flask takes from a view as it is."""

    __slots__ = ("_headers", "_text", "status")

    def __init__(self, text: str, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        self._text = text
        self._headers = headers
        self.status = status

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = self._text.encode() + b"\n"
        length = ("Content-Length", str(len(body)))
        start_response(_status_line(self.status), [_JSON, length, *self._headers.items()])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


class EarlyAnswer(Answer):
    """An answer given before the body was read, after which the connection is closed.

    A little of the body is read first and thrown away (`discard_body`): a client that is still sending would otherwise
    see a broken pipe in place of the answer.
    """

    __slots__ = ()

    def __init__(self, text: str, status: int, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        super().__init__(text, status, {**headers, "Connection": "close"})

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # The answer must have begun before the body is waited for, so this is no generator itself.
        return self._then_discard(super().__call__(environ, start_response), environ)

    @staticmethod
    def _then_discard(chunks: Iterable[bytes], environ: WSGIEnvironment) -> Iterator[bytes]:
        yield from chunks
        discard_body(environ)


def unstored_answer() -> Answer:
    """Say that an authentic request could be stored nowhere and may come again."""
    return error_answer(503, "cannot store now", {"Retry-After": RETRY_AFTER})


def error_answer(status: int, message: str, headers: Mapping[str, str] = _NO_HEADERS) -> Answer:
    """Say in a few plain words what is wrong; `message` is ours and holds no quotes."""
    return Answer(f'{{"error": "{message}"}}', status, headers)


def failure_answer(error: Exception) -> Answer:
    """Answer a fault of ours. Its text is not logged: it may quote the body."""
    log.error("receiver.failed", error=type(error).__name__, at=_place(error))
    return error_answer(500, "internal error", {"Retry-After": RETRY_AFTER})


@cache
def _status_line(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase.upper()}"


def _place(error: Exception) -> str:
    """Name the line that raised, as `module.py:12`."""
    trace: Any = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
