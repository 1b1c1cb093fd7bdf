"""Reading the history: whatever the filters, pages show exactly what matches, newest first."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bench.filed import ACTIONS, Shop
from tests.histories import BEGIN_MS, DIALECTS, a_delivery, a_job, address_of, delivery_id, sql
from tiercast.error_pattern import error_pattern
from tiercast.history import walking
from tiercast.history.budget import Budget, OverBudget
from tiercast.history.filtering import HistoryFilter
from tiercast.history.reading import Count
from tiercast.history.rows import FiledDelivery, FiledJob, Named
from tiercast.history.store import History
from tiercast.ids import received_ms

SHOP = Shop(seed=7, customers=25, dead=0.1, bodies=10)
FILED = [SHOP.delivery(n) for n in range(300)]
for _number, _each in enumerate(FILED):
    if _number % 9 == 0:
        _each.operation = "op_1"
        for _job in _each.jobs[:1]:
            _job.operation = "op_1"


@pytest.fixture(scope="module", params=DIALECTS)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """A history with the shop's deliveries; tests of this module only read it."""
    with address_of(request.param, tmp_path_factory.mktemp("history")) as address, History(address) as history:
        for start in range(0, len(FILED), 100):
            history.file(FILED[start : start + 100])
        yield history


VALUES: dict[str, tuple[Any, ...]] = {
    "type": (FILED[0].type, "customer.loyalty.tier.*", "*.left", "nothing.such"),
    "source": ("voucherify", "voucherify-us"),
    "action": ("points", "crm-tier", "none-such"),
    "customer": (frozenset(FILED[5].customer[1:2]), frozenset({"nobody"}), frozenset(FILED[6].customer)),
    "campaign": ("camp_01", "PROGRAMME 2", "Programme 9"),
    "tier": ("gold", "ltr_04"),
    "error": ("answered 404", "ANSWERED", "contact 17 is unknown"),
    "pattern": (error_pattern("api.vendor.example answered 503 for a day"),),
    "event_id": (FILED[10].event_id,),
    "operation": ("op_1", "op_2"),
    "since_ms": (received_ms(FILED[120].id), received_ms(FILED[-1].id) + 1),
    "until_ms": (received_ms(FILED[220].id), 0),
}
DELIVERY_STATES = ("processed", "ignored", "quarantined")
JOB_STATES = ("done", "dead", "superseded")


def matches(each: FiledDelivery, job: FiledJob | None, which: HistoryFilter) -> bool:
    """What a filter means, told once more and slowly."""
    one = job or each
    text = job.text if job and job.state != "done" else each.reason if not job and each.state == "quarantined" else None
    pattern = error_pattern(text or "")
    actions = [job.action] if job else [name.partition(":")[0] for name in each.names]
    wildcard = re.compile(".*".join(map(re.escape, (which.type or "*").split("*"))))
    named = [(which.campaign, each.campaign), (which.tier, each.tier)]
    return (
        which.state in (None, one.state)
        and wildcard.fullmatch(each.type or "") is not None
        and which.source in (None, each.source)
        and (which.action is None or which.action in actions)
        and (which.customer is None or not which.customer.isdisjoint(each.customer))
        and all(
            name is None or (thing and name.casefold() in map(str.casefold, (thing.id or "", thing.name or "")))
            for name, thing in named
        )
        and (which.error is None or error_pattern(which.error).casefold() in pattern.casefold() != "")
        and which.pattern in (None, pattern)
        and which.event_id in (None, each.event_id)
        and which.operation in (None, one.operation)
        and (which.since_ms is None or received_ms(each.id) >= which.since_ms)
        and (which.until_ms is None or received_ms(each.id) <= which.until_ms)
    )


def all_filters(states: tuple[str, ...]) -> list[HistoryFilter]:
    values = VALUES | {"state": states}
    single = [HistoryFilter(**{name: value}) for name, all_of in values.items() for value in all_of]
    pairs = [
        HistoryFilter(**{one: a, other: b})
        for one, other in combinations(values, 2)
        for a in values[one][:1]
        for b in values[other][:1]
    ]
    rng = random.Random(3)
    more = [
        HistoryFilter(**{name: rng.choice(values[name]) for name in rng.sample(sorted(values), 3)}) for _ in range(20)
    ]
    return [HistoryFilter(), *single, *pairs, *more]


