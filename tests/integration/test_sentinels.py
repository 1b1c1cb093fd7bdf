"""A ledger and a broker behind sentinels: found by name, and found again after a fail-over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.sentinels import Sentinels
from tests.stack import wait_for
from tiercast.bells import publisher
from tiercast.embedded import EmbeddedServer
from tiercast.errors import LedgerUnavailable
from tiercast.ids import new_delivery_id
from tiercast.ledger import Ledger, open_ledger, prepare
from tiercast.ledger.model import Claim
from tiercast.settings import Settings, load_settings


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Sentinels]:
    with (
        EmbeddedServer(tmp_path / "ledger", repl_diskless_sync_delay="0") as primary,
        Sentinels(tmp_path, primary) as sentinels,
    ):
        yield sentinels


def settings_of(watched: Sentinels) -> Settings:
    return load_settings({"TIERCAST_REDIS_URL": watched.url, "TIERCAST_DURABILITY": "replica:1"})


def record(ledger: Ledger) -> str:
    delivery = new_delivery_id()
    ledger.record([("voucherify", delivery, b"{}")])
    return delivery


def test_what_was_acknowledged_is_there_after_a_fail_over(watched: Sentinels) -> None:
    # Given deliveries that are on the replica
    settings = settings_of(watched)
    ledger = open_ledger(settings, role="worker")
    prepare(ledger, settings)
    acknowledged = [record(ledger) for _ in range(20)]

    # When the primary dies, and with it the sentinel that was asked so far
    watched.kill_sentinel(watched.ports[0])
    watched.fail_over()

    # Then the same client finds the new primary, which has all of them
    def claimed() -> list[str]:
        try:
            return [held.id for held in ledger.exchange_deliveries("voucherify", claim=Claim(token="t", n=50)).claimed]
        except LedgerUnavailable:
            return []

    assert sorted(wait_for(claimed)) == sorted(acknowledged)
    # And nothing is acknowledged that no replica has
    with pytest.raises(LedgerUnavailable, match="0 of 1 replicas confirmed"):
        record(ledger)
    watched.bring_back()
    wait_for(lambda: is_recorded(ledger))
    ledger.close()


def is_recorded(ledger: Ledger) -> bool:
    """Whether a delivery is acknowledged."""
    try:
        return bool(record(ledger))
    except LedgerUnavailable:
        return False


def test_bells_ring_through_sentinels_and_after_a_fail_over(watched: Sentinels) -> None:
    settings = settings_of(watched)
    ring = publisher(settings)
    ledger = open_ledger(settings, role="operator")
    ring("deliveries/voucherify")
    assert ledger.client.llen("tiercast") == 1

    watched.fail_over()

    def rings() -> bool:
        try:
            ring("deliveries/voucherify")
        except Exception:  # each transport raises errors of its own
            return False
        return True

    wait_for(rings)
    assert ledger.client.llen("tiercast") >= 1
    ledger.close()


def test_a_name_that_no_sentinel_knows_is_no_ledger(watched: Sentinels) -> None:
    url = watched.url.replace("/the-ledger", "/another")
    ledger = open_ledger(load_settings({"TIERCAST_REDIS_URL": url}), role="operator")
    with pytest.raises(LedgerUnavailable, match="MasterNotFoundError"):
        ledger.ping()
    ledger.close()
