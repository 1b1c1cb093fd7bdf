"""Walks find what listings find, each once and oldest first, however small the pages are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.test_cli_ledger import SOURCE, Story, environ, story
from tiercast.ledger import new_token
from tiercast.ledger.model import Claim, DeliveryState, Outcome, PlannedJob
from tiercast.ledger.reading import Filter, Reader
from tiercast.ledger.states import JobState
from tiercast.queries.walk import Choice, Chosen, Walk

__all__ = ["environ", "story"]

ADA = {"customer_id": "cust_Ada", "email": "ada@example.com"}
BOB = {"customer_id": "cust_Bob", "email": "bob@example.com"}


def walked(reader: Reader, choice: Choice, most: int) -> list[Chosen]:
    """All that a walk gives, page by page."""
    walk, cursor, found = Walk(reader), "", []
    for _ in range(10_000):
        page = walk.page(choice, cursor, most)
        found += page.chosen
        if page.is_last:
            return found
        assert page.cursor != cursor, "the walk stands still"
        cursor = page.cursor
    raise AssertionError("the walk does not end")


@pytest.fixture
def reader(story: Story) -> Reader:
    """A ledger with jobs in every state and deliveries in most, many of them of one millisecond."""
    for n in range(24):
        who = ADA if n % 3 else BOB
        match n % 6:
            case 0:
                story.tell(f"evcus_{n}", **who)
            case 1:
                story.tell(f"evcus_{n}", "mail", PlannedJob(action="crm", order="one"), **who)
            case 2:
                story.tell(f"evcus_{n}", PlannedJob(action="points", skipped="no tier"), "mail", **who)
            case 3:
                story.arrive()
                story.settle(state=DeliveryState.QUARANTINED, reason=f"no type, id {n}")
            case _:
                story.tell(f"evcus_{n}", "mail", "points", type="customer.loyalty.tier.left", **who)
    for verdict in ("dead", "uncertain", "done"):
        held = story.claim("mail", 4)
        outcomes = [
            Outcome(job=job.key, token=job.token, verdict=verdict, text=f"HTTP {n}") for n, job in enumerate(held)
        ]
        # Settled in one script, these have changed in the same millisecond.
        story.ledger.exchange_jobs("jobs/mail", outcomes)
    return Reader(story.ledger, story.digests)


filters = st.fixed_dictionaries(
    {},
    optional={
        "action": st.sampled_from(["mail", "crm", "points"]),
        "source": st.just(SOURCE),
        "type": st.sampled_from(["customer.loyalty.tier.left", "customer.loyalty.tier.*"]),
        "customer": st.sampled_from(["ada@example.com", "cust_Bob"]),
        "error": st.sampled_from(["HTTP", "HTTP 1", "no tier"]),
        "since_ms": st.just(1),
    },
)
SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@SETTINGS
@given(which=filters, state=st.sampled_from([None, *map(str, JobState)]), most=st.sampled_from([1, 2, 3, 7, 500]))
def test_of_jobs(reader: Reader, which: dict[str, Any], state: str | None, most: int) -> None:
    wanted = Filter(state=state, **which)
    choice = Choice(of_jobs=True, which=wanted, before_ms=reader.now_ms() + 1000)
    found = [one.name for one in walked(reader, choice, most)]
    assert sorted(found) == sorted(job.key for job in reader.jobs(wanted))


@SETTINGS
@given(
    which=filters,
    state=st.sampled_from([None, *(str(state) for state in DeliveryState if state.indexed)]),
    most=st.sampled_from([1, 2, 3, 7, 500]),
)
def test_of_deliveries(reader: Reader, which: dict[str, Any], state: str | None, most: int) -> None:
    wanted = Filter(state=state, **which)
    choice = Choice(of_jobs=False, which=wanted, before_ms=reader.now_ms() + 1000)
    found = [one.name for one in walked(reader, choice, most)]
    assert found == [info.id for info in reader.deliveries(wanted)][::-1]


def test_what_is_changed_on_the_way_is_not_met_again(story: Story, reader: Reader) -> None:
    # Given a walk over what is dead, by pages of two
    walk, choice = Walk(reader), Choice(of_jobs=True, which=Filter(state="dead"), before_ms=reader.now_ms())
    first = walk.page(choice, "", 2)
    assert len(first.chosen) == 2

    # When those die again
    for one in first.chosen:
        assert story.ledger.operate("retry", job=one.name)[0]
    held = story.ledger.exchange_jobs("jobs/mail", claim=Claim(token=new_token(), n=100)).claimed
    again = [Outcome(job=job.key, token=job.token, verdict="dead") for job in held]
    story.ledger.exchange_jobs("jobs/mail", again)

    # Then the rest of the walk has the others only
    rest: list[str] = []
    cursor = first.cursor
    while True:
        page = walk.page(choice, cursor, 2)
        rest += [one.name for one in page.chosen]
        cursor = page.cursor
        if page.is_last:
            break
    assert len(rest) == 2
    assert not {one.name for one in first.chosen} & set(rest)


def test_several_states(reader: Reader) -> None:
    states = (JobState.DEAD, JobState.OWED)
    choice = Choice(of_jobs=True, states=states, before_ms=reader.now_ms())
    found = walked(reader, choice, 3)
    assert {one.state for one in found} == {"dead", "owed"}
    assert len(found) == sum(job.state in states for job in reader.jobs(Filter()))