def pages_of_deliveries(history: History, which: HistoryFilter, limit: int) -> list[str]:
    found: list[str] = []
    before = None
    while True:
        page = history.reading.deliveries(which, limit=limit, before=before, seconds=None)
        assert len(page.rows) <= limit
        found += [each.id for each in page.rows]
        before = page.before
        if before is None:
            return found


def pages_of_jobs(history: History, which: HistoryFilter, limit: int) -> list[str]:
    found: list[str] = []
    before = None
    while True:
        page = history.reading.jobs(which, limit=limit, before=before, seconds=None)
        found += [each.job.key for each in page.rows]
        before = page.before
        if before is None:
            return found
        assert limit <= len(page.rows) < limit + len(ACTIONS)


def test_pages_of_deliveries_show_what_matches_and_nothing_else(filled: History) -> None:
    newest = sorted(FILED, key=lambda each: each.id, reverse=True)
    found_any = Counter[bool]()
    for number, which in enumerate(all_filters(DELIVERY_STATES)):
        expected = [each.id for each in newest if matches(each, None, which)]
        found = pages_of_deliveries(filled, which, 17 if number % 5 == 0 else 1000)
        assert found == expected, which
        count = filled.reading.count_deliveries(which, seconds=None)
        assert count == Count(len(expected)), which
        found_any[bool(expected)] += 1
    assert found_any[True] > 50


def test_pages_of_jobs_show_what_matches_and_nothing_else(filled: History) -> None:
    newest = sorted(FILED, key=lambda each: each.id, reverse=True)
    found_any = Counter[bool]()
    for number, which in enumerate(all_filters(JOB_STATES)):
        expected = [job.key for each in newest for job in each.jobs if matches(each, job, which)]
        found = pages_of_jobs(filled, which, 17 if number % 5 == 0 else 1000)
        assert found == expected, which
        count = filled.reading.count_jobs(which, seconds=None)
        assert count == Count(len(expected)), which
        found_any[bool(expected)] += 1
    assert found_any[True] > 50


def test_a_page_shows_deliveries_and_jobs_as_they_were_filed(filled: History) -> None:
    which = HistoryFilter(state="dead")
    page = filled.reading.jobs(which, limit=20)
    by_id = {each.id: each for each in FILED}
    for found in page.rows:
        filed = by_id[found.delivery.id]
        job = next(job for job in filed.jobs if job.key == found.job.key)
        assert found.job.history == ()
        assert (found.job.text, found.job.attempts, found.job.changed_ms) == (job.text, job.attempts, job.changed_ms)
        assert found.delivery.body == filed.body
    without = filled.reading.jobs(which, limit=20, bodies=False)
    assert [each.job for each in without.rows] == [each.job for each in page.rows]
    assert {each.delivery.body for each in without.rows} == {None}


def test_counts_by_state(filled: History) -> None:
    deliveries, jobs = filled.reading.counts_by_state()
    assert deliveries == Counter(each.state for each in FILED)
    assert jobs == Counter(job.state for each in FILED for job in each.jobs)


# --- the time budget


def test_looking_stops_when_its_time_is_over_and_gets_on_from_there(
    filled: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "_STEP", 20)
    # Given a customer of whom few deliveries match, and no time at all
    which = HistoryFilter(customer=frozenset(FILED[5].customer), tier="gold")
    expected = [each.id for each in reversed(FILED) if matches(each, None, which)]
    found: list[str] = []
    before = None
    looked_back: list[int] = []
    for _ in range(100):
        page = filled.reading.deliveries(which, limit=50, before=before, seconds=0)
        found += [each.id for each in page.rows]
        before = page.before
        if before is None:
            break
        # Then it says how far it looked, and the next page looks further
        assert page.looked_back_ms is not None
        looked_back.append(page.looked_back_ms)
    assert found == expected
    assert looked_back == sorted(looked_back, reverse=True)
    assert before is None


@pytest.mark.parametrize(
    "which", [HistoryFilter(), HistoryFilter(state="processed"), HistoryFilter(state="quarantined")]
)
def test_pages_by_class_get_on_without_any_time(filled: History, which: HistoryFilter) -> None:
    expected = [each.id for each in reversed(FILED) if matches(each, None, which)]
    found: list[str] = []
    before = None
    for _ in range(100):
        page = filled.reading.deliveries(which, limit=50, before=before, seconds=0)
        assert len(page.rows) <= 50
        found += [each.id for each in page.rows]
        before = page.before
        if before is None:
            break
    assert found == expected


