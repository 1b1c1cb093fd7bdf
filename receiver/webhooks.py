"""What becomes of a request at `/webhooks/<source>`: size, source, signature, enqueue, 202.

Voucherify retries whatever is not answered 2xx for about a day and then pauses the feed. So an authentic request
gets a 2xx whatever it holds, and 503 only where it could be stored nowhere. The body is never parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import structlog

from tiercast.config.model import Source
from tiercast.errors import LedgerError
from tiercast.signature import Verdict, authenticate

from .answers import RETRY_AFTER, Answer, EarlyAnswer, error_answer, failure_answer
from .body import read_body
from .edge import Edge
from .enqueue import Enqueue

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger()

_SIGNATURE = "HTTP_X_VOUCHERIFY_SIGNATURE"

#: The same to everybody who is refused: which check it was stands in the log only.
_UNSIGNED = '{"error": "no valid signature"}'


class Webhooks:
    """What becomes of one request at `/webhooks/<source>`.

    Args:
        sources: by name.
        enqueue: stores an authentic body.
        max_body: bytes.
        edge: what a request must have beside its signature, if anything.
    """

    def __init__(
        self, sources: Mapping[str, Source], enqueue: Enqueue, *, max_body: int, edge: Edge | None = None
    ) -> None:
        self._sources = sources
        self._enqueue = enqueue
        self._max_body = max_body
        self._edge = edge

    def answer(self, environ: WSGIEnvironment, source: str) -> Answer:
        """Check size, source and signature, store, answer; what is not expected is raised."""
        known = self._sources.get(source)
        if known is None:
            # The name is a stranger's text, so only ours are logged.
            log.warning("delivery.refused", reason="unknown source", known=", ".join(self._sources))
            return EarlyAnswer('{"error": "unknown source"}', 404)
        if self._edge is not None and (refusal := self._edge.refusal(environ)):
            log.warning("delivery.refused", source=source, reason=refusal)
            return EarlyAnswer(_UNSIGNED, 401)
        body = read_body(environ, self._max_body)
        if body is None:
            log.warning("delivery.refused", source=source, reason=f"body above {self._max_body} bytes")
            return EarlyAnswer('{"error": "body too large"}', 413)
        checked = authenticate(body, environ.get(_SIGNATURE), known.secrets)
        if isinstance(checked, Verdict):
            log.warning("delivery.refused", source=source, reason=checked.reason)
            return Answer(_UNSIGNED, 401)
        try:
            delivery_id = self._enqueue(checked, source)
        except LedgerError:
            return error_answer(503, "cannot store now", {"Retry-After": RETRY_AFTER})
        return Answer(f'{{"delivery": "{delivery_id}"}}', 202)


class Shortcut:
    """Answers a POST for a known source as Flask would, without its routing, contexts and signals.

    They are most of what such a request costs (measured on two cores with the real ledger: 45 % of an empty
    Flask route's rate with them, 75 % without). Everything else goes to Flask, which has the same route.
    """

    def __init__(self, flask: WSGIApplication, webhooks: Webhooks, sources: Mapping[str, Source]) -> None:
        self.flask = flask
        self._webhooks = webhooks
        self._sources = sources

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        parent, _, source = environ["PATH_INFO"].rpartition("/")
        if parent != "/webhooks" or environ["REQUEST_METHOD"] != "POST" or source not in self._sources:
            return self.flask(environ, start_response)
        try:
            answer = self._webhooks.answer(environ, source)
        except Exception as error:
            answer = failure_answer(error)
        return answer(environ, start_response)
