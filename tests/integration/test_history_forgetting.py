"""Forgetting a customer in the history: all that is theirs is found by any of their names, and nothing is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from tests.histories import a_delivery, a_job, delivery_id
from tests.integration.test_cli_ledger import Story
from tiercast.cli import main
from tiercast.embedded import EmbeddedServer
from tiercast.event import CustomerRefs
from tiercast.history.rows import FiledDelivery
from tiercast.history.store import History
from tiercast.ledger import Digests, open_ledger, prepare
from tiercast.ledger.identity import Identity
from tiercast.queries.forgetting import HistoryForgetter
from tiercast.samples import envelope, sample_data
from tiercast.settings import load_settings

DIGESTS = Digests("a key of sixteen and more")
SOURCE = "voucherify"
ADA: dict[str, Any] = {
    "customer_id": "cust_Ada0001",
    "email": "ada.byron@example.com",
    "name": "Ada Byron",
    "source_id": "crm-ada-1815",
}
BOB: dict[str, Any] = {
    "customer_id": "cust_Bob0002",
    "email": "bob@example.com",
    "name": "Bob Stone",
    "source_id": "crm-bob-77",
}


def told(
    number: int, refs: CustomerRefs, body: Any, *, source: str = SOURCE, error: str = "answered 404"
) -> FiledDelivery:
    named = (("id", refs.id), ("source_id", refs.source_id), ("email", refs.email))
    return a_delivery(
        number,
        a_job(number, "mail", source=source, state="dead", text=error),
        source=source,
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        customer=tuple(DIGESTS.customer(source, kind, value) for kind, value in named if value),
    )


def of(number: int, who: dict[str, Any], **changes: Any) -> FiledDelivery:
    known = who | changes
    data = sample_data(**known)
    refs = CustomerRefs(id=known["customer_id"], source_id=known["source_id"], email=known["email"])
    return told(number, refs, envelope("customer.loyalty.tier.joined", data))


@pytest.fixture
def forgetter(history: History) -> HistoryForgetter:
    """Of a history with Ada, Bob and what names Ada elsewhere."""
    mention = envelope("customer.loyalty.tier.joined", sample_data(**BOB) | {"note": f"asked {ADA['email']}"})
    history.file(
        [
            *(of(n, ADA) for n in range(5)),
            of(5, ADA, email="ada.lovelace@example.com"),
            told(6, CustomerRefs(email=ADA["email"]), {"object": "customer", "email": ADA["email"]}),
            *(of(n, BOB) for n in range(10, 15)),
            told(20, CustomerRefs(id=BOB["customer_id"]), mention),
            a_delivery(30, state="quarantined", body=b'cut off {"email": "ada.lovelace@example.com"', customer=()),
            told(40, CustomerRefs(id=ADA["customer_id"]), sample_data(**ADA), source="other"),
        ]
    )
    return HistoryForgetter(history.reading, history.removing, DIGESTS, [SOURCE], [SOURCE])


@pytest.mark.parametrize("name", [ADA["customer_id"], ADA["email"], ADA["source_id"], "ada.lovelace@example.com"])
def test_everything_is_found_by_any_of_their_names(history: History, forgetter: HistoryForgetter, name: str) -> None:
    identity = Identity(name)
    looked_at: list[int] = []
    found = forgetter.find(identity, looked_at.append)
    assert found.deliveries == {delivery_id(n) for n in (0, 1, 2, 3, 4, 5, 6, 30)}
    assert found.mentions == {delivery_id(20): BOB["customer_id"]}
    assert found.jobs == 7

    erased = forgetter.remove(identity, found)

    assert (erased.deliveries, erased.jobs, erased.bodies, erased.complete) == (8, 7, 1, True)
    left = [each.id for each in history.reading.by_id(delivery_id(n) for n in range(50))]
    assert left == [delivery_id(n) for n in (*range(10, 15), 20, 40)]
    # Another source was not asked for, and keeps what it has.
    assert forgetter.prove(identity, looked_at.append) == [f"delivery {delivery_id(40)}"]
    assert history.file([of(50, ADA)]).forgotten == {delivery_id(50)}


def test_what_an_error_tells_is_found(history: History, forgetter: HistoryForgetter) -> None:
    slip = told(60, CustomerRefs(id=BOB["customer_id"]), sample_data(**BOB), error=f"no such contact: {ADA['email']}")
    history.file([slip])
    assert f"job {slip.id}" in forgetter.prove(Identity(ADA["email"]), lambda _: None)


def test_repeating_it_changes_nothing(history: History, forgetter: HistoryForgetter) -> None:
    identity = Identity(ADA["email"])
    forgetter.remove(identity, forgetter.find(identity, lambda _: None))
    again = forgetter.find(Identity(ADA["email"]), lambda _: None)
    assert (again.deliveries, again.mentions) == (set(), {})
    assert forgetter.remove(identity, again).deliveries == 0
    assert len(history.reading.by_id(delivery_id(n) for n in range(10, 15))) == 5


def test_the_command_reaches_both_and_learns_names_from_either(
    history: History, client: redis.Redis, server: EmbeddedServer, tmp_path: Path
) -> None:
    # Given a ledger that knows their email with one id, and a history that knows that id with an older email
    address = history.address
    environ = {
        "TIERCAST_REDIS_URL": server.url,
        "TIERCAST_PREFIX": "t",
        "TIERCAST_DATA": str(tmp_path / "none"),
        "TIERCAST_CONFIG": str(tmp_path / "none.toml"),
        "TIERCAST_HISTORY_URL": f"sqlite:///{address.path}" if address.path else address.url.replace("+psycopg", ""),
    }
    settings = load_settings(environ)
    ledger = open_ledger(settings, role="operator")
    story = Story(ledger, prepare(ledger, settings))
    story.tell("evcus_1", "mail", customer_id=ADA["customer_id"], email=ADA["email"], source_id=None)
    story.tell("evcus_2", "mail", customer_id="cust_Ada9999", email="ada.old@example.com", source_id=None)
    story.perform("mail", "done")
    refs = CustomerRefs(id=ADA["customer_id"], email="ada.old@example.com")
    old = sample_data(customer_id=refs.id, email=refs.email, source_id=None)
    named = (("id", refs.id or ""), ("email", refs.email or ""))
    customer = tuple(story.digests.customer(SOURCE, kind, value) for kind, value in named)
    history.file(
        [
            a_delivery(1, a_job(1), body=json.dumps(old).encode(), customer=customer),
            a_delivery(2, a_job(2), body=json.dumps(sample_data(**BOB)).encode(), customer=("bob",)),
        ]
    )

    result = CliRunner(env=environ).invoke(main, ["forget", ADA["email"], "--yes", "--why", "asked", "--json"])

    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["deliveries"], document["jobs"], document["left"], document["problems"]) == (2, 2, [], [])
    assert history.reading.delivery(delivery_id(1)) is None
    assert history.reading.delivery(delivery_id(2))
    # Then what a filer still held of theirs is refused
    assert history.file([a_delivery(3, customer=customer)]).forgotten == {delivery_id(3)}
