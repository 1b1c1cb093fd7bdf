"""The main job, end to end, over real processes: a webhook comes in, the actions happen."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers.mail import MailServer
from tests.servers.web import Answer, WebServer
from tests.stack import JOINED, SECRET, Stack, wait_for
from tiercast.samples import envelope, sample_data
from tiercast.signature import sign
from tiercast.testing.vendors.hubspot import FakeHubSpot

CONFIG = """
[sources.voucherify]
secrets = ["env:TIERCAST_WEBHOOK_SECRETS"]
event = "customer.loyalty.tier.joined"

[actions.welcome-email]
kind = "email"
server = "{mail}"
tls = "none"
from = "Tea house <hello@tea.example>"
to = "{{{{ event.customer.email }}}}"
subject = "Welcome to {{{{ event.tier.name }}}}"
text = "Hello {{{{ event.customer.name or 'there' }}}}"
backoff = 0.2

[actions.crm-tier]
kind = "hubspot"
base_url = "{hubspot}"
token = "env:HUBSPOT_TOKEN"
order = "latest"
id_property = "voucherify_source_id"
id = "{{{{ event.customer.source_id }}}}"
properties.loyalty_tier = "{{{{ event.tier.name }}}}"

[actions.tell]
kind = "webhook"
url = "{web}/tiers"
secret = "env:TELL_SECRET"
allow_hosts = ["127.0.0.1"]

[[rules]]
on = "customer.loyalty.tier.*"
do = ["crm-tier", "tell"]

