"""From a held delivery to its plan."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.kinds import Scripted
from tiercast.config.model import ActionSpec, Config, Rule, Source
from tiercast.config.rules import Condition
from tiercast.config.templates import Options
from tiercast.ledger import Digests, rows
from tiercast.ledger.model import HeldDelivery, Plan, PlannedJob
from tiercast.oversized import Oversized
from tiercast.rule_outcomes import RuleOutcome, RuleVerdict
from tiercast.samples import envelope, sample_data
from worker.intake.planner import Planner

JOINED = "customer.loyalty.tier.joined"
DELIVERY = "019943f2-1d00-7000-8000-000000000001"


def action(name: str, **changes: Any) -> ActionSpec:
    options = Options(Scripted.Options(), {"effects": "/nowhere"})
    return ActionSpec(name=name, kind="scripted", cls=Scripted, options=options, **changes)


def planner(
    *actions: ActionSpec,
    when: str | None = None,
    event: str | None = None,
    source: str = "tea",
    project: str | None = None,
) -> Planner:
    names = tuple(a.name for a in actions)
    rule = Rule(on=("customer.*",), actions=names, when=Condition(when) if when else None, name="rule 1")
    config = Config(
        path=None,
        sources={name: Source(name=name, secrets=("s",), event=event, project=project) for name in ("tea", "coffee")},
        limits={},
        actions={a.name: a for a in actions},
        rules=(rule,),
    )
    return Planner(config, Digests("a key of the tests"), source)


def plan(planner: Planner, body: bytes | None = None, *, type: str = JOINED, **data: Any) -> Plan:
    body = body if body is not None else json.dumps(envelope(type, sample_data(type, **data), event_id="ev1")).encode()
    return planner.plan(HeldDelivery(id=DELIVERY, token="tok", body=body, again=0, expiries=0))


def job(planned: Plan) -> PlannedJob:
    (only,) = planned.jobs
    return only


def test_an_event_with_rules_is_processed_and_carries_its_head() -> None:
    at = datetime(2026, 8, 1, 10, 0, 0, 123000, tzinfo=UTC)

    planned = plan(planner(action("mail"), action("crm")), customer_id="cust_1", at=at)

    assert (planned.delivery, planned.token, planned.state, planned.reason) == (DELIVERY, "tok", "processed", "")
    assert (planned.event_id, planned.type, planned.at) == ("ev1", JOINED, "2026-08-01T10:00:00.123Z")
    assert planned.created_us == round(at.timestamp() * 1_000_000)
    assert planned.jobs == (PlannedJob(action="mail"), PlannedJob(action="crm"))


def test_the_customer_is_found_by_id_source_id_and_email_and_named_by_none() -> None:
    planned = plan(planner(action("mail")), customer_id="cust_1", source_id="crm-1", email="Mona@Example.com")
    by_id = plan(planner(action("mail")), customer_id="cust_1", source_id=None, email=None)
    nobody = plan(planner(action("mail")), customer=False)

    assert len(set(planned.customer)) == 3
    assert planned.customer[0] == by_id.customer[0]
    assert nobody.customer == ()
    assert not [name for name in ("cust_1", "crm-1", "mona") if name in " ".join(planned.customer).lower()]


def test_no_rule_and_no_rule_that_holds_are_ignored_with_the_reason() -> None:
    elsewhere = plan(planner(action("mail")), type="voucher.published")
    missing = plan(planner(action("mail"), when="event.customer.email == 'a'"), email=None)
    no = plan(planner(action("mail"), when="event.customer.name == 'a'"))

    assert (elsewhere.state, elsewhere.jobs) == ("ignored", ())
    assert (elsewhere.reason, elsewhere.rules) == ("no rule for this event", ())
    assert missing.state == no.state == "ignored"
    assert missing.reason == no.reason == "no rule holds for this event"
    assert missing.rules == (RuleOutcome("rule 1", RuleVerdict.NULL, ("event.customer.email",)),)
    assert no.rules == (RuleOutcome("rule 1", RuleVerdict.FALSE, ("event.customer.name",)),)
    assert missing.event_id == "ev1", "a copy of it is still recognised"


def test_of_a_delivery_whose_rules_all_hold_nothing_more_is_written() -> None:
    held = plan(planner(action("mail"), when="event.tier.points.from >= 0"))

    assert held.rules == ()
    assert set(rows.plan(held)) == {"k", "t", "o", "c", "p", "e", "at", "h", "jobs"}


def test_what_a_plan_says_can_always_be_encoded() -> None:
    # A condition can name a key with half a surrogate pair: TOML cannot hold it, Jinja's escape can.
    planned = plan(planner(action("mail"), when="event.data['\\ud83d'] > 1"))

    assert planned.rules[0].verdict is RuleVerdict.NULL
    json.dumps(rows.plan(planned), ensure_ascii=False).encode()
    assert "event.data.\ufffd" in rows.plan(planned)["v"]


def test_values_that_count_as_null_are_noted() -> None:
    body = envelope(JOINED, sample_data(JOINED), event_id="ev1")
    body["data"]["loyalty_tier"]["metadata"] = "{}"

    planned = plan(planner(action("mail")), json.dumps(body).encode())

    assert planned.state == "processed"
    assert planned.reason == "data.loyalty_tier.metadata: expected an object, found a string; it counts as null"


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"data": {}}'])
def test_what_cannot_be_read_is_quarantined_with_a_reason_and_no_job(body: bytes) -> None:
    planned = plan(planner(action("mail")), body)

    assert (planned.state, planned.token, planned.jobs, planned.event_id) == ("quarantined", "tok", (), "")
    assert planned.reason


def test_the_dashboards_preview_is_a_test() -> None:
    preview = envelope(JOINED, sample_data(), event_id="evcus_000000000000000000", send_id="whs_000000000000000000")

    planned = plan(planner(action("mail")), json.dumps(preview | {"type": ""}).encode())

    assert (planned.state, planned.jobs) == ("test", ())
    assert planned.reason


def test_a_bare_object_is_the_event_that_its_source_says() -> None:
    body = json.dumps(sample_data()).encode()

    assert plan(planner(action("mail"), event=JOINED), body).type == JOINED
    assert plan(planner(action("mail"), event=JOINED), body).event_id
    assert plan(planner(action("mail")), body).state == "quarantined"


def test_a_fault_of_our_own_quarantines_that_delivery_and_logs_nothing_personal() -> None:
    # Given a planner that breaks
    broken = planner(action("mail"))
    broken._config = None  # type: ignore[assignment]

    with capture_logs() as logs:
        planned = plan(broken, name="Mona Secret")

    assert planned.state == "quarantined"
    assert "AttributeError" in planned.reason
    assert [(line["event"], line["delivery"]) for line in logs] == [("plan.fault", DELIVERY)]
    assert "rules.py" in logs[0]["at"]
    assert "exc_info" not in logs[0]
    assert "Mona" not in str(logs)


# --- the project


def test_a_bare_event_belongs_to_the_project_that_its_source_names_or_to_the_source_alone() -> None:
    body = json.dumps(sample_data(customer_id="cust_1", at=datetime(2026, 8, 1, tzinfo=UTC))).encode()
    pay = action("pay", once=("customer", "tier"))

    def planned(source: str, project: str | None = None) -> Plan:
        return plan(planner(pay, event=JOINED, source=source, project=project), body)

    assert planned("tea").project == "tea"
    assert planned("tea").event_id == planned("coffee").event_id
    assert job(planned("tea")).once != job(planned("coffee")).once
    tea, coffee = planned("tea", "proj_1"), planned("coffee", "proj_1")
    assert (tea.project, tea.event_id, job(tea).once) == (coffee.project, coffee.event_id, job(coffee).once)
    assert tea.customer == coffee.customer


def test_an_envelope_names_its_project() -> None:
    body = envelope(JOINED, sample_data(JOINED, customer_id="cust_1"), event_id="ev1")
    pay = action("pay", once=("customer", "tier"))

    here = plan(planner(pay), json.dumps(body).encode())
    there = plan(planner(pay, source="coffee", project="proj_other"), json.dumps(body).encode())
    other = plan(planner(pay), json.dumps(body | {"project_id": "proj_2"}).encode())
    unnamed = plan(planner(pay), json.dumps(body | {"project_id": None}).encode())

    assert here.project == there.project == "proj_teahouse"
    assert job(here).once == job(there).once
    assert (other.project, unnamed.project) == ("proj_2", "tea")
    assert len({job(each).once for each in (here, other, unnamed)}) == 3
    assert here.event_id == other.event_id == "ev1"


# --- the customer's names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"email": "Ada@Example.com"}, {"email": " ada@example.com\u00a0"}),
        ({"email": "zo\u00eb@example.com"}, {"email": "zoe\u0308@example.com"}),
        ({"email": "a@b\u00fccher.example"}, {"email": "A@xn--bcher-kva.EXAMPLE"}),
        ({"id": "cust_1"}, {"id": " cust_1"}),
        ({"source_id": "crm 1"}, {"source_id": "crm 1\t"}),
    ],
)
def test_a_name_is_the_same_however_it_is_spelled(one: dict[str, str], other: dict[str, str]) -> None:
    def names(customer: dict[str, str]) -> tuple[str, ...]:
        return plan(
            planner(action("mail")), json.dumps(envelope(JOINED, sample_data() | {"customer": customer})).encode()
        ).customer

    assert names(one) == names(other)
    assert len(names(one)) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"id": "cust_1"}, {"id": "CUST_1"}),
        ({"source_id": "crm-1"}, {"source_id": "crm- 1"}),
        ({"id": "x"}, {"source_id": "x"}),
        ({"email": "a@stra\u00dfe.example"}, {"email": "a@strasse.example"}),
    ],
)
def test_other_names_stay_others(one: dict[str, str], other: dict[str, str]) -> None:
    digests = Digests("a key of the tests")
    ((kind, value),), ((other_kind, other_value),) = one.items(), other.items()

    assert digests.customer("p", kind, value) != digests.customer("p", other_kind, other_value)


# --- events of one time


@pytest.mark.parametrize(
    ("id", "created", "is_timed"),
    [
        ("evcus_115d38459e5318ae94", "2025-10-16T16:54:11.785Z", True),
        ("evcus_115d38459e5318ae94", "2025-10-20T16:54:11.785Z", False),
        ("evcus_115d38459e5318ae9", "2025-10-16T16:54:11.785Z", False),
        ("evcus_AbCdEf0123456789abcdefgh", "2025-10-16T16:54:11.785Z", False),
        ("raw-115d38459e5318ae94", "2025-10-16T16:54:11.785Z", False),
    ],
)
def test_an_id_that_carries_its_time_ranks_the_event(id: str, created: str, is_timed: bool) -> None:
    data = sample_data(JOINED, at=datetime.fromisoformat(created))
    body = json.dumps(envelope(JOINED, data, event_id=id)).encode()

    ranked = plan(planner(action("crm", order="latest")), body)
    unordered = plan(planner(action("crm")), body)

    assert (ranked.rank is not None) is is_timed
    assert ranked.rank is None or len(ranked.rank) == len(DELIVERY)
    assert unordered.rank is None


def test_of_two_ids_that_carry_their_time_the_later_ranks_higher() -> None:
    at = datetime(2025, 10, 16, 16, 54, 11, tzinfo=UTC)
    ids = ("evcus_115d38459e5318ae94", "evcus_115d38459e5318ae95", "evcus_115d38459f0000000a")
    data = sample_data(JOINED, at=at)
    crm = planner(action("crm", order="latest"))

    ranks = [plan(crm, json.dumps(envelope(JOINED, data, event_id=id)).encode()).rank for id in ids]

    assert ranks == sorted(ranks, key=str)
    assert len(set(ranks)) == 3


# --- order


def test_jobs_of_one_customer_and_campaign_share_an_order_group() -> None:
    ordered = planner(action("crm", order="latest"))
    first = job(plan(ordered, customer_id="cust_1"))

    assert first.order
    assert not first.unordered
    assert job(plan(ordered, customer_id="cust_1", type="customer.loyalty.tier.upgraded")).order == first.order
    assert job(plan(ordered, customer_id="cust_2")).order != first.order
    elsewhere = planner(action("crm", order="latest"), source="coffee")
    assert job(plan(elsewhere, customer_id="cust_1")).order == first.order, "another source of the same project"

    # A campaign of its own, and none at all, are groups of their own
    data = sample_data(JOINED, customer_id="cust_1")
    groups = {
        job(plan(ordered, json.dumps(envelope(JOINED, data | {"campaign": campaign})).encode())).order
        for campaign in (data["campaign"], data["campaign"] | {"id": "camp_other"}, None)
    }
    assert len(groups) == 3
    assert first.order in groups


def test_without_a_customer_a_job_is_unordered_and_says_so() -> None:
    found = job(plan(planner(action("crm", order="latest")), customer=False))

    assert found == PlannedJob(action="crm", unordered=True)


def test_without_an_id_the_customer_is_known_by_source_id_or_email() -> None:
    ordered = planner(action("crm", order="latest"))

    def group(**customer: Any) -> str | None:
        data = sample_data(JOINED) | {"customer": customer}
        return job(plan(ordered, json.dumps(envelope(JOINED, data)).encode())).order

    assert group(source_id="crm-1") == group(source_id="crm-1", email="a@example.com") != group(source_id="crm-2")
    assert group(email="A@Example.com") == group(email="a@example.com") is not None


# --- once


def test_once_is_over_the_parts_that_it_names_in_whatever_order() -> None:
    def group(once: tuple[Any, ...], **event: Any) -> str | None:
        return job(plan(planner(action("pay", once=once)), **event)).once

    both = ("customer", "tier")
    first = group(both, customer_id="cust_1", tier="Silver leaf")
    assert first
    assert group(("tier", "customer"), customer_id="cust_1") == first
    assert group(both, customer_id="cust_1", tier="Another name of it") == first, "a tier is its id"
    assert group(both, customer_id="cust_1", type="customer.loyalty.tier.upgraded", top=True) != first
    assert group(both, customer_id="cust_2") != first
    assert group(("customer",), customer_id="cust_1") != first
    assert group(("customer", "type"), customer_id="cust_1") != group(
        ("customer", "type"), customer_id="cust_1", type="customer.loyalty.tier.upgraded"
    )


def test_the_tier_of_once_is_the_one_moved_to() -> None:
    pay = planner(action("pay", once=("customer", "tier")))
    joined = job(plan(pay, customer_id="cust_1"))
    upgraded = job(plan(pay, customer_id="cust_1", type="customer.loyalty.tier.upgraded"))

    assert joined.once == upgraded.once, "both came: it is paid once"


@pytest.mark.parametrize(
    ("once", "event", "missing"),
    [
        (("customer", "tier"), {"customer": False}, "no customer"),
        (("customer", "tier"), {"type": "customer.loyalty.tier.left"}, "no tier"),
        (("customer", "tier"), {"customer": False, "type": "customer.loyalty.tier.left"}, "no customer and no tier"),
    ],
)
def test_a_missing_part_skips_the_job_with_the_reason(once: Any, event: dict[str, Any], missing: str) -> None:
    found = job(plan(planner(action("pay", once=once, order="latest")), **event))

    assert found.once is None
    assert found.order is None
    assert missing in (found.skipped or "")


def test_a_note_of_a_body_that_was_not_kept_is_quarantined_with_size_and_digest() -> None:
    note = Oversized(size=2_000_000, sha256="ab" * 32)

    planned = plan(planner(action("mail")), note.to_body())

    assert (planned.state, planned.jobs) == ("quarantined", ())
    assert "2000000 bytes" in planned.reason
    assert "ab" * 32 in planned.reason
