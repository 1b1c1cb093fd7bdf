"""Keeps a worker alive whose Redis broker dies while a bell is under way.

kombu puts back what is not yet acknowledged when it closes a channel. Where the connection is gone by then, kombu 5.6
may raise an AttributeError, which Celery takes for a fault that ends the worker. A bell carries no work, and the timer
rings again for one that is lost: here that nothing could be put back is a warning.
"""

from __future__ import annotations

from typing import Any

import structlog
from kombu.transport import redis

log = structlog.get_logger()


class LenientQoS(redis.QoS):
    """What a channel has delivered and not seen acknowledged."""

    def restore_unacked(self, client: Any = None) -> None:
        """Put back what was not acknowledged; where that fails, let go of it."""
        try:
            super().restore_unacked(client)  # type: ignore[no-untyped-call]
        except Exception as error:
            log.warning("bells.not_put_back", error=type(error).__name__)
            self._delivered.clear()


def be_lenient() -> None:
    """Have every channel of this process use it."""
    redis.Channel.QoS = LenientQoS
