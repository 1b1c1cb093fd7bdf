"""The public Flask app: webhooks and health."""

from __future__ import annotations

import json
from collections.abc import Mapping

from flask import Flask, request
from werkzeug.exceptions import HTTPException

from tiercast.config.model import Source
from tiercast.ringer import BellRinger
from tiercast.settings import Settings

from .answers import RETRY_AFTER, Answer, error_answer, failure_answer
from .edge import Edge
from .enqueue import Enqueue
from .fast_path import Shortcut
from .readiness import WatchedStore
from .refusals import Refusals
from .store import Store
from .webhooks import Webhooks


def create_app(
    settings: Settings,
    sources: Mapping[str, Source],
    store: Store,
    bells: BellRinger,
    edge: Edge | None = None,
    refusals: Refusals | None = None,
) -> Flask:
    """Make the app.

    No hook, error handler, extension or middleware of Flask runs for a webhook: `Shortcut` answers it before Flask is
    asked (see docs/fast-paths.md). What is to happen at each webhook belongs into `Webhooks`. The same route stands in
    Flask's map, so that everything else about it (405, a slash at the end) is Flask's.

    Args:
        settings: of them only `max_body`, in bytes, is used.
        sources: by name, with their secrets.
        store: the ledger, with short time-outs and no retries.
        bells: rings the lanes that the ledger names.
        edge: what a request must have beside its signature, if anything.
        refusals: counts and logs refused requests.
    """
    app = Flask("receiver", static_folder=None)
    # A redirect would be a failed delivery to the sender, so nothing here redirects.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    watched = WatchedStore(store)
    webhooks = Webhooks(sources, Enqueue(watched, bells), max_body=settings.max_body, edge=edge, refusals=refusals)
    app.add_url_rule(
        "/webhooks/<source>",
        "webhooks",
        lambda source: webhooks.answer(request.environ, source),
        methods=["POST"],
        provide_automatic_options=False,
    )
    _add_health(app, watched)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, failure_answer)
    app.wsgi_app = Shortcut(app.wsgi_app, webhooks, sources)  # type: ignore[method-assign]
    return app


def _add_health(app: Flask, store: WatchedStore) -> None:
    def healthz() -> Answer:
        return Answer('{"status": "ok"}')

    def readyz() -> Answer:
        found = store.readiness()
        return _status("ok", found.reason) if found.can_store else _status("cannot store", found.reason, 503)

    app.add_url_rule("/healthz", view_func=healthz)
    app.add_url_rule("/readyz", view_func=readyz)


def _status(status: str, reason: str | None, code: int = 200) -> Answer:
    document = {"status": status} | ({"reason": reason} if reason else {})
    return Answer(json.dumps(document), code, {"Retry-After": RETRY_AFTER} if code == 503 else {})


def _http_error(error: HTTPException) -> Answer:
    """Answer what Flask itself refuses (404, 405) in JSON, keeping `Allow`."""
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    return error_answer(error.code or 500, error.name.lower(), headers)
