"""What Celery, kombu and billiard do otherwise than we need. Each patch names the place upstream; tests/unit/
test_celery_patches.py fails once upstream has mended it, so that the patch can go.

1. `in_turn`: Celery 5.7 means to hand tasks to the idle processes of a pool in turn, but its counter begins anew with
   every task, so the first idle process gets them all (celery/concurrency/asynpool.py,
   `AsynPool._create_write_handlers`, `schedule_writes`: `total_write_count = [0]` is local to one call).
2. `PromptConnection`: while its broker is away, Celery waits ever longer between two tries, up to half a minute, and
   that is not to be set (celery/worker/consumer/consumer.py, `Consumer.ensure_connected`). A try is cheap, and work
   that has piled up should not wait.
3. `LenientQoS`: kombu puts back what is not yet acknowledged when it closes a channel. Where the connection is gone by
   then, kombu (5.7 too) may raise an AttributeError, which Celery takes for a fault that ends the worker
   (kombu/transport/redis.py, `QoS.restore_unacked`). A bell carries no work, and the timer rings again for one that is
   lost: that nothing could be put back is a warning here.
4. `CONSUMPTION_TRIES`: a process of the pool that is told to stop waits up to 30 s for Celery to hear of its last tasks
   (billiard/pool.py, `GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT`, tenths of a second). Celery may have stopped
   listening by then, and that is longer than most give a worker to end. Nothing hangs on it: bells are acknowledged
   early.
5. `SparingLog`: while its broker refuses writes, Celery's consumer restarts several times a second and logs a line each
   (celery/worker/consumer/consumer.py, `Consumer.on_connection_error_after_connected`). One in ten seconds is enough.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import structlog
from billiard import pool
from celery import signals
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import redis

log = structlog.get_logger()

#: The most seconds between two tries to reach a broker that is away.
RECONNECT_SECONDS = 4.0

#: Seconds before the same wording is logged again by the consumer.
REPEAT_SECONDS = 10.0

#: Tenths of a second that a process of the pool, told to stop, waits for Celery to hear of its last tasks.
CONSUMPTION_TRIES = 10


@signals.worker_ready.connect
def _rotate(sender: Any, **_: Any) -> None:
    """Take effect on the loop that is about to begin: after the start, and whenever the broker is back."""
    hub = getattr(sender, "hub", None)
    if hub is not None and hub.consolidate_callback is not None:  # pools other than the one of processes have none
        hub.consolidate_callback = in_turn(hub.consolidate_callback)


def in_turn(schedule: Callable[[list[int]], None]) -> Callable[[list[int]], None]:
    """Have a function that prefers the first of a list called with another one first each time."""
    turns = count()

    def scheduled(ready: list[int]) -> None:
        ready = sorted(ready)
        first = next(turns) % len(ready) if ready else 0
        schedule(ready[first:] + ready[:first])

    return scheduled


class PromptConnection(Connection):
    """A connection that looks often for a broker that is away."""

    def ensure_connection(self, *args: Any, interval_max: float = RECONNECT_SECONDS, **options: Any) -> Any:
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


class SparingLog(logging.Filter):
    """Lets a message of one wording pass once in a while: a consumer without a broker logs several lines a second."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message passes."""
        now, wording = time.monotonic(), str(record.msg)
        if record.levelno < logging.ERROR:
            return True
        if now - self._passed.get(wording, -math.inf) < REPEAT_SECONDS:
            return False
        self._passed[wording] = now
        return True


def apply() -> None:
    """Put the patches of whole modules into effect in this process."""
    logging.getLogger("celery.worker.consumer.consumer").addFilter(SparingLog())
    redis.Channel.QoS = LenientQoS
    pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = CONSUMPTION_TRIES
