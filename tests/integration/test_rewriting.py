"""What left the ledger leaves the append-only file of a real server, too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock
from tiercast.embedded import EmbeddedServer
from tiercast.ledger import Ledger, new_token
from tiercast.ledger.client import connect
from tiercast.ledger.model import Claim, DeliveryState, Plan
from tiercast.ledger.opening import examine
from tiercast.ledger.rewriting import refusal
from tiercast.settings import load_settings

DAY = 86400
SEED = b"Retention Seed"


class World:
    def __init__(self, folder: Path, server: EmbeddedServer) -> None:
        self.folder, self.server = folder, server
        self.client: Any = connect(server.url, timeout=5)
        self.clock = Clock(self.client, "t")
        self.ledger = Ledger(self.client, prefix="t", test_clock=True)
        self.number = 0

    def ignored(self) -> str:
        self.number += 1
        id_ = f"01900000-0000-7000-8000-{self.number:012x}"
        self.ledger.record([("s", id_, b'{"name": "' + SEED + b'"}')])
        (held,) = self.ledger.exchange_deliveries("s", claim=Claim(token=new_token(), n=1)).claimed
        self.ledger.exchange_deliveries(
            "s", [Plan(delivery=id_, token=held.token, state=DeliveryState.IGNORED, reason="x")]
        )
        return id_

    def in_file(self) -> int:
        return sum(path.read_bytes().count(SEED) for path in (self.folder / "appendonlydir").glob("*"))

    def rewrites(self) -> int:
        return int(self.client.info("persistence")["aof_rewrites"])

    def await_file(self) -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            info = self.client.info("persistence")
            if not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]:
                return
            time.sleep(0.05)
        raise AssertionError("the rewrite does not end")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with EmbeddedServer(tmp_path / "valkey", appendfsync="no") as server:
        yield World(tmp_path / "valkey", server)


def test_a_day_after_retention_removed_a_body_the_file_is_rewritten_once(world: World) -> None:
    world.ignored()
    world.clock.pass_(8 * DAY)
    assert world.ledger.trim()[0] == 1
    assert world.in_file()
    for _ in range(23):
        world.clock.pass_(3600)
        world.ledger.trim()
    assert world.rewrites() == 0

    world.clock.pass_(2 * 3600)
    world.ledger.trim()
    world.await_file()
    assert world.in_file() == 0
    for _ in range(60):
        world.clock.pass_(1800)
        world.ledger.trim()
    world.await_file()
    assert world.rewrites() == 1, "nothing left since"
    assert set(world.client.hgetall("t:rewrite")) == {b"asked"}


def test_within_an_hour_after_somebody_was_forgotten(world: World) -> None:
    id_ = world.ignored()
    world.ledger.forget(["digest"], [(id_, "s")])
    world.clock.pass_(3600)
    world.ledger.trim()
    world.await_file()
    assert world.in_file() == 0


def test_a_server_that_was_ended_meanwhile_is_asked_again(world: World) -> None:
    id_ = world.ignored()
    world.ledger.forget(["digest"], [(id_, "s")])
    # As if a worker had died after its note and before its request.
    world.client.hset("t:rewrite", "begun", f"{world.clock.now} gone 0 - {world.clock.now}")
    world.client.hdel("t:rewrite", "forgot")
    world.ledger.trim()
    world.await_file()
    assert (world.in_file(), world.rewrites()) == (0, 1)


def test_a_server_that_refuses_is_left_alone_for_a_day_and_check_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = world.ignored()
    world.ledger.forget(["digest"], [(id_, "s")])
    world.client.acl_setuser("poor", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-bgrewriteaof"])
    url = world.server.url.replace("redis://", "redis://poor:x@")
    poor = Ledger(connect(url, timeout=5), prefix="t", test_clock=True)
    assert poor.trim()[0] == 0
    assert "bgrewriteaof" in (refusal(poor) or "").lower()
    monkeypatch.setenv("TIERCAST_REDIS_URL", url)
    assert any("BGREWRITEAOF" in text for text in examine(poor, load_settings()).warnings)

    world.clock.pass_(3600)
    world.ledger.trim()
    assert world.rewrites() == 0
    world.clock.pass_(DAY)
    world.ledger.trim()
    world.await_file()
    world.clock.pass_(DAY)
    world.ledger.trim()
    assert (world.in_file(), world.rewrites(), refusal(world.ledger)) == (0, 1, None)