def test_a_statement_that_takes_too_long_is_stopped_by_the_database(filled: History) -> None:
    endless = {
        "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "postgresql": "SELECT pg_sleep(60)",
    }[filled.address.dialect]
    with sql(filled.address) as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        with Budget(connection, 0.05) as budget, pytest.raises(OverBudget), budget.statement():
            connection.execute(sa.text(endless)).all()
        assert budget.is_over
        # Then the connection goes on as before
        assert connection.scalar(sa.text("SELECT count(*) FROM delivery")) == len(FILED)


def test_what_no_count_covers_is_counted_as_far_as_the_time_lasts(
    filled: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "_STEP", 20)
    which = HistoryFilter(since_ms=0, operation="op_1")
    whole = filled.reading.count_deliveries(which, seconds=None)
    part = filled.reading.count_deliveries(which, seconds=0)
    assert whole == Count(len([each for each in FILED if each.operation]))
    assert not part.exact
    assert 0 < part.number < whole.number


# --- errors


def test_errors_are_grouped_without_ids_and_numbers(filled: History) -> None:
    expected = Counter(
        (job.action, error_pattern(job.text or "")) for each in FILED for job in each.jobs if job.state == "dead"
    )
    groups = filled.reading.error_groups(HistoryFilter())
    assert Counter({(group.action, group.pattern): group.count for group in groups}) == expected
    assert [group.count for group in groups] == sorted((group.count for group in groups), reverse=True)
    assert len(groups) == len(expected)
    for group in groups:
        of = [
            (received_ms(each.id), job.key)
            for each in FILED
            for job in each.jobs
            if job.state == "dead" and (job.action, error_pattern(job.text or "")) == (group.action, group.pattern)
        ]
        assert (group.first_ms, group.last_ms, group.example) == (of[0][0], *of[-1])
        which = HistoryFilter(state="dead", action=group.action, pattern=group.pattern)
        assert filled.reading.count_jobs(which).number == group.count


def test_errors_of_some_time_are_grouped(filled: History) -> None:
    since, until = received_ms(FILED[80].id), received_ms(FILED[220].id)
    expected = Counter(
        error_pattern(job.text or "")
        for each in FILED[80:221]
        for job in each.jobs
        if job.state == "dead" and job.action == "points"
    )
    groups = filled.reading.error_groups(HistoryFilter(action="points", since_ms=since, until_ms=until))
    assert Counter({group.pattern: group.count for group in groups}) == expected


def test_quarantined_deliveries_are_grouped_by_source(filled: History) -> None:
    groups = filled.reading.error_groups(HistoryFilter(state="quarantined"))
    assert Counter({(group.source, group.pattern): group.count for group in groups}) == Counter(
        (each.source, error_pattern(each.reason or "")) for each in FILED if each.state == "quarantined"
    )
    assert {group.action for group in groups} == {None}
    ids = {each.id for each in FILED if each.state == "quarantined"}
    assert all(group.example in ids for group in groups)


# --- names


def test_a_delivery_is_found_by_the_beginning_of_its_id(filled: History) -> None:
    id = FILED[40].id
    assert filled.reading.deliveries_like(id[:30], 10) == [id]
    assert filled.reading.deliveries_like(id[:30].upper().replace("-", ""), 10) == [id]
    assert len(filled.reading.deliveries_like(id[:5], 11)) == 11
    assert filled.reading.deliveries_like("no id", 10) == []


def test_jobs_are_found_by_the_beginning_of_their_event(filled: History) -> None:
    each = next(each for each in FILED if each.jobs)
    assert each.event_id
    assert set(filled.reading.jobs_like(each.event_id[:20], 10)) == {job.key for job in each.jobs}
    assert filled.reading.jobs_like("evcus_zz", 10) == []


