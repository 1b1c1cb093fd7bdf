"""Keeps a worker alive whose Redis broker dies, and has it hear bells again soon after the broker is back.

kombu puts back what is not yet acknowledged when it closes a channel. Where the connection is gone by then, kombu 5.6
may raise an AttributeError, which Celery takes for a fault that ends the worker. A bell carries no work, and the timer
rings again for one that is lost: here that nothing could be put back is a warning.

While its broker is away, Celery waits ever longer between two tries, up to half a minute, and that is not to be set.
A try is cheap, and work that has piled up should not wait.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import redis

log = structlog.get_logger()

#: The most seconds between two tries to reach a broker that is away.
PAUSE = 4.0


class PromptConnection(Connection):
    """A connection that looks often for a broker that is away."""

    def ensure_connection(self, *args: Any, interval_max: float = PAUSE, **options: Any) -> Any:
        """Connect, with pauses of at most `interval_max` seconds between two tries."""
        return super().ensure_connection(  # type: ignore[no-untyped-call]
            *args, interval_max=interval_max, **options
        )


class PromptAMQP(AMQP):
    """What the app connects with."""

    Connection = PromptConnection


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
