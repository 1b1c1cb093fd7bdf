"""Who and what an event is, from its body to the ledger: projects, a customer's names, events of one time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import Clock
from tests.unit.test_planning import action, planner
from tiercast.ledger import Ledger, new_token
from tiercast.ledger.client import LedgerClient
from tiercast.ledger.digests import Digests
from tiercast.ledger.model import Claim, DeliveryInfo, HeldJob, JobState, Outcome
from tiercast.ledger.reading import Filter, Reader
from tiercast.samples import envelope, sample_data

JOINED = "customer.loyalty.tier.joined"
AT = datetime(2026, 8, 1, tzinfo=UTC)
DIGESTS = Digests("a key of the tests")

#: One customer's names, from which each event takes some.
NAMES = {"id": "cust_1", "source_id": "crm-1", "email": "ada@example.com"}


@dataclass
class Shop:
    """Tells events to a ledger and performs what is owed."""

    ledger: Ledger
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def tell(
        self,
        customer: dict[str, Any],
        *,
        source: str = "tea",
        tier: str = "ltr_1",
        event_id: str | None = None,
        when: str | None = None,
        **changes: Any,
    ) -> DeliveryInfo:
        """Send an event with this customer through planner and scripts; returns what became of the delivery."""
        data = sample_data(JOINED, at=changes.pop("at", AT)) | {"customer": customer}
        data["loyalty_tier"]["id"] = tier
        number = next(self.numbers)
        body = envelope(JOINED, data, event_id=event_id or f"ev{number}") | changes
        return self.send(json.dumps(body).encode(), source=source, number=number, when=when)

    def send(self, body: bytes, *, source: str = "tea", number: int | None = None, **options: Any) -> DeliveryInfo:
        number = number or next(self.numbers)
        delivery = f"01900000-0000-7000-8000-{number:012x}"
        self.ledger.record([(source, delivery, body)])
        (held,) = self.ledger.exchange_deliveries(source, claim=Claim(token=new_token(), n=1)).claimed
        plan = planner(
            action("pay", once=("customer", "tier")), action("crm", order="latest"), source=source, **options
        ).plan(held)
        self.ledger.exchange_deliveries(source, [plan])
        info = self.reader.delivery(delivery)
        assert info is not None
        return info

    @property
    def reader(self) -> Reader:
        return Reader(self.ledger, DIGESTS)

    def perform(self, action: str = "pay") -> list[str]:
        """Perform all that is owed of an action; returns the keys."""
        lane = f"jobs/{action}"
        done: list[HeldJob] = []
        while claimed := self.ledger.exchange_jobs(lane, claim=Claim(token=new_token(), n=10)).claimed:
            done += claimed
            self.ledger.exchange_jobs(lane, [Outcome(job=one.key, token=one.token, verdict="done") for one in claimed])
        return [one.key for one in done]

    def state(self, info: DeliveryInfo, action: str = "pay") -> JobState:
        job = self.reader.job(f"{info.source}:{info.event_id}:{action}")
        assert job is not None
        return job.state


@pytest.fixture
def shop(ledger: Ledger) -> Shop:
    return Shop(ledger)


def some(*kinds: str) -> dict[str, str]:
    return {kind: NAMES[kind] for kind in kinds}


ALL = tuple(NAMES)
SUBSETS = [subset for size in (1, 2, 3) for subset in itertools.combinations(ALL, size)]


# --- one event at two sources of a project


def test_one_event_at_two_sources_of_a_project_is_one_event(shop: Shop) -> None:
    first = shop.tell(some(*ALL), event_id="evcus_1")
    copy = shop.tell(some(*ALL), event_id="evcus_1", source="coffee")

    assert (first.state, copy.state, copy.first) == ("processed", "duplicate", first.id)
    assert first.jobs == ("tea:evcus_1:pay", "tea:evcus_1:crm"), "the public form of a key names the source"
    assert shop.perform() == ["tea:evcus_1:pay"]


def test_the_same_id_in_another_project_is_another_event(shop: Shop) -> None:
    shop.tell(some(*ALL), event_id="evcus_1")
    other = shop.tell(some(*ALL), event_id="evcus_1", source="coffee", project_id="proj_other")

    assert other.state == "processed"
    assert sorted(shop.perform()) == ["coffee:evcus_1:pay", "tea:evcus_1:pay"]


def test_once_holds_over_both_sources_of_a_project(shop: Shop) -> None:
    shop.tell(some(*ALL))
    assert len(shop.perform()) == 1
    again = shop.tell(some(*ALL), source="coffee")

    assert shop.state(again) == "superseded"


def test_a_bare_event_shares_the_project_that_its_source_names(shop: Shop) -> None:
    shop.tell(some(*ALL))
    assert len(shop.perform()) == 1
    data = sample_data(JOINED, at=AT) | {"customer": some(*ALL)}
    data["loyalty_tier"]["id"] = "ltr_1"

    bare = shop.send(json.dumps(data).encode(), source="coffee", event=JOINED, project="proj_teahouse")

    assert (bare.form, shop.state(bare)) == ("raw", "superseded")


# --- a customer's names


@pytest.mark.parametrize("second", SUBSETS, ids="+".join)
def test_a_reward_is_paid_once_whatever_name_a_later_event_has(shop: Shop, second: tuple[str, ...]) -> None:
    shop.tell(some(*ALL))
    assert len(shop.perform()) == 1
    later = shop.tell(some(*second))

    assert shop.state(later) == "superseded"
    assert shop.perform() == []


@pytest.mark.parametrize("first", SUBSETS, ids="+".join)
@pytest.mark.parametrize("last", SUBSETS, ids="+".join)
def test_it_is_paid_once_too_where_the_names_are_told_later(
    shop: Shop, first: tuple[str, ...], last: tuple[str, ...]
) -> None:
    shop.tell(some(*first))
    assert len(shop.perform()) == 1
    # Only this one says that the names are those of one customer.
    told = shop.tell(some(*ALL))
    later = shop.tell(some(*last))

    assert [shop.state(told), shop.state(later)] == ["superseded", "superseded"]
    assert shop.perform() == []


@pytest.mark.parametrize("first", SUBSETS, ids="+".join)
def test_two_that_come_at_once_wait_for_each_other(shop: Shop, first: tuple[str, ...]) -> None:
    one = shop.tell(some(*first))
    other = shop.tell(some(*ALL))

    assert [shop.state(one), shop.state(other)] == ["owed", "parked"]
    assert len(shop.perform()) == 1
    assert shop.state(other) == "superseded"


def test_places_under_two_names_both_count_once_they_are_known_to_be_one_customers(shop: Shop) -> None:
    shop.tell(some("id"), tier="gold")
    shop.tell(some("source_id"), tier="silver")
    assert len(shop.perform()) == 2
    shop.tell(some("id", "source_id"), tier="green")
    assert len(shop.perform()) == 1

    later = [shop.tell(some(name), tier=tier) for name in ("id", "source_id") for tier in ("gold", "silver", "green")]

    assert {shop.state(info) for info in later} == {"superseded"}
    assert {shop.state(shop.tell(some(name), tier=f"new_{name}")) for name in ("id", "source_id")} == {"owed"}


@pytest.mark.parametrize("paid_as", ALL)
@pytest.mark.parametrize("later_as", ALL)
@pytest.mark.parametrize("told_first", [True, False])
def test_an_event_that_leads_to_nothing_tells_of_names_too(
    shop: Shop, paid_as: str, later_as: str, told_first: bool
) -> None:
    if told_first:
        shop.tell(some(*ALL), when="event.tier.name == 'none'")
    shop.tell(some(paid_as))
    assert len(shop.perform()) == 1
    if not told_first:
        ignored = shop.tell(some(*ALL), when="event.tier.name == 'none'")
        assert ignored.state == "ignored"
    later = shop.tell(some(later_as))

    assert shop.state(later) == "superseded"
    assert shop.perform() == []


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(SUBSETS), st.sampled_from(["gold", "silver"]), st.booleans()),
        max_size=12,
    )
)
@example(
    [("a", ("source_id", "email"), "gold", True), ("a", ("id", "email"), "gold", False), ("a", ("id",), "gold", True)]
)
def test_in_any_story_nobody_is_paid_twice_and_nobody_for_another(
    client: LedgerClient, story: list[tuple[str, tuple[str, ...], str, bool]]
) -> None:
    client.flushall()
    shop = Shop(Ledger(client, prefix="t"))
    # Which names belong together, as the events so far told, and which places are taken under one of them.
    known: list[set[str]] = []
    paid: list[tuple[str, str]] = []
    for who, kinds, tier, leads in story:
        names = {f"{kind}-{who}" for kind in kinds}
        told = [group for group in known if group & names]
        known = [group for group in known if not group & names] + [names.union(*told)]
        customer = {kind: f"{kind}-{who}" + ("@example.com" if kind == "email" else "") for kind in kinds}
        info = shop.tell(customer, tier=tier, when=None if leads else "event.tier.name == 'none'")
        if not leads:
            continue
        was_paid = any((name, tier) in paid for name in known[-1])
        assert shop.state(info) == ("superseded" if was_paid else "owed")
        if not was_paid:
            assert len(shop.perform()) == 1
            paid += [(name, tier) for name in names]


def test_an_email_of_two_customers_makes_them_no_one(shop: Shop) -> None:
    shop.tell({"id": "cust_1", "email": "family@example.com"})
    assert len(shop.perform()) == 1
    other = shop.tell({"id": "cust_2", "email": "family@example.com"})

    assert shop.state(other) == "owed"
    assert len(shop.perform()) == 1
    # Whose it is cannot be known: it is neither's.
    assert shop.state(shop.tell({"email": "family@example.com"})) == "owed"
    assert shop.state(shop.tell({"id": "cust_1"})) == "superseded"
    assert shop.state(shop.tell({"id": "cust_2"})) == "superseded"


def test_what_is_known_of_names_stays_beyond_the_retention(client: LedgerClient, clock: Clock) -> None:
    shop = Shop(Ledger(client, prefix="t", test_clock=True, keep=60, keep_dead=60))
    shop.tell(some(*ALL))
    shop.perform()
    shop.perform("crm")
    clock.pass_(90)
    while shop.ledger.trim(100)[0]:
        pass
    assert list(shop.reader.deliveries(Filter())) == []

    assert {shop.state(shop.tell(some(kind))) for kind in ALL} == {"superseded"}


def test_order_holds_over_a_customers_names(shop: Shop) -> None:
    shop.tell(some(*ALL), at=datetime(2026, 8, 2, tzinfo=UTC))
    assert len(shop.perform("crm")) == 1
    late = shop.tell(some("source_id"), at=datetime(2026, 8, 1, tzinfo=UTC))
    newer = shop.tell(some("email"), at=datetime(2026, 8, 3, tzinfo=UTC))

    assert (shop.state(late, "crm"), shop.state(newer, "crm")) == ("superseded", "owed")


def test_a_forgotten_customers_names_are_no_longer_known(shop: Shop, client: LedgerClient) -> None:
    info = shop.tell(some(*ALL))
    shop.perform()
    shop.perform("crm")
    names = [DIGESTS.customer("proj_teahouse", kind, value) for kind, value in NAMES.items()]
    assert list(client.scan_iter("t:same:*"))

    shop.ledger.forget(names, [(info.id, "tea")])

    assert not list(client.scan_iter("t:same:*"))
    assert not list(client.scan_iter("t:m:*")), "its mark is gone, in whichever project"


def test_what_is_known_of_a_customers_names_takes_little_memory(client: LedgerClient) -> None:
    shop = Shop(Ledger(client, prefix="t"))
    for number in range(300):
        shop.tell({"id": f"cust_{number}", "source_id": f"crm-{number}", "email": f"a{number}@example.com"})
    used = sum(client.memory_usage(key) or 0 for key in client.scan_iter("t:same:*"))
    entries = sum(client.hlen(key) for key in client.scan_iter("t:same:*"))

    assert entries == 600, "two of each customer: the id needs none"
    assert used / 300 < 300


# --- events of one time


def test_events_of_one_time_are_ordered_by_ids_that_carry_their_time(shop: Shop) -> None:
    at = datetime(2025, 10, 16, 16, 54, 11, 785000, tzinfo=UTC)
    later = shop.tell(some(*ALL), at=at, event_id="evcus_115d38459e5318ae95")
    earlier = shop.tell(some(*ALL), at=at, event_id="evcus_115d38459e5318ae94", tier="ltr_2")

    # The one that happened first is performed last only if it is not performed at all.
    assert shop.perform("crm") == [f"tea:{later.event_id}:crm"]
    assert shop.state(earlier, "crm") == "superseded"


def test_of_those_that_wait_the_earlier_of_one_time_goes_first(shop: Shop) -> None:
    at = datetime(2025, 10, 16, 16, 54, 11, 785000, tzinfo=UTC)
    first = shop.tell(some(*ALL), at=datetime(2025, 10, 15, tzinfo=UTC))
    shop.tell(some(*ALL), at=at, event_id="evcus_115d38459e5318ae95")
    shop.tell(some(*ALL), at=at, event_id="evcus_115d38459e5318ae94")

    assert shop.perform("crm") == [
        f"tea:{first.event_id}:crm",
        "tea:evcus_115d38459e5318ae94:crm",
        "tea:evcus_115d38459e5318ae95:crm",
    ]


# --- what became of the rules


def test_a_delivery_says_what_became_of_each_rule(shop: Shop, client: LedgerClient) -> None:
    false = shop.tell(some(*ALL), when="event.tier.points.from > 10 ** 6 or event.customer.email == 'x'")
    null = shop.tell(some("id"), when="event.customer.email == 'x'")
    held = shop.tell(some("id"), when="event.customer.id == 'cust_1'")

    assert false.reason == (
        "no rule holds for this event; rule 1: its when is false (event.tier.points.from, event.customer.email)"
    )
    assert null.reason == "no rule holds for this event; rule 1: event.customer.email is null"
    assert [str(one) for one in null.rules] == ["rule 1: event.customer.email is null"]
    assert (held.reason, held.rules) == (None, ())
    assert client.hget(f"t:d:{held.id}", "v") is None
    assert "ada@" not in repr(client.hvals(f"t:d:{false.id}"))


def test_a_replay_says_anew_what_became_of_the_rules(shop: Shop, ledger: Ledger) -> None:
    info = shop.tell(some("id"), when="event.customer.email == 'x'")
    ledger.operate("replay", delivery=info.id, again=1)
    (held,) = ledger.exchange_deliveries("tea", claim=Claim(token=new_token(), n=1)).claimed
    ledger.exchange_deliveries("tea", [planner(action("crm")).plan(held)])

    again = shop.reader.delivery(info.id)
    assert again is not None
    assert (again.state, again.reason, again.rules) == ("processed", None, ())
