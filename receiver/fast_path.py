"""The way of a webhook past Flask's routing. See docs/fast-paths.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tiercast.config.model import Source

from .answers import failure_answer
from .webhooks import Webhooks

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


# fast path: a POST for a known source is answered without Flask's routing, contexts, signals and hooks. They are most
# of what such a request costs (measured on two cores with the real ledger: 45 % of an empty Flask route's rate with
# them, 75 % without).
class Shortcut:
    """Answers a POST for a known source as Flask would; everything else goes to Flask, which has the same route."""

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
