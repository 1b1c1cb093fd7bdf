"""`python -m tiercast.flower`: Flower, with all of its pages but `/healthcheck` behind FLOWER_BASIC_AUTH.

Flower splits FLOWER_BASIC_AUTH at commas, so that what stands before a comma in a password opens everything; it fails
on names and passwords beyond ASCII; and it shows `/metrics` to everybody. The options are Flower's own.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import importlib
import os
import sys

_VARIABLE = "FLOWER_BASIC_AUTH"


def credentials(text: str) -> bytes:
    """Read `name:password`, which may hold anything.

    Raises:
        ValueError: it has not this form; the message repeats nothing of it.
    """
    name, colon, password = text.partition(":")
    if not (name and colon and password):
        raise ValueError(f"{_VARIABLE} has no password; set it to name:password.")
    return text.encode()


def guard(text: str) -> None:
    """Have Flower ask for these credentials, on `/metrics` too."""
    wanted = credentials(text)
    importlib.import_module("flower.options")
    from flower.views import BaseHandler
    from flower.views.monitor import Metrics
    from tornado.options import options
    from tornado.web import HTTPError, RequestHandler

    def get_current_user(handler: RequestHandler) -> bool:
        if not matches(handler.request.headers.get("Authorization", ""), wanted):
            raise HTTPError(401)
        return True

    def prepare(handler: RequestHandler) -> None:
        # Reading it asks for the credentials.
        _ = handler.current_user

    # Set here, it is one password whatever is in it; Flower's API is on only where there is one.
    options.basic_auth = [text]
    BaseHandler.get_current_user = get_current_user
    Metrics.prepare = prepare


def matches(header: str, wanted: bytes) -> bool:
    """Whether an Authorization header holds these credentials."""
    scheme, _, text = header.partition(" ")
    try:
        given = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(given, wanted)


def main() -> None:
    """Start Flower for our Celery app."""
    try:
        guard(os.environ.pop(_VARIABLE, ""))
    except ValueError as error:
        sys.exit(f"Error: {error}")
    importlib.import_module("worker.celery")
    from celery.__main__ import main as celery

    sys.argv = ["celery", "-A", "worker", "flower", *sys.argv[1:]]
    celery()


if __name__ == "__main__":
    main()
