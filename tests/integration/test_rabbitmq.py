"""Bells through RabbitMQ in place of Redis; left out where no RabbitMQ listens on this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu.connection import Connection

from tests.working import Works, once_each

BROKER = "amqp://guest:guest@127.0.0.1:5672//"
ONE = {"one": ("Scripted", "backoff = 0.01"), "two": ("Async", "")}


@pytest.fixture(autouse=True)
def queue() -> Iterator[None]:
    """An empty queue of bells, removed afterwards."""
    try:
        socket.create_connection(("127.0.0.1", 5672), timeout=1).close()
    except OSError:
        pytest.skip("no RabbitMQ on 127.0.0.1:5672")
    _delete()
    yield
    _delete()


def _delete() -> None:
    with Connection(BROKER) as connection:  # type: ignore[no-untyped-call]
        connection.default_channel.queue_delete("tiercast")


def test_the_main_job_with_rabbitmq_as_the_broker(tmp_path: Path) -> None:
    with Works(tmp_path, ONE, env={"TIERCAST_BROKER_URL": BROKER}) as works:
        works.begin()
        works.feed(*["done"] * 50, "permanent")
        works.wait_until("one", done=50, dead=1)
        works.wait_until("two", done=50, dead=1)

        assert once_each(works.effects("one"))
        assert "wakeup.none_received" not in works.log("worker")
        with Connection(BROKER) as connection:  # type: ignore[no-untyped-call]
            _, waiting, _ = connection.default_channel.queue_declare("tiercast", passive=True)
        assert waiting <= 3, "at most one bell of each lane"


def test_bells_that_a_broker_lost_are_rung_again(tmp_path: Path) -> None:
    with Works(tmp_path, ONE, env={"TIERCAST_BROKER_URL": BROKER}) as works:
        # Given work whose bells are gone
        works.feed(*["done"] * 10)
        with Connection(BROKER) as connection:  # type: ignore[no-untyped-call]
            connection.default_channel.queue_delete("tiercast")

        works.begin()

        works.wait_until("one", done=10)
        works.wait_until("two", done=10)
