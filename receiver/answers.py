"""What the receiver answers: short JSON documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import structlog
from flask import Response

from .body import discard_body

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = structlog.get_logger()

#: Seconds after which a request that could not be stored may be sent again.
RETRY_AFTER = "5"


class Answer(Response):
    """A short JSON document, handed to the server as one list, which spares it a stream per answer."""

    def __init__(self, text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text + "\n", status, headers, content_type="application/json")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(self.status, self.get_wsgi_headers(environ).to_wsgi_list())
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self.get_data()]


class EarlyAnswer(Answer):
    """An answer given before the body was read; what of the body still comes is then read and thrown away.

    Without that the server closes the connection at once, and a client that is still sending sees a broken
    pipe in place of the answer.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # The answer must have begun before the body is waited for, so this is no generator itself.
        return self._then_discard(super().__call__(environ, start_response), environ)

    @staticmethod
    def _then_discard(chunks: Iterable[bytes], environ: WSGIEnvironment) -> Iterator[bytes]:
        yield from chunks
        discard_body(environ)


def error_answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Say in a few plain words what is wrong; `message` is ours and holds no quotes."""
    return Answer(f'{{"error": "{message}"}}', status, headers)


def failure_answer(error: Exception) -> Answer:
    """Answer a fault of ours. Its text is not logged: it may quote the body."""
    log.error("receiver.failed", error=type(error).__name__, at=_place(error))
    return error_answer(500, "internal error", {"Retry-After": RETRY_AFTER})


def _place(error: Exception) -> str:
    """Name the line that raised, as `module.py:12`."""
    trace: Any = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