def test_jobs_of_events_with_colons_and_of_later_rounds_are_found_by_their_keys(history: History) -> None:
    odd = FiledJob(key="voucherify:a:b:welcome:r2", action="welcome", state="done", changed_ms=1)
    first = FiledJob(key="voucherify:a:b:welcome", action="welcome", state="done", changed_ms=1)
    history.file([a_delivery(1, odd, first, event_id="a:b", names=("welcome", "welcome:r2"))])
    # and one of another source with the same event
    history.file([a_delivery(2, a_job(1, source="other"), source="other", event_id="evcus_0001")])
    for key in ("voucherify:a:b:welcome:r2", "voucherify:a:b:welcome", "other:evcus_0001:welcome"):
        found = history.reading.job(key)
        assert found
        assert found.job.key == key
    assert history.reading.job("voucherify:evcus_0001:welcome") is None
    assert history.reading.job("nonsense") is None
    keys = ["other:evcus_0001:welcome", "none", "voucherify:a:b:welcome"]
    assert [each.job.key for each in history.reading.jobs_by_key(keys)] == [keys[0], keys[2]]


# --- customers


def test_everything_of_a_customer(filled: History) -> None:
    who = FILED[5].customer
    found = list(filled.reading.of_customer(who[2:]))
    assert found == [each for each in reversed(FILED) if who[0] in each.customer]
    assert filled.reading.customers_like(who[1:2]) == set(who)


def test_a_customer_is_found_by_a_name_that_only_some_deliveries_tell(history: History) -> None:
    # Given one whose email changed, and another who shares no name with them
    history.file(
        [
            a_delivery(1, customer=("one-i", "old-e")),
            a_delivery(2, customer=("one-i", "new-e")),
            a_delivery(3, customer=("one-i",)),
            a_delivery(4, customer=("two-i", "two-e")),
        ]
    )
    for name in ("one-i", "old-e", "new-e"):
        found = history.reading.deliveries(HistoryFilter(customer=frozenset({name})))
        assert [each.id for each in found.rows] == [delivery_id(3), delivery_id(2), delivery_id(1)]
    assert history.reading.customers_like({"old-e"}) == {"one-i", "old-e", "new-e"}


def test_copies_of_an_event_are_found(history: History) -> None:
    history.file(
        [a_delivery(1), a_delivery(2, state="duplicate", first=delivery_id(1), event_id="evcus_0001"), a_delivery(3)]
    )
    assert history.reading.events("evcus_0001") == [delivery_id(2), delivery_id(1)]


def test_campaigns_and_tiers_without_an_id_or_a_name(history: History) -> None:
    history.file([a_delivery(1, campaign=Named("camp_1", None), tier=Named(None, "Gold")), a_delivery(2, tier=None)])
    found = history.reading.deliveries(HistoryFilter(campaign="CAMP_1", tier="gold"))
    assert [each.id for each in found.rows] == [delivery_id(1)]
    assert found.rows[0].campaign == Named("camp_1", None)
    assert history.reading.deliveries(HistoryFilter(tier="")).rows == []


def test_an_empty_history(history: History) -> None:
    for which in (HistoryFilter(), HistoryFilter(state="dead"), HistoryFilter(customer=frozenset({"x"}))):
        assert history.reading.deliveries(which).rows == []
        assert history.reading.jobs(which).rows == []
        assert history.reading.count_jobs(which) == Count(0)
    assert history.reading.error_groups(HistoryFilter()) == []
    assert list(history.reading.of_customer({"x"})) == []
    assert history.reading.counts_by_state() == ({}, {})
    assert received_ms(delivery_id(0)) == BEGIN_MS


def test_views_name_everything_for_people(filled: History, tmp_path: Path) -> None:
    each = next(each for each in FILED if each.jobs and each.jobs[0].state == "done")
    with sql(filled.address) as connection:
        row = connection.execute(sa.text("SELECT * FROM deliveries WHERE id = :id"), {"id": each.id}).one()
        assert (row.state, row.source, row.type, row.event_id) == (each.state, each.source, each.type, each.event_id)
        assert each.campaign
        assert (row.campaign_id, row.campaign) == (each.campaign.id, each.campaign.name)
        assert row.actions == " ".join(ACTIONS)
        job = connection.execute(sa.text("SELECT * FROM jobs WHERE key = :key"), {"key": each.jobs[0].key}).one()
        assert (job.state, job.action, job.delivery) == ("done", each.jobs[0].action, each.id)
        seconds = received_ms(each.id) / 1000
        if filled.address.path is None:
            assert row.received_at.timestamp() == pytest.approx(seconds)
        else:
            assert datetime.fromisoformat(row.received_at).timestamp() == pytest.approx(seconds)
