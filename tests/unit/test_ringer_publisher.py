"""What a bell is on the wire, and that a dead broker costs a ringer little."""

from __future__ import annotations

import json
import time

import pytest
import redis

from tiercast.bells import publisher, task_of
from tiercast.embedded import EmbeddedServer, free_port
from tiercast.settings import load_settings


@pytest.mark.parametrize(
    ("lane", "task", "shadow"),
    [
        ("deliveries/voucherify", "tiercast.process", "process:voucherify"),
        ("jobs/welcome-email", "tiercast.perform", "perform:welcome-email"),
        ("operations/all", "tiercast.operate", "operate"),
    ],
)
def test_a_bell_names_a_lane_and_carries_nothing_else(
    server: EmbeddedServer, client: redis.Redis, lane: str, task: str, shadow: str
) -> None:
    settings = load_settings({"TIERCAST_REDIS_URL": server.url})

    publisher(settings, lambda _: "slow")(lane)

    assert task_of(lane) == (task, shadow)
    assert client.llen("tiercast") == 0
    message = json.loads(client.lindex("slow", 0))  # type: ignore[arg-type]
    headers = message["headers"]
    assert (headers["task"], headers["shadow"], headers["argsrepr"]) == (task, shadow, f"['{lane}']")
    assert headers["expires"], "a bell that nobody heard is worthless after a while"
    assert headers["ignore_result"] is True
    kept = {key for key in client.scan_iter() if not key.startswith(b"_kombu.binding")}
    assert kept == {b"slow"}, "and no result is kept for it"


def test_without_a_queue_of_its_own_a_lane_rings_on_the_common_one(server: EmbeddedServer, client: redis.Redis) -> None:
    publisher(load_settings({"TIERCAST_REDIS_URL": server.url}))("jobs/one")

    assert client.llen("tiercast") == 1


def test_a_dead_broker_is_an_error_within_seconds() -> None:
    settings = load_settings({"TIERCAST_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"})
    began = time.monotonic()

    with pytest.raises(Exception, match="refused"):
        publisher(settings)("jobs/one")

    assert time.monotonic() - began < 15
