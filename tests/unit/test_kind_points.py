"""Kind `voucherify-points`, against a stand-in that pays as Voucherify does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tiercast.actions import Action, Halt, Job, Permanent, RetryLater, Skip, Unknown
from tiercast.config import load_config
from tiercast.runner import close, confirm, perform
from tiercast.samples import sample_event
from tiercast.settings import load_settings
from tiercast.testing import ActionContract, make_action, make_job
from tiercast.testing.vendors import Answer, Fault
from tiercast.testing.vendors.voucherify import APP_ID, APP_TOKEN, FakeVoucherify
from worker.actions.voucherify_points import VoucherifyPoints

WHO = {"customer": "cust_1", "campaign": "camp_1"}


@pytest.fixture
def vendor() -> Iterator[FakeVoucherify]:
    with FakeVoucherify() as server:
        yield server


@pytest.fixture
def action(vendor: FakeVoucherify) -> Iterator[Action]:
    made = make_action(VoucherifyPoints, options(vendor))
    yield made
    close(made)


def options(vendor: FakeVoucherify, **more: Any) -> dict[str, Any]:
    return {"app_id": APP_ID, "app_token": APP_TOKEN, "points": 50, "base_url": vendor.url, **WHO, **more}


def job_of(action: Action, *, since: float | None = None, **rendered: Any) -> Job:
    made = make_job(action, sample_event(customer_id="cust_1"), key="voucherify:once-d:pay", **rendered)
    return Job(key=made.key, event=made.event, attempt=1, options=made.options, timeout=made.timeout, since=since)


def test_the_points_go_onto_the_customers_card_with_the_jobs_key(vendor: FakeVoucherify, action: Action) -> None:
    card = vendor.card_of("cust_1", "camp_1")
    assert perform(action, job_of(action, reason="welcome")) == "50 points"
    (payment,) = vendor.payments
    assert (payment.card, payment.points, payment.source_id) == (card, 50, "voucherify:once-d:pay")
    assert payment.reason == "welcome"
    assert "expiration_type" not in vendor.requests[-1].json


def test_ids_are_escaped_in_paths_and_queries(vendor: FakeVoucherify, action: Action) -> None:
    vendor.cards["../a b/c?#", "cust/ü&x=1"] = ["co/de ?ä"]
    perform(action, job_of(action, customer="cust/ü&x=1", campaign="../a b/c?#"))
    assert vendor.points() == {"co/de ?ä": 50}
    vendor.cards["..", "cust_1"] = ["."]
    perform(action, job_of(action, campaign=".."))
    assert vendor.points()["."] == 50


def test_no_card_and_two_cards_pay_nothing(vendor: FakeVoucherify, action: Action) -> None:
    vendor.cards["camp_1", "cust_1"] = []
    with pytest.raises(Permanent, match="no card"):
        perform(action, job_of(action))
    vendor.cards["camp_1", "cust_1"] = ["A", "B"]
    with pytest.raises(Permanent, match=r"2 cards .* refused, not guessed"):
        perform(action, job_of(action))
    assert not vendor.payments


@pytest.mark.parametrize("empty", ["customer", "campaign"])
def test_an_event_without_customer_or_campaign_is_skipped(action: Action, empty: str) -> None:
    blank: dict[str, Any] = {empty: " "}
    with pytest.raises(Skip, match=empty):
        perform(action, job_of(action, **blank))


@pytest.mark.parametrize(
    ("fault", "paid", "error"),
    [
        ("hang up after", 50, Unknown),
        ("500 after", 50, Unknown),
        ("500 before", 0, Unknown),
        ("hang up before", 0, Unknown),
        ("429", 0, RetryLater),
    ],
)
def test_what_a_balance_call_can_come_to(
    vendor: FakeVoucherify, action: Action, fault: Fault, paid: int, error: type[Exception]
) -> None:
    card = vendor.card_of("cust_1", "camp_1")
    vendor.faults.append(fault)
    with pytest.raises(error) as raised:
        perform(action, job_of(action))
    assert vendor.points()[card] == paid
    if isinstance(raised.value, RetryLater):
        assert raised.value.everyone
        assert 1.0 <= (raised.value.after or 0.0) <= 2.0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(hang_up=True), RetryLater),
        (Answer(status=502), RetryLater),
        (Answer(body=b"<html>"), RetryLater),
        (Answer(body={"vouchers": "none"}), RetryLater),
        (Answer(status=403), Halt),
        (Answer(status=404, body={"message": "Cannot find campaign"}), Permanent),
    ],
)
def test_before_the_payment_nothing_is_unknown(
    vendor: FakeVoucherify, action: Action, answer: Answer, error: type[Exception]
) -> None:
    vendor.queue.extend([answer, answer])  # a GET that a connection lost is asked once more at once
    with pytest.raises(error):
        perform(action, job_of(action))
    assert not vendor.payments


def test_a_call_that_is_refused_is_dead_with_the_vendors_words(vendor: FakeVoucherify, action: Action) -> None:
    card = vendor.card_of("cust_1", "camp_1")
    words = f"Points of {card} are locked for ines.okafor@example.com"
    cards = Answer(body={"vouchers": [{"code": card}]})
    vendor.queue.extend([cards, Answer(status=400, body={"message": words})])
    with pytest.raises(Permanent) as raised:
        perform(action, job_of(action))
    assert "are locked" in str(raised.value)
    assert card not in str(raised.value)
    assert "ines" not in str(raised.value)


def test_wrong_credentials_stop_the_lane_and_are_not_shown(vendor: FakeVoucherify) -> None:
    action = make_action(VoucherifyPoints, options(vendor) | {"app_token": "wrong-s3cr3t"})
    with pytest.raises(Halt) as raised:
        perform(action, job_of(action))
    close(action)
    assert "s3cr3t" not in str(raised.value)


def test_a_worker_that_was_frozen_before_the_payment_does_not_pay(vendor: FakeVoucherify, action: Action) -> None:
    # Given that the time of the attempt is over when the card is found
    card = vendor.card_of("cust_1", "camp_1")

    def slow(request: Any) -> Answer:
        time.sleep(0.15)
        return Answer(body={"vouchers": [{"code": card}]})

    vendor.script = slow
    made = job_of(action)
    late = Job(key=made.key, event=made.event, attempt=1, options=made.options, timeout=0.1)
    with pytest.raises(RetryLater):
        perform(action, late)
    assert [request.method for request in vendor.requests] == ["GET"]


# --- confirm


def test_a_payment_is_confirmed_when_it_shows(vendor: FakeVoucherify, action: Action) -> None:
    card = vendor.card_of("cust_1", "camp_1")
    vendor.delay = 0.2
    vendor.add(card, 50, "voucherify:once-d:pay")
    assert confirm(action, job_of(action, since=1)) is None
    time.sleep(0.2)
    assert confirm(action, job_of(action, since=1)) is True


def test_an_absence_is_believed_only_after_a_while(vendor: FakeVoucherify, action: Action) -> None:
    vendor.add(vendor.card_of("cust_1", "camp_1"), 50, "another key")
    for since, answer in ((None, None), (0, None), (60, None), (64.9, None), (65, False)):
        assert confirm(action, job_of(action, since=since)) is answer, since
    assert confirm(action, job_of(action, since=7, settle_seconds=2.0)) is False


def test_a_payment_is_found_on_a_later_page_and_on_any_card(vendor: FakeVoucherify, action: Action) -> None:
    vendor.cards["camp_1", "cust_1"] = ["A", "B"]
    vendor.page = 10
    vendor.add("B", 50, "voucherify:once-d:pay")
    for number in range(35):
        vendor.add("B", 1, f"other-{number}")
    assert confirm(action, job_of(action, since=1)) is True
    assert len([request for request in vendor.requests if "transactions" in request.path]) == 1 + 4


def test_what_cannot_be_read_to_its_end_proves_nothing(vendor: FakeVoucherify, action: Action) -> None:
    # Given transactions that go on for ever
    card = vendor.card_of("cust_1", "camp_1")
    numbers = iter(range(100_000))

    def endless(request: Any) -> Answer:
        if "transactions" not in request.path:
            return Answer(body={"vouchers": [{"code": card}]})
        return Answer(body={"data": [{"id": f"vtx_{next(numbers)}"}], "has_more": True})

    vendor.script = endless
    made = job_of(action)
    short = Job(key=made.key, event=made.event, attempt=1, options=made.options, timeout=0.3, since=1e6)
    with pytest.raises(RetryLater):
        confirm(action, short)
    # and such that do not say after which to go on
    vendor.script = lambda request: Answer(body={"vouchers": [{"code": card}], "data": [{}], "has_more": True})
    with pytest.raises(RetryLater):
        confirm(action, job_of(action, since=1e6))


# --- in a configuration


def config_of(tmp_path: Path, more: str = "", monkeypatch: pytest.MonkeyPatch | None = None) -> Any:
    (tmp_path / "t.toml").write_text(
        '[limits.shared]\nrate = "2000/min"\n[actions.pay]\nkind = "voucherify-points"\n'
        'app_id = "env:APP_ID"\napp_token = "env:APP_TOKEN"\n'
        f'{more}\n[[rules]]\non = "customer.loyalty.tier.*"\ndo = ["pay"]\n'
    )
    config = load_config(
        load_settings({"TIERCAST_CONFIG": str(tmp_path / "t.toml"), "TIERCAST_WEBHOOK_SECRETS": "a-secret-of-tests"})
    )
    return config.actions["pay"]


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_ID", APP_ID)
    monkeypatch.setenv("APP_TOKEN", APP_TOKEN)


@pytest.mark.usefixtures("credentials")
def test_its_defaults_guard_the_loop_and_fit_the_smallest_plan(tmp_path: Path) -> None:
    spec = config_of(tmp_path, "points = 50")
    assert spec.once == ("customer", "tier")
    assert [(limit.calls, limit.seconds) for limit in spec.limits] == [(25, 60.0)]
    event = sample_event(customer_id="cust_7")
    rendered = spec.render(event)
    assert (rendered.customer, rendered.campaign, rendered.points) == ("cust_7", "camp_teahouse", 50)
    assert spec.render(sample_event(customer=False)).customer == ""


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    ("more", "once", "limits"),
    [
        ('once = ["customer"]\nrate = "10/s"', ("customer",), [10]),
        ('limit = "shared"', ("customer", "tier"), [2000]),
        ('limit = "shared"\nrate = "5/s"', ("customer", "tier"), [2000, 5]),
        ("once = []", (), [25]),
    ],
)
def test_what_the_file_says_comes_first(tmp_path: Path, more: str, once: tuple[str, ...], limits: list[int]) -> None:
    spec = config_of(tmp_path, f"points = 50\n{more}")
    assert spec.once == once
    assert [limit.calls for limit in spec.limits] == limits


@pytest.mark.usefixtures("credentials")
def test_points_may_be_a_template(tmp_path: Path) -> None:
    spec = config_of(tmp_path, 'points = "{{ event.tier.points.from }}"')
    assert spec.render(sample_event(tier="Silver")).points == 200
    with pytest.raises(Skip, match="points"):
        spec.render(sample_event("customer.loyalty.tier.left"))
    spec = config_of(tmp_path, 'points = "{{ event.tier.points.from / 10 }}"')
    assert spec.render(sample_event(tier="Silver")).points == 20
    spec = config_of(tmp_path, 'points = "{{ event.tier.points.from / 16 }}"')
    with pytest.raises(Permanent, match="points"):
        spec.render(sample_event(tier="Silver"))
    spec = config_of(tmp_path, 'points = "{{ 0 - event.tier.points.from }}"')
    with pytest.raises(Permanent, match="points"):
        spec.render(sample_event(tier="Silver"))


class TestContract(ActionContract):
    action_class = VoucherifyPoints
    options: Mapping[str, Any] = {}

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with FakeVoucherify() as server:
            server.card_of("cust_1", "camp_1")
            self.options = options(server)
            yield


def test_the_body_is_what_the_api_expects(vendor: FakeVoucherify) -> None:
    action = make_action(VoucherifyPoints, options(vendor, expiration_type="NON_EXPIRING"))
    vendor.card_of("cust_1", "camp_1")
    perform(action, job_of(action))
    close(action)
    sent = vendor.requests[-1]
    assert json.loads(sent.body) == {
        "points": 50,
        "source_id": "voucherify:once-d:pay",
        "expiration_type": "NON_EXPIRING",
    }
    assert sent.headers["content-type"] == "application/json"
