"""A broker that dies while a bell is under way ends no worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kombu
import pytest
from kombu.transport import redis
from structlog.testing import capture_logs

from tiercast.embedded import EmbeddedServer
from worker.broker import be_lenient

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
    # Given kombu as it is, then this would end a worker; should it ever not, worker/broker.py can go
    with pytest.raises(AttributeError, match="hostname"):
        close_after_the_broker_died(tmp_path / "one")

    # When the worker's settings are in force
    monkeypatch.setattr(redis.Channel, "QoS", redis.Channel.QoS)
    be_lenient()
    with capture_logs() as logs:
        channel = close_after_the_broker_died(tmp_path / "two")

    # Then nothing is raised, neither now nor when it is collected
    assert channel.closed
    assert [line["event"] for line in logs] == ["bells.not_put_back"]
    channel.qos.restore_unacked_once()
