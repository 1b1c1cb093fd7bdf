"""Failures of a session that only the sender needs to tell apart."""

from tiercast.actions import RetryLater


class NoConnection(RetryLater):
    """No session could be opened: it holds for every mail, and nothing was sent."""


class Stale(Exception):
    """The server had closed an idle session before we said anything new on it."""
