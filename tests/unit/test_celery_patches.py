"""Each patch in worker/celery_patches.py has a test that shows the fault upstream: once it fails, the patch can go."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import billiard.pool
import kombu
import pytest
from celery import Celery
from celery.concurrency import asynpool
from celery.worker.consumer.consumer import Consumer
from kombu.transport import redis
from structlog.testing import capture_logs

from tiercast.embedded import EmbeddedServer, free_port
from worker import celery_patches
from worker.celery_patches import CONSUMPTION_TRIES, RECONNECT_SECONDS, LenientQoS, PromptAMQP, in_turn

#: It has no types.
untyped: Any = kombu


# --- 1. idle processes in turn


def first_asked(rotate: Callable[[Callable[[list[int]], None]], Callable[[list[int]], None]]) -> list[int]:
    """Which of four idle processes is the first to be offered a task, eight times."""
    asked: list[int] = []
    pool, hub = MagicMock(), MagicMock()

    def offered(fd: int) -> bool:
        asked.append(fd)
        return False  # it has closed meanwhile, so that nothing is written

    pool._all_inqueues.__contains__.side_effect = offered
    asynpool.AsynPool._create_write_handlers(pool, hub)
    schedule = rotate(hub.consolidate_callback)
    firsts: list[int] = []
    for _ in range(8):
        asked.clear()
        schedule([10, 11, 12, 13])
        firsts.append(asked[0])
    return firsts


def test_upstream_gives_every_task_to_the_first_idle_process() -> None:
    assert first_asked(lambda schedule: schedule) == [10] * 8


def test_tasks_go_to_the_idle_processes_in_turn() -> None:
    assert first_asked(in_turn) == [10, 11, 12, 13, 10, 11, 12, 13]


def test_turns_with_nobody_idle() -> None:
    seen: list[list[int]] = []
    scheduled = in_turn(seen.append)
    scheduled([])
    scheduled([3, 1, 2])
    scheduled([3, 1, 2])
    assert seen == [[], [1, 2, 3], [2, 3, 1]]


# --- 2. looking for a broker that is away


def pauses_of(app: Celery, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between twelve tries to connect, as Celery's consumer makes them."""
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _seconds: None)
    pauses: list[float] = []
    connection: Any = app.connection_for_read()
    with pytest.raises(untyped.exceptions.OperationalError):
        connection.ensure_connection(lambda _error, pause: pauses.append(pause), 12)
    return pauses


@pytest.mark.parametrize("patched", [False, True])
def test_the_pauses_between_two_tries_to_connect(patched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = f"redis://127.0.0.1:{free_port()}/0"
    app = Celery("test", broker=broker, set_as_current=False, **({"amqp": PromptAMQP} if patched else {}))
    longest = max(pauses_of(app, monkeypatch))
    assert longest <= RECONNECT_SECONDS if patched else longest > 15


def test_upstream_has_no_setting_for_the_longest_pause() -> None:
    assert "interval_max" not in inspect.getsource(Consumer.ensure_connected)


# --- 3. closing a channel whose broker died


def close_after_the_broker_died(folder: Path) -> Any:
    """Close a channel whose broker and transport are gone, with a message that is not acknowledged; returns it."""
    server = EmbeddedServer(folder, appendonly="no", appendfsync="no")
    server.start()
    connection = untyped.Connection(server.url)
    channel = connection.default_channel
    queue = untyped.Queue("bells")
    connection.Producer().publish({}, routing_key="bells", declare=[queue])
    delivered: list[object] = []
    untyped.Consumer(channel, [queue], callbacks=[lambda _, message: delivered.append(message)]).consume()
    connection.drain_events(timeout=10)
    assert len(delivered) == 1
    server.kill()
    channel.connection.client = None
    connection.close()
    return channel


def test_upstream_raises_when_a_channel_is_closed_after_its_broker_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis.Channel, "QoS", redis.QoS)
    with pytest.raises(AttributeError, match="hostname"):
        close_after_the_broker_died(tmp_path)


def test_a_channel_can_be_closed_after_its_broker_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis.Channel, "QoS", LenientQoS)
    with capture_logs() as logs:
        channel = close_after_the_broker_died(tmp_path)

    # Nothing is raised, neither now nor when it is collected
    assert channel.closed
    assert [line["log_level"] for line in logs] == ["warning"]
    channel.qos.restore_unacked_once()


# --- 4. the end of a pool's process


def test_upstream_waits_half_a_minute_for_the_last_tasks_to_be_heard_of() -> None:
    source = inspect.getsource(billiard.pool)
    assert "GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 300" in source
    assert billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL == 0.1


def test_the_patches_of_modules_take_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis.Channel, "QoS", redis.Channel.QoS)
    monkeypatch.setattr(billiard.pool, "GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT", 300)
    celery_patches.apply()
    assert redis.Channel.QoS is LenientQoS
    assert billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT == CONSUMPTION_TRIES
