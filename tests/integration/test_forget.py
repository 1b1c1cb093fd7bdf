"""Forgetting a customer: everything of theirs goes, nothing of others, late copies are dropped, rewards stay paid."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.web import Answer, WebServer
from tests.stack import JOINED, Stack, wait_for
from tiercast.ids import new_delivery_id
from tiercast.ledger.identity import Finder, Identity
from tiercast.samples import envelope, sample_data

CONFIG = """
[actions.tell]
kind = "webhook"
url = "{url}/tell"
allow_hosts = ["127.0.0.1"]
order = "latest"
timeout = 20

[actions.reward]
kind = "webhook"
url = "{url}/reward"
allow_hosts = ["127.0.0.1"]
once = ["customer", "tier"]

[actions.later]
kind = "webhook"
url = "{url}/later"
allow_hosts = ["127.0.0.1"]
attempts = 100

[[rules]]
on = "customer.loyalty.tier.*"
do = ["tell", "reward", "later"]
"""

ADA: dict[str, Any] = {
    "customer_id": "cust_Ada0000000000001",
    "email": "ada.byron@example.com",
    "name": "Ada Byron",
    "source_id": "crm-ada-1815",
}
BOB: dict[str, Any] = {
    "customer_id": "cust_Bob0000000000002",
    "email": "bob@example.com",
    "name": "Bob Stone",
    "source_id": "crm-bob-77",
}


class World(Stack):
    """The stack with an endpoint that puts off what goes to /later."""

    def __init__(self, folder: Path, web: WebServer) -> None:
        self.web = web
        self.blocked = threading.Event()
        web.default = lambda request: Answer(status=503 if request.path == "/later" else 200)
        (folder / "spool").mkdir()
        env = {"TIERCAST_SPOOL_DIR": str(folder / "spool")}
        super().__init__(folder, CONFIG.format(url=web.url), env=env)

    def forget(self, *arguments: str, expect: int = 0) -> Any:
        """Run the command; returns its document."""
        return json.loads(self.cli("forget", *arguments, "--yes", "--json", expect=expect))

    def everything(self) -> bytes:
        """Every key and value of the server, and its append-only files."""
        dump = b"\n".join(repr((key, self._value(key))).encode() for key in self.client.scan_iter())
        files = (self.folder / "ledger").rglob("appendonly*")
        return dump + b"".join(path.read_bytes() for path in files if path.is_file())

    def _value(self, key: bytes) -> Any:
        client: Any = self.client
        kind = client.type(key).decode()
        reads = {"string": client.get, "hash": client.hgetall, "set": client.smembers}
        if kind == "zset":
            return client.zrange(key, 0, -1, withscores=True)
        if kind == "stream":
            return client.xrange(key)
        return reads[kind](key) if kind in reads else client.lrange(key, 0, -1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with WebServer() as web, World(tmp_path, web) as it:
        it.start_web()
        yield it


def names_in(everything: bytes, who: dict[str, Any]) -> list[str]:
    return [value for value in who.values() if value.encode() in everything]


def reason_of(world: World, delivery: str) -> str | None:
    """Why a delivery ended as it did, once it has."""

    def look() -> list[str | None]:
        with world.opened() as (_, reader):
            info = reader.delivery(delivery)
        return [info.reason] if info and info.state == "ignored" else []

    return wait_for(look)[0]


def settled_but_later(world: World, delivery: str) -> None:
    def look() -> bool:
        with world.opened() as (_, reader):
            info = reader.delivery(delivery)
            states = {job.action: job.state for job in reader.jobs_of(info)} if info else {}
        return len(states) == 3 and all(state != "owed" for action, state in states.items() if action != "later")

    wait_for(look)


@pytest.mark.parametrize("name", ["email", "customer_id", "source_id"])
def test_everything_of_one_customer_goes_and_nothing_of_another(world: World, name: str) -> None:
    # Given two customers with events read and unread, in quarantine and in the spool, owed and done
    world.start_worker()
    ada_first, bob_first = world.send(**ADA), world.send(**BOB)
    settled_but_later(world, ada_first)
    settled_but_later(world, bob_first)
    bad = world.post(b'{"broken": "' + ADA["email"].encode() + b" " + b"\\u0063rm-ada-1815 cust_Ada0000000000001")
    bare = world.post({"customer": {"id": ADA["customer_id"], "email": ADA["email"], "source_id": ADA["source_id"]}})
    wait_for(lambda: world.cli("deliveries", "list", "--state", "quarantined", "--json").count('"id"') == 2)
    assert world.stop("worker") == 0
    ada_unread, bob_unread = world.send(**ADA | {"email": None}), world.send(**BOB)
    world.stop("web")
    spool_of(world, ADA, BOB)
    before = names_in(world.everything(), ADA)
    assert len(before) == 4

    # When one is forgotten
    told = world.forget(ADA[name])

    # Then nothing names them any more
    assert told["deliveries"] == 4
    assert (told["jobs"], told["spooled"]) == (3, 1)
    assert (told["left"], told["problems"], told["rewritten"]) == ([], [], True)
    assert names_in(world.everything(), ADA) == []
    assert ADA["email"].encode() not in b"".join(p.read_bytes() for p in (world.folder / "spool").iterdir())
    with world.opened() as (_, reader):
        gone = [ada_first, ada_unread, bad.json()["delivery"], bare.json()["delivery"]]
        assert list(reader.by_id(gone)) == []
        assert {info.id for info in reader.by_id([bob_first, bob_unread])} == {bob_first, bob_unread}
    assert {job.delivery for job in world.jobs()} == {bob_first}
    assert len(names_in(world.everything(), BOB)) == 4

    # and what is left goes on: the other's events, and a late copy that is dropped
    world.start_web()
    world.start_worker("again")
    late = world.post(envelope(JOINED, sample_data(**ADA))).json()["delivery"]
    settled_but_later(world, bob_unread)
    assert reason_of(world, late) == "its customer was forgotten"
    with world.opened() as (_, reader):
        assert reader.body(late) is None
    world.cli("deliveries", "replay", late, expect=1)


def spool_of(world: World, *customers: dict[str, Any]) -> None:
    """A spool file as a receiver that is gone left it."""
    path = world.folder / "spool" / f"{new_delivery_id()}.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE deliveries (seq INTEGER PRIMARY KEY, id TEXT, source TEXT, received INT, body BLOB)")
        for who in customers:
            row = (new_delivery_id(), "voucherify", 1, json.dumps(envelope(JOINED, sample_data(**who))).encode())
            db.execute("INSERT INTO deliveries (id, source, received, body) VALUES (?, ?, ?, ?)", row)
    db.close()


def test_a_job_that_is_being_performed_is_waited_for(world: World) -> None:
    # Given a call that takes a while, and another event of the customer that waits for it
    release = threading.Event()

    def slow(request: Any) -> Answer:
        release.wait(20)
        return Answer()

    world.web.default = slow
    world.start_worker()
    world.send(**ADA)
    wait_for(lambda: len(world.web.requests) >= 3)
    world.send(**ADA)
    wait_for(lambda: world.states().get("parked") == 2)

    # When they are forgotten meanwhile
    threading.Timer(8.0, release.set).start()
    told = world.forget(ADA["customer_id"])

    # Then all is gone, and what waited was not performed
    assert told["problems"] == []
    assert world.jobs() == []
    assert world.owed() == 0
    assert len([request for request in world.web.requests if request.path == "/tell"]) == 1
    assert names_in(world.everything(), ADA) == []


def test_a_reward_stays_paid(world: World) -> None:
    # Given a customer who was rewarded and forgotten
    world.start_worker()
    settled_but_later(world, world.send(**ADA))
    world.forget(ADA["customer_id"])
    with world.opened() as (ledger, _):
        (place,) = ledger.client.hvals(ledger.key("once:reward"))
        assert place == b"forgotten"
        # When they come back as the same customer, as an operator allowed it
        ledger.client.delete(ledger.key("gone"))
    delivery = world.send(**ADA)
    settled_but_later(world, delivery)
    # Then the reward is not paid again
    with world.opened() as (_, reader):
        info = reader.delivery(delivery)
        assert info is not None
        states = {job.action: job.state for job in reader.jobs_of(info)}
    assert states["reward"] == "superseded"
    assert states["tell"] == "done"


def test_one_who_comes_back_with_another_id_is_served(world: World) -> None:
    world.start_worker()
    old = envelope(JOINED, sample_data(**ADA | {"customer_id": "cust_Ada_new"}))
    settled_but_later(world, world.send(**ADA))
    world.forget(ADA["customer_id"])
    # A copy from before is dropped by any of the names; what happened since is of a new customer
    late = world.post(old).json()["delivery"]
    new = world.send(**ADA | {"customer_id": "cust_Ada_new"})
    settled_but_later(world, new)
    with world.opened() as (_, reader):
        assert reason_of(world, late) == "its customer was forgotten"
        assert reader.delivery(new).state == "processed"  # type: ignore[union-attr]


def test_what_names_them_in_anothers_event(world: World) -> None:
    # Given a settled and an unread event of another customer that name them
    data = {"customer": {"id": "cust_Eve", "metadata": {"friend": ADA["email"]}}, "created_at": "2026-01-01T00:00:00Z"}
    world.start_worker()
    done = world.post(envelope("customer.updated", data)).json()["delivery"]
    assert reason_of(world, done)
    world.stop("worker")
    unread = world.post(envelope("customer.updated", data)).json()["delivery"]

    # When they are forgotten, then the settled body goes, and the unread one is told
    told = world.forget(ADA["email"], expect=1)
    assert unread in " ".join(told["problems"])
    assert done not in " ".join(told["problems"])
    with world.opened() as (_, reader):
        assert reader.body(done) is None
        assert reader.delivery(done) is not None
        assert reader.body(unread) is not None


def test_it_asks_and_names_what_it_does_not_reach(world: World) -> None:
    world.send(**ADA)
    world.cli("forget", ADA["email"], expect=1)
    assert len(names_in(world.everything(), ADA)) == 4
    world.cli("forget", ADA["email"], "--source", "nobody", "--yes", expect=1)
    world.cli("forget", " ", "--yes", expect=2)
    said = world.cli("forget", ADA["email"], "--yes")
    assert "Removed 1 delivery and 0 jobs." in said
    assert "backups" in said
    assert "replicas" in said
    # and one of whom nothing is known leaves a tombstone all the same
    assert "Removed 0 deliveries and 0 jobs." in world.cli("forget", "cust_nobody", "--yes")


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        (b"mail ada.byron@example.com.", True),
        (b"ADA.BYRON@EXAMPLE.COM", True),
        (rb"ada.byron\u0040example.com", True),
        (b"x.ada.byron@example.com", False),
        (b"ada.byron@example.com.au", False),
        (b"t:crm-7:tell", True),
        (b"t:crm-77:tell", False),
        (b"12", False),
        (b"\xff\xfecrm-7\xff", True),
    ],
)
def test_names_are_found_as_words(text: bytes, is_found: bool) -> None:
    identity = Identity("ada.byron@example.com", ids={"12"}, source_ids={"crm-7"})
    assert Finder(identity).mentions(text) is is_found
    assert identity.too_short()
    assert "ada" not in repr(identity)