[[rules]]
on = "customer.loyalty.tier.joined"
when = "event.tier.points.from >= 0"
do = ["welcome-email"]
"""


class World(Stack):
    """The stack with the servers that its actions call."""

    def __init__(self, folder: Path, mail: MailServer, hubspot: FakeHubSpot, web: WebServer) -> None:
        self.mail, self.hubspot, self.web = mail, hubspot, web
        config = CONFIG.format(mail=mail.url, hubspot=hubspot.url, web=web.url)
        super().__init__(folder, config, env={"HUBSPOT_TOKEN": "pat-s3cr3t", "TELL_SECRET": "tell"})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with MailServer() as mail, FakeHubSpot() as hubspot, WebServer() as web, World(tmp_path, mail, hubspot, web) as it:
        yield it


@pytest.fixture
def running(world: World) -> World:
    world.start_web()
    world.start_worker()
    return world


def test_a_joined_event_leads_to_a_mail_a_crm_update_and_a_call(running: World) -> None:
    # When
    delivery = running.send(email="mona@example.com", name="Mona", source_id="crm-1", tier="Gold leaf")
    jobs = running.settled(delivery)

    # Then
    assert {action: job.state for action, job in jobs.items()} == {
        "welcome-email": "done",
        "crm-tier": "done",
        "tell": "done",
    }
    (mail,) = running.mail.messages()
    assert (mail["to"], mail["subject"]) == ("mona@example.com", "Welcome to Gold leaf")
    assert "Hello Mona" in mail.get_content()
    assert running.hubspot.contacts == {"crm-1": {"loyalty_tier": "Gold leaf"}}
    (call,) = running.web.requests
    assert call.json["type"] == JOINED
    assert call.headers["webhook-signature"].startswith("v1,")

    # and everything can be found again from the customer's address
    for name in ("mona@example.com", "crm-1"):
        assert {job.key for job in running.jobs(customer=name)} == {job.key for job in jobs.values()}
    listed = json.loads(running.cli("jobs", "list", "--json"))["jobs"]
    assert [job["state"] for job in listed] == ["done"] * 3


def test_the_senders_documented_events_in_envelope_and_raw(running: World, shared: Path) -> None:
    paths = sorted((shared / "data").glob("*.json"))
    assert len(paths) == 5
    for path in paths:
        data = json.loads(path.read_bytes())
        jobs = running.settled(running.post(envelope(path.stem, data)).json()["delivery"])
        call = next(r for r in reversed(running.web.requests) if r.json["type"] == path.stem)
        assert call.json["customer"] == data["customer"]
        assert call.json["campaign"] == data["campaign"]
        assert call.json["at"] == data["created_at"]
        tier = data.get("loyalty_tier_to", data.get("loyalty_tier"))
        expected = (None, data["loyalty_tier"]) if path.stem.endswith("left") else (tier, data.get("loyalty_tier_from"))
        assert (call.json["tier"], call.json["previous_tier"]) == expected
        if path.stem == JOINED:
            assert jobs["welcome-email"].state == "skipped"
            assert "to" in (jobs["welcome-email"].text or "")
    raw = (shared / "data" / f"{JOINED}.json").read_bytes()
    assert running.settled(running.post(raw).json()["delivery"])["tell"].state == "done"


def test_with_the_workers_stopped_the_exact_bytes_are_queued(world: World) -> None:
    # Given a receiver and no worker
    world.start_web()
    raw = b'  {"id" : "whs_1", "data":{}, "x":"\\u00e9 \xc3\xa9" }\n'

    # When
    answer = world.post(raw)

    # Then
    assert answer.status_code == 202
    with world.opened() as (_, reader):
        assert reader.body(answer.json()["delivery"]) == raw
    (lane,) = [x for x in json.loads(world.cli("lanes", "list", "--json"))["lanes"] if x["owed"]]
    assert (lane["name"], lane["owed"], lane["due"], lane["held"]) == ("deliveries/voucherify", 1, 1, 0)
    assert lane["oldest_due_seconds"] >= 0

    # and a worker that starts takes it up
    world.start_worker()
    wait_for(lambda: world.owed() == 0)
    assert "process:voucherify" in world.log("worker")


def test_500_events_and_every_job_done_exactly_once(running: World) -> None:
    running.cli("trigger", "--count", "500", "--yes", "--url", f"http://127.0.0.1:{running.port}/webhooks/voucherify")
    wait_for(lambda: running.owed() == 0, seconds=60)

    assert running.states() == {"done": 1500}
    assert len(running.mail.mails) == 500
    ids = Counter(request.headers["webhook-id"] for request in running.web.requests)
    assert len(ids) == 500
    assert set(ids.values()) == {1}


def test_20_concurrent_copies_of_one_event_make_one_set_of_jobs(running: World) -> None:
    body = envelope(JOINED, sample_data(), event_id="evcus_same")
    other = body | {"id": "whs_other", "source": {"id": "distr_other", "object": "distribution", "target_url": "x"}}
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(running.post, [body, other] * 10))
    assert {answer.status_code for answer in answers} == {202}
    wait_for(lambda: running.owed() == 0)

    assert len(running.web.requests) == 1
    with running.opened() as (_, reader):
        states = Counter(reader.delivery(a.json()["delivery"]).state for a in answers)  # type: ignore[union-attr]
    assert states == {"processed": 1, "duplicate": 19}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"this is no json", id="no json"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"", id="empty"),
        pytest.param(b'{"a":' * 20000, id="deep"),
        pytest.param(b'{"event":{"type":"customer.loyalty.tier.joined","id":"e"},"data":{"customer":7}}', id="types"),
        pytest.param(b'{"id":"\xff\xfe"}', id="utf-8"),
        pytest.param(b'{"id":"a","id":"b","data":{}}', id="duplicate keys"),
        pytest.param(b'{"id":"a","data":{"points":NaN}}', id="nan"),
    ],
)
def test_what_cannot_be_read_is_quarantined_and_holds_up_nothing(running_once: World, body: bytes) -> None:
    answer = running_once.post(body)
    assert answer.status_code == 202
    good = running_once.send()

    assert running_once.settled(good)["tell"].state == "done"
    with running_once.opened() as (_, reader):
        info = reader.delivery(answer.json()["delivery"])
        assert info is not None
        assert info.state == "quarantined"
        assert info.reason


@pytest.fixture(scope="module")
def running_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("once")
    with MailServer() as mail, FakeHubSpot() as hubspot, WebServer() as web, World(folder, mail, hubspot, web) as it:
        it.start_web()
        it.start_worker()
        yield it


def test_too_large_is_refused_and_bad_signatures_leave_nothing(running_once: World) -> None:
    with running_once.opened() as (ledger, _):
        before = ledger.client.dbsize()
        assert running_once.post(b"x" * 10_000_000).status_code == 413
        body = json.dumps(envelope(JOINED, sample_data())).encode()
        good = sign(body, SECRET)
        for signature in ("", "0" * 64, good[:-1], good.upper(), "ü" * 64, sign(body, "wrong")):
            assert running_once.post(body, signature=signature).status_code == 401
        assert running_once.post(body, source="nobody").status_code == 404
        assert ledger.client.dbsize() == before
    assert "Traceback" not in running_once.log("web")


def test_a_mail_server_that_refuses_for_a_while_gets_the_mail_once(running: World) -> None:
    # Given a server that puts the first two attempts off
    running.mail.rcpt.extend(["451 4.3.0 try again later"] * 2)

    # When
    job = running.settled(running.send())["welcome-email"]

    # Then
    assert len(running.mail.mails) == 1
    with running.opened() as (_, reader):
        history = reader.job(job.key).history  # type: ignore[union-attr]
    assert [attempt.outcome for attempt in history] == ["later", "later", "done"]
    assert "451" in (history[0].error or "")


def test_a_refused_credential_stops_the_lane_and_says_so(running: World) -> None:
    running.web.default = lambda request: Answer(status=401)
    running.send()
    with running.opened() as (_, reader):
        lane = wait_for(lambda: [x for x in reader.lanes() if x.name == "jobs/tell" and x.reason])[0]
    assert "401" in (lane.reason or "")
    assert lane.owed == 1

    # and goes on once an operator has put it right
    running.web.default = lambda request: Answer()
    running.cli("lanes", "resume", "tell")
    wait_for(lambda: running.states() == {"done": 3})


def test_a_worker_stopped_warmly_hands_back_what_it_holds(running: World) -> None:
    # Given calls that take a while
    running.web.default = lambda request: Answer(body=b"x" * 20, drip=0.05)
    for _ in range(40):
        running.send()
    wait_for(lambda: len(running.web.requests) >= 5)

    # When
    assert running.stop("worker") == 0

    # Then nothing is held, and another worker does the rest, each once
    with running.opened() as (_, reader):
        assert {lane.name: lane.held for lane in reader.lanes() if lane.held} == {}
    running.start_worker("second")
    wait_for(lambda: running.states() == {"done": 120})
    assert len({request.headers["webhook-id"] for request in running.web.requests}) == 40
    assert len(running.web.requests) == 40


def test_work_of_a_killed_worker_is_taken_up_within_a_lease(tmp_path: Path) -> None:
    with MailServer() as mail, FakeHubSpot() as hubspot, WebServer() as web:
        stack = World(tmp_path, mail, hubspot, web)
        stack._env["TIERCAST_LEASE"] = "3"
        with stack:
            stack.start_web()
            stack.start_worker()
            web.default = lambda request: Answer(body=b"x" * 100, drip=1)
            stack.send()
            wait_for(lambda: web.requests)
            stack.stop("worker", signal.SIGKILL)
            web.default = lambda request: Answer()
            stack.start_worker("second")
            wait_for(lambda: stack.states() == {"done": 3}, seconds=60)
            assert len({request.headers["webhook-id"] for request in web.requests}) == 1
