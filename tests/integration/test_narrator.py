"""The narrator of `tiercast up`, with hundreds of deliveries and jobs that wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.connection import Connection

from tiercast.ids import new_delivery_id
from tiercast.ledger import Ledger, new_token, prepare
from tiercast.ledger.following import Follower
from tiercast.ledger.model import Claim, DeliveryState, Outcome, Plan, PlannedJob
from tiercast.ledger.reading import Reader
from tiercast.settings import load_settings
from tiercast.up import narrator as narrating
from tiercast.up.narrator import Narrator

JOINED = "customer.loyalty.tier.joined"


class Told(list[str]):
    """What was said."""


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def narrator(ledger: Ledger, told: Told, tmp_path: Path) -> Narrator:
    digests = prepare(ledger, load_settings({}))
    return Narrator(Follower(ledger, Reader(ledger, digests)), home=tmp_path, say=told.append)


def store(ledger: Ledger, count: int) -> list[str]:
    ids = [new_delivery_id() for _ in range(count)]
    ledger.record([("voucherify", id, b"{}") for id in ids])
    return ids


def read_all(ledger: Ledger) -> None:
    """Read the deliveries that are due, each with one job that waits."""
    while claimed := ledger.exchange_deliveries("voucherify", [], Claim(token=new_token(), n=100)).claimed:
        plans = [
            Plan(
                delivery=held.id,
                token=held.token,
                state=DeliveryState.PROCESSED,
                event_id=f"e-{held.id}",
                type=JOINED,
                jobs=(PlannedJob(action="mail"),),
            )
            for held in claimed
        ]
        ledger.exchange_deliveries("voucherify", plans)


def do_all(ledger: Ledger) -> None:
    """Perform the jobs that are due."""
    while claimed := ledger.exchange_jobs("jobs/mail", [], Claim(token=new_token(), n=100)).claimed:
        ledger.exchange_jobs("jobs/mail", [Outcome(job=held.key, token=held.token, verdict="done") for held in claimed])


def round_trips(do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """How often something was sent to the ledger."""
    sent = []
    with monkeypatch.context() as patch:
        original = Connection.send_packed_command

        def counted(self: Connection, *args: Any, **options: Any) -> Any:
            sent.append(1)
            return original(self, *args, **options)  # type: ignore[no-untyped-call]

        patch.setattr(Connection, "send_packed_command", counted)
        do()
    return len(sent)


@pytest.mark.parametrize("are_read", [False, True], ids=["queued", "with jobs that wait"])
def test_hundreds_that_wait_cost_as_many_round_trips_as_one(
    ledger: Ledger, narrator: Narrator, told: Told, monkeypatch: pytest.MonkeyPatch, are_read: bool
) -> None:
    # Given what one costs
    store(ledger, 1)
    if are_read:
        read_all(ledger)
    narrator.look()
    of_one = round_trips(narrator.look, monkeypatch)

    # When 500 wait
    store(ledger, 499)
    if are_read:
        read_all(ledger)
    narrator.look()

    # Then a look costs no more, but for what redis-py cuts into several packets
    assert round_trips(narrator.look, monkeypatch) <= of_one + 30
    assert told == []


def test_many_that_are_slow_to_be_read_get_one_line(
    ledger: Ledger, narrator: Narrator, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrating, "_SLOW", -1.0)
    store(ledger, 300)
    narrator.look()
    narrator.look()
    (line,) = told
    assert line.endswith("300 deliveries are queued; no worker has taken them yet")


def test_each_of_many_gets_its_lines_once_when_it_is_done(ledger: Ledger, narrator: Narrator, told: Told) -> None:
    ids = store(ledger, 300)
    waiting = [narrator.told(id) for id in ids]
    narrator.look()
    read_all(ledger)
    narrator.look()
    assert told == []
    do_all(ledger)
    for _ in range(3):
        narrator.look()
    assert sum(line.endswith(JOINED) for line in told) == 300
    assert sum("mail" in line and "done" in line for line in told) == 300
    assert all(event.is_set() for event in waiting)
