"""Bells: Celery tasks that name a lane and carry no work.

They go through a Celery app of their own, with short time-outs: a bell that is lost costs at most a second (the
workers' timer rings again), a bell that waits for a dead broker would cost more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import Celery

from .broker_address import broker_config
from .ledger import keys
from .ledger.client import sentinel_options
from .redis_address import RedisAddress, is_redis
from .settings import Settings

#: The Celery queue that bells ring on unless an action names another.
QUEUE = "tiercast"

PROCESS = "tiercast.process"
PERFORM = "tiercast.perform"
FILE = "tiercast.file"
OPERATE = "tiercast.operate"

#: Seconds after which a bell that nobody heard is worthless: the timer has rung again by then. Long, since the
#: clocks of two machines may differ.
_EXPIRES = 120

#: Seconds to connect to the broker and to hear from it.
_TIMEOUT = 1.0

#: Seconds to connect to a sentinel and to hear from it, before the next is asked.
_SENTINEL_TIMEOUT = 0.5

if TYPE_CHECKING:
    from .config.model import Config

Ring = Callable[[str], None]


def celery_config(settings: Settings, **transport: Any) -> dict[str, Any]:
    """What every Celery app of ours has in common; `transport` are options of kombu's transport."""
    return broker_config(settings.broker_url) | {
        "broker_transport_options": transport | _behind_sentinels(settings.broker_url),
        "task_default_queue": QUEUE,
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "enable_utc": True,
    }


def _behind_sentinels(url: str) -> dict[str, Any]:
    """How kombu finds a broker that sentinels know."""
    address = RedisAddress.read(url) if is_redis(url) else None
    if address is None or address.primary is None:
        return {}
    return {"master_name": address.primary, "sentinel_kwargs": sentinel_options(address, _SENTINEL_TIMEOUT)}


def task_of(lane: str) -> tuple[str, str]:
    """The task that a lane's bell calls, and the name that it goes by in monitors (`perform:welcome-email`)."""
    if lane == keys.HISTORY:
        return FILE, "file"
    if lane.startswith(keys.DELIVERIES):
        return PROCESS, f"process:{lane.removeprefix(keys.DELIVERIES)}"
    if lane == keys.OPERATIONS:
        return OPERATE, "operate"
    return PERFORM, f"perform:{lane.removeprefix(keys.JOBS)}"


def queue_of(config: Config, lane: str) -> str:
    """The Celery queue that a lane's bells ring on."""
    action = config.actions.get(lane.removeprefix(keys.JOBS)) if lane.startswith(keys.JOBS) else None
    return (action.queue if action else None) or QUEUE


def lanes_of(config: Config) -> list[str]:
    """The lanes of sources and actions, and that of operations. Beside these only the lane `history` is rung for."""
    lanes = [keys.deliveries_lane(name) for name in config.sources]
    return [*lanes, *(keys.jobs_lane(name) for name in config.actions), keys.OPERATIONS]


def publisher(settings: Settings, queue_of: Callable[[str], str] = lambda _lane: QUEUE) -> Ring:
    """Make the function that rings one lane's bell; it blocks up to a few seconds and raises when it fails."""
    app = Celery("tiercast-bells", set_as_current=False)
    app.conf.update(
        celery_config(
            settings, socket_connect_timeout=_TIMEOUT, socket_timeout=_TIMEOUT, retry_on_timeout=False, max_retries=0
        ),
        broker_connection_timeout=_TIMEOUT,
    )

    def ring(lane: str) -> None:
        task, shadow = task_of(lane)
        app.send_task(
            task, args=[lane], shadow=shadow, queue=queue_of(lane), expires=_EXPIRES, ignore_result=True, retry=False
        )

    return ring
