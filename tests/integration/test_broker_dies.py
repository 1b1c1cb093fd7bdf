"""A broker that dies while a bell is under way ends no worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kombu
import pytest
from kombu.transport import redis
from structlog.testing import capture_logs
from worker.broker import PAUSE, be_lenient

from tiercast.embedded import EmbeddedServer, free_port

#: It has no types.
untyped: Any = kombu


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


def test_a_channel_can_be_closed_after_its_broker_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given kombu as it is, then this would end a worker; where it would not, LenientQoS is of no use any more
    monkeypatch.setattr(redis.Channel, "QoS", redis.QoS)
    with pytest.raises(AttributeError, match="hostname"):
        close_after_the_broker_died(tmp_path / "one")

    # When the worker's settings are in force
    be_lenient()
    with capture_logs() as logs:
        channel = close_after_the_broker_died(tmp_path / "two")

    # Then nothing is raised, neither now nor when it is collected
    assert channel.closed
    assert [line["event"] for line in logs] == ["bells.not_put_back"]
    channel.qos.restore_unacked_once()


def test_a_broker_that_is_away_is_looked_for_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERCAST_WEBHOOK_SECRETS", "a-secret-of-tests")
    monkeypatch.setenv("TIERCAST_BROKER_URL", f"redis://127.0.0.1:{free_port()}/0")
    monkeypatch.setattr(redis.Channel, "QoS", redis.Channel.QoS)
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda seconds: None)
    from worker.celery import make_app

    pauses: list[float] = []
    connection: Any = make_app().connection_for_read()

    # As Celery's consumer does it
    with pytest.raises(untyped.exceptions.OperationalError):
        connection.ensure_connection(lambda error, pause: pauses.append(pause), 8)

    assert len(pauses) >= 7
    assert max(pauses) <= PAUSE
