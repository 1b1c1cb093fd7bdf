"""An erasure that is not complete: the next run knows the names that the first one learnt."""

from __future__ import annotations

import json

from tiercast.ledger import Digests, Ledger, new_token
from tiercast.ledger.forgetting import Belongings, Forgetter
from tiercast.ledger.model import Claim, DeliveryState, Plan, PlannedJob
from tiercast.ledger.reading import Reader

DIGESTS = Digests("test")


def body(customer: dict[str, str], note: str = "") -> bytes:
    return json.dumps({"customer": customer, "note": note}).encode()


def arrive(ledger: Ledger, number: int, content: bytes, names: list[tuple[str, str]], *jobs: PlannedJob) -> str:
    id_ = f"01900000-0000-7000-8000-{number:012x}"
    ledger.record([("s", id_, content)])
    (held,) = ledger.exchange_deliveries("s", claim=Claim(token=new_token(), n=1)).claimed
    plan = Plan(delivery=id_, token=held.token, state=DeliveryState.PROCESSED, event_id=f"e{number}", type="x",
                customer=tuple(DIGESTS.customer("s", *name) for name in names), jobs=jobs)  # fmt: skip
    ledger.exchange_deliveries("s", [plan])
    return id_


def run(ledger: Ledger) -> tuple[Forgetter, Belongings, list[str]]:
    forgetter = Forgetter(ledger, Reader(ledger, DIGESTS), DIGESTS, ["s"])
    found = forgetter.find("ada@example.com", lambda _: None)
    return forgetter, found, forgetter.remove(found, waiting=lambda _: None).needed


def test_the_second_run_looks_for_the_names_that_the_first_one_learnt(ledger: Ledger) -> None:
    ada = {"id": "cust_ada_77", "email": "ada@example.com"}
    arrive(ledger, 1, body(ada), [("id", "cust_ada_77"), ("email", "ada@example.com")])
    bob = {"id": "cust_bob"}
    other = arrive(ledger, 2, body(bob, "see cust_ada_77"), [("id", "cust_bob")], PlannedJob(action="a"))

    forgetter, found, needed = run(ledger)
    assert needed == [other], "an open job of another customer needs the body that names her"
    assert forgetter.prove(found.identity, lambda _: None) == [f"t:b:{other}"]

    ledger.operate("drop", job="s:e2:a")
    forgetter, found, needed = run(ledger)
    assert (found.deliveries, list(found.mentions), needed) == ({}, [other], [])
    assert forgetter.prove(found.identity, lambda _: None) == []
    assert list(ledger.client.scan_iter("t:erasing:*"))

    forgetter.complete(found.identity)
    assert not list(ledger.client.scan_iter("t:erasing:*"))
    everything = [ledger.client.dump(key) for key in ledger.client.scan_iter("*")]
    assert not any(b"cust_ada_77" in (value or b"") for value in everything)
