"""The `data` of every event that is no tier event: any object, so that rules can name any event."""

from __future__ import annotations

from .base import Tolerant


class Anything(Tolerant):
    """An object of which nothing is demanded."""
