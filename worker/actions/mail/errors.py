"""Failures of a session that only the sender needs to tell apart."""

from tiercast.actions import Unavailable


class Busy(Unavailable):
    """The server takes no further session now (a greeting or an EHLO of 4xx)."""


class Stale(Exception):
    """The server had closed an idle session before anything new was sent on it."""
