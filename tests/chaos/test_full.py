"""A ledger at its memory limit can still be opened, and so be emptied: found by `make chaos --only full-ledger`."""

from __future__ import annotations

import redis

from tiercast.embedded import EmbeddedServer
from tiercast.ledger import open_ledger, prepare
from tiercast.settings import load_settings


def test_a_full_ledger_can_be_opened(server: EmbeddedServer, client: redis.Redis) -> None:
    # Given a ledger that was begun, and whose server takes no more writes
    settings = load_settings({"TIERCAST_REDIS_URL": server.url, "TIERCAST_WEBHOOK_SECRETS": "a-secret-of-tests"})
    first = prepare(open_ledger(settings, role="worker"), settings)
    client.config_set("maxmemory", "1")
    try:
        # When it is opened again
        second = prepare(open_ledger(settings, role="worker"), settings)
    finally:
        client.config_set("maxmemory", "0")

    # Then it is the same ledger
    assert second.check() == first.check()
