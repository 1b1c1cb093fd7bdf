"""Ledger and history read as one: each delivery and job once, newest first, as the ledger says where it holds it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.histories import DIALECTS, a_job, address_of, delivery_id
from tests.integration.test_cli_ledger import JOINED, SOURCE, Story
from tiercast.embedded import EmbeddedServer
from tiercast.event import customer_ids
from tiercast.history.rows import FiledDelivery, FiledJob, Named
from tiercast.history.store import History
from tiercast.ids import received_ms
from tiercast.ledger import Digests, Ledger
from tiercast.ledger.client import connect
from tiercast.ledger.model import Outcome
from tiercast.ledger.reading import Filter, Reader
from tiercast.queries.listing import Count, Queries
from tiercast.samples import envelope, sample_data, sample_event

DIGESTS = Digests("a key of sixteen and more")


@dataclass
class World:
    """A ledger and a history, and what is to be found in both: (state, campaign, customer) by name."""

    queries: Queries
    story: Story
    deliveries: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    jobs: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    delivery_of: dict[str, str] = field(default_factory=dict)


def filed(number: int, ms: int, event_id: str, customer: str, campaign: str, *jobs: FiledJob) -> FiledDelivery:
    """A delivery with a real body, as it would have been filed."""
    data = sample_data(JOINED, customer_id=customer, campaign=campaign, tier="Gold leaf")
    event = sample_event(JOINED, id=event_id, data=data)
    refs = customer_ids(event)
    named = (("id", refs.id), ("source_id", refs.source_id), ("email", refs.email))
    return FiledDelivery(
        id=delivery_id(number, ms),
        source=SOURCE,
        state="processed",
        settled_ms=ms,
        body=json.dumps(envelope(JOINED, data, event_id=event_id)).encode(),
        event_id=event_id,
        type=JOINED,
        at=event.at,
        created_us=event.created_us,
        form="envelope",
        customer=tuple(DIGESTS.customer(SOURCE, kind, value) for kind, value in named if value),
        campaign=Named(str(data["campaign"]["id"]), campaign),
        tier=Named(str(data["loyalty_tier"]["id"]), "Gold leaf"),
        names=tuple(job.key.split(":", 2)[2] for job in jobs),
        jobs=jobs,
    )


@pytest.fixture(scope="module", params=DIALECTS)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server: EmbeddedServer
) -> Iterator[World]:
    """Deliveries in the history older and newer than those in the ledger, and some in both. Tests only read it."""
    client = connect(server.url, timeout=5)
    client.flushall()
    ledger = Ledger(client, prefix="q")
    story = Story(ledger, DIGESTS)
    with address_of(request.param, tmp_path_factory.mktemp("history")) as address, History(address) as history:
        made = World(Queries(Reader(ledger, DIGESTS), DIGESTS, lambda: history.reading), story)
        now = round(time.time() * 1000)
        rows = []
        for number in range(80):
            ms = now + (number - 40) * 60_000
            event, customer, campaign = f"evcus_h{number:03}", f"cust_{number % 5}", f"Campaign {number % 3}"
            state = "dead" if number % 4 == 0 else "done"
            jobs = [
                a_job(0, "crm", state=state, text=f"answered 404 for {number}" if state == "dead" else None),
                a_job(0, "mail"),
            ]
            for job in jobs:
                job.key = f"{SOURCE}:{event}:{job.action}"
            rows.append(filed(number, ms, event, customer, campaign, *jobs))
            made.deliveries[rows[-1].id] = ("processed", campaign, customer)
            for job in jobs:
                made.jobs[job.key] = (job.state, campaign, customer)
                made.delivery_of[job.key] = rows[-1].id
        for number in range(30):
            event, customer, campaign = f"evcus_l{number:03}", f"cust_{number % 5}", f"Campaign {number % 3}"
            id = story.tell(event, "crm", "mail", customer_id=customer, campaign=campaign, tier="Gold leaf")
            made.deliveries[id] = ("processed", campaign, customer)
            for action in ("crm", "mail"):
                made.jobs[f"{SOURCE}:{event}:{action}"] = ("owed", campaign, customer)
                made.delivery_of[f"{SOURCE}:{event}:{action}"] = id
        for held in story.claim("crm", n=12):
            verdict = "dead" if held.key.endswith(("0:crm", "5:crm")) else "done"
            settle(story, held.key, held.token, verdict)
            made.jobs[held.key] = (verdict, *made.jobs[held.key][1:])
        # Brought back: the history has them as they were
        for number in (3, 20, 21):
            id = next(id for key, id in made.delivery_of.items() if key == f"{SOURCE}:evcus_l{number:03}:mail")
            job = a_job(0, "mail", state="dead", text="answered 404 for 7")
            job.key = f"{SOURCE}:evcus_l{number:03}:mail"
            row = filed(0, now, f"evcus_l{number:03}", f"cust_{number % 5}", f"Campaign {number % 3}", job)
            row.id = id
            rows.append(row)
        history.file(rows)
        story.arrive()
        made.deliveries[next(info.id for info in Reader(ledger, DIGESTS).deliveries(Filter(state="queued")))] = (
            "queued",
            "",
            "",
        )
        yield made
    client.close()


def settle(story: Story, key: str, token: str, verdict: str) -> None:

    text = "answered 404 for 99" if verdict == "dead" else None
    story.ledger.exchange_jobs("jobs/crm", [Outcome(job=key, token=token, verdict=verdict, text=text, duration=0.01)])


FILTERS = [
    Filter(),
    Filter(state="processed"),
    Filter(state="queued"),
    Filter(campaign="Campaign 1"),
    Filter(customer="cust_2"),
    Filter(customer="cust_2", campaign="campaign 2"),
    Filter(tier="gold LEAF"),
    Filter(type="customer.*"),
    Filter(type="nothing"),
]
JOB_FILTERS = [
    *(Filter(state=state) for state in ("owed", "done", "dead", "parked")),
    Filter(state="dead", campaign="Campaign 0"),
    Filter(state="dead", customer="cust_0"),
    Filter(state="owed", customer="cust_0"),
    Filter(action="mail"),
    Filter(action="crm", state="done", type="customer.*"),
    *FILTERS[3:6],
    Filter(),
]


def chosen(names: dict[str, tuple[str, str, str]], which: Filter) -> set[str]:
    return {
        name
        for name, (state, campaign, customer) in names.items()
        if which.state in (None, state)
        and (which.campaign is None or which.campaign.casefold() == campaign.casefold())
        and which.customer in (None, customer)
        and (which.action is None or name.endswith(f":{which.action}"))
        and (which.tier is None or bool(customer))
        and (which.type is None or (which.type == "customer.*" and bool(customer)))
    }


@pytest.mark.parametrize("which", FILTERS, ids=str)
@pytest.mark.parametrize("limit", [7, 200])
def test_pages_of_deliveries_over_both(world: World, which: Filter, limit: int) -> None:
    expected = sorted(chosen(world.deliveries, which), reverse=True)
    found: list[str] = []
    cursor = None
    while True:
        page = world.queries.find_deliveries(which, limit=limit, cursor=cursor, seconds=None)
        assert len(page.rows) <= limit
        found += [each.info.id for each in page.rows]
        assert all(each.event for each in page.rows if each.info.state != "queued")
        cursor = page.cursor
        if cursor is None:
            break
    assert found == expected
    assert world.queries.count_deliveries(which, seconds=None) == Count(len(expected))


@pytest.mark.parametrize("which", JOB_FILTERS, ids=str)
@pytest.mark.parametrize("limit", [7, 200])
def test_pages_of_jobs_over_both(world: World, which: Filter, limit: int) -> None:
    expected = chosen(world.jobs, which)
    found: list[str] = []
    cursor = None
    while True:
        page = world.queries.find_jobs(which, limit=limit, cursor=cursor, seconds=None)
        found += [each.info.key for each in page.rows]
        for each in page.rows:
            assert each.info.state == world.jobs[each.info.key][0]
            assert each.customer_id == world.jobs[each.info.key][2]
        cursor = page.cursor
        if cursor is None:
            break
        assert limit <= len(page.rows) <= limit + 1
    assert Counter(found) == Counter(expected)
    order = [world.delivery_of[key] for key in found]
    assert order == sorted(order, reverse=True)
    assert world.queries.count_jobs(which, seconds=None) == Count(len(expected))


def test_a_page_whose_time_is_over_says_how_far_it_looked_and_gets_on(world: World) -> None:
    which = Filter(customer="cust_2")
    found: list[str] = []
    cursor = None
    for _ in range(200):
        page = world.queries.find_deliveries(which, limit=50, cursor=cursor, seconds=0)
        found += [each.info.id for each in page.rows]
        cursor = page.cursor
        if cursor is None:
            break
        assert page.looked_back_ms is None or page.looked_back_ms == received_ms(cursor)
    assert found == sorted(chosen(world.deliveries, which), reverse=True)


def test_errors_of_both_are_one_group(world: World) -> None:
    groups = world.queries.error_groups(Filter(action="crm"))
    assert [(group.pattern, group.count) for group in groups] == [
        ("answered 404 for <n>", len(chosen(world.jobs, Filter(state="dead", action="crm"))))
    ]
    assert world.queries.error_groups(Filter(state="quarantined")) == []


def test_everything_of_a_customer_in_both(world: World) -> None:
    told = list(world.queries.of_customer("cust_3"))
    which = Filter(customer="cust_3")
    assert [found.info.id for found, _ in told] == sorted(chosen(world.deliveries, which), reverse=True)
    jobs = {job.key: str(job.state) for _, jobs in told for job in jobs}
    assert jobs == {key: world.jobs[key][0] for key in chosen(world.jobs, which)}


def test_without_a_history_the_ledger_is_read_alone(world: World) -> None:
    alone = Queries(Reader(world.story.ledger, DIGESTS), DIGESTS)
    page = alone.find_jobs(Filter(), limit=100, seconds=None)
    assert len(page.rows) == 60
    assert page.cursor is None
    assert alone.count_jobs(Filter()) == Count(60)
    assert next(iter(alone.error_groups(Filter()))).count == len(
        [key for key, (state, *_) in world.jobs.items() if state == "dead" and ":evcus_l" in key]
    )
