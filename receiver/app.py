"""The public Flask app: size, source, signature, enqueue, 202. It never parses a body.

Voucherify retries whatever is not answered 2xx for about a day and then pauses the feed. So an authentic
request gets a 2xx whatever it holds, and 503 only where it could be stored nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from tiercast.config.model import Source
from tiercast.errors import LedgerError
from tiercast.ringer import BellRinger
from tiercast.settings import Settings
from tiercast.signature import Verdict, authenticate

from .body import discard_body, read_body
from .enqueue import Enqueue, Store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = structlog.get_logger()

#: Seconds after which a request that could not be stored may be sent again.
RETRY_AFTER = "5"

_SIGNATURE = "HTTP_X_VOUCHERIFY_SIGNATURE"


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


def create_app(
    settings: Settings,
    sources: Mapping[str, Source],
    store: Store,
    bells: BellRinger,
) -> Flask:
    """Make the app.

    Args:
        settings: of them only `max_body`, in bytes, is used.
        sources: by name, with their secrets.
        store: the ledger, with short time-outs and no retries.
        bells: rings the lanes that the ledger names.
    """
    app = Flask("receiver", static_folder=None)
    # A redirect would be a failed delivery to the sender, so nothing here redirects.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    _add_webhooks(app, settings.max_body, sources, Enqueue(store, bells))
    _add_health(app, store)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _failure)
    return app


def _add_webhooks(app: Flask, max_body: int, sources: Mapping[str, Source], enqueue: Enqueue) -> None:
    names = ", ".join(sources)

    def receive(source: str) -> Answer:
        known = sources.get(source)
        if known is None:
            # The name is a stranger's text, so only ours are logged.
            log.warning("delivery.refused", reason="unknown source", known=names)
            return EarlyAnswer('{"error": "unknown source"}', 404)
        environ = request.environ
        body = read_body(environ, max_body)
        if body is None:
            log.warning("delivery.refused", source=source, reason=f"body above {max_body} bytes")
            return EarlyAnswer('{"error": "body too large"}', 413)
        checked = authenticate(body, environ.get(_SIGNATURE), known.secrets)
        if isinstance(checked, Verdict):
            log.warning("delivery.refused", source=source, reason=checked.reason)
            return _error(401, "no valid signature")
        try:
            delivery_id = enqueue(checked, source)
        except LedgerError:
            return _error(503, "cannot store now", {"Retry-After": RETRY_AFTER})
        return Answer(f'{{"delivery": "{delivery_id}"}}', 202)

    app.add_url_rule("/webhooks/<source>", view_func=receive, methods=["POST"], provide_automatic_options=False)


def _add_health(app: Flask, store: Store) -> None:
    def healthz() -> Answer:
        return Answer('{"status": "ok"}')

    def readyz() -> Answer:
        try:
            store.ping()
        except LedgerError as error:
            log.warning("receiver.unready", error=type(error).__name__)
            return Answer('{"status": "cannot store"}', 503, {"Retry-After": RETRY_AFTER})
        return Answer('{"status": "ok"}')

    app.add_url_rule("/healthz", view_func=healthz)
    app.add_url_rule("/readyz", view_func=readyz)


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(f'{{"error": "{message}"}}', status, headers)


def _http_error(error: HTTPException) -> Answer:
    """Answer what Flask itself refuses (404, 405) in JSON, keeping `Allow`."""
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    return _error(error.code or 500, error.name.lower(), headers)


def _failure(error: Exception) -> Answer:
    """Answer a fault of ours. Its text is not logged: it may quote the body."""
    log.error("receiver.failed", error=type(error).__name__, at=_place(error), path=request.path)
    return _error(500, "internal error", {"Retry-After": RETRY_AFTER})


def _place(error: Exception) -> str:
    """Name the line that raised, as `module.py:12`."""
    trace: Any = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
