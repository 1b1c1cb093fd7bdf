"""The commands that read and change the ledger, on a real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from tiercast.cli import main, output
from tiercast.embedded import EmbeddedServer
from tiercast.event import customer_ids
from tiercast.ids import new_delivery_id
from tiercast.ledger import Digests, Ledger, new_token, open_ledger, prepare
from tiercast.ledger.model import Claim, DeliveryState, HeldJob, Outcome, Plan, PlannedJob
from tiercast.samples import envelope, sample_data, sample_event
from tiercast.settings import load_settings

SOURCE = "voucherify"
JOINED = "customer.loyalty.tier.joined"

Run = Callable[..., Result]


class Story:
    """Makes deliveries and jobs in a ledger as a receiver and a worker would."""

    def __init__(self, ledger: Ledger, digests: Digests) -> None:
        self.ledger = ledger
        self.digests = digests

    def arrive(self, body: bytes = b"{}", *, id: str | None = None) -> str:
        """A delivery is stored."""
        id = id or new_delivery_id()
        self.ledger.record([(SOURCE, id, body)])
        return id

    def settle(self, **plan: Any) -> str:
        """The next delivery is read; returns its id."""
        token = new_token()
        (held,) = self.ledger.exchange_deliveries(SOURCE, claim=Claim(token=token, n=1)).claimed
        self.ledger.exchange_deliveries(SOURCE, [Plan(delivery=held.id, token=token, **plan)])
        return held.id

    def tell(self, event_id: str, *actions: str | PlannedJob, type: str = JOINED, **changes: Any) -> str:
        """A delivery arrives and tells an event, which leads to these actions."""
        data = sample_data(type, **changes)
        event = sample_event(type, id=event_id, data=data)
        self.arrive(json.dumps(envelope(type, data, event_id=event_id)).encode())
        refs = customer_ids(event)
        named = (("id", refs.id), ("source_id", refs.source_id), ("email", refs.email))
        return self.settle(
            state=DeliveryState.PROCESSED if actions else DeliveryState.IGNORED,
            reason="" if actions else "no rule for this event",
            event_id=event_id,
            type=type,
            at=event.at,
            created_us=event.created_us,
            form="envelope",
            customer=tuple(self.digests.customer(SOURCE, kind, value) for kind, value in named if value),
            jobs=tuple(each if isinstance(each, PlannedJob) else PlannedJob(action=each) for each in actions),
        )

    def claim(self, action: str, n: int = 10) -> list[HeldJob]:
        return self.ledger.exchange_jobs(f"jobs/{action}", claim=Claim(token=new_token(), n=n)).claimed

    def perform(self, action: str, verdict: str, **more: Any) -> None:
        """All jobs due of an action end so."""
        outcomes = [
            Outcome(job=held.key, token=held.token, verdict=verdict, duration=0.012, **more)
            for held in self.claim(action)
        ]
        self.ledger.exchange_jobs(f"jobs/{action}", outcomes)


@pytest.fixture
def environ(server: EmbeddedServer, client: redis.Redis, tmp_path: Path) -> dict[str, str]:
    """What points the commands at an empty ledger, and at no configuration."""
    return {
        "TIERCAST_REDIS_URL": server.url,
        "TIERCAST_PREFIX": "t",
        "TIERCAST_DATA": str(tmp_path / "none"),
        "TIERCAST_CONFIG": str(tmp_path / "none.toml"),
    }


@pytest.fixture
def story(environ: dict[str, str]) -> Story:
    settings = load_settings(environ)
    ledger = open_ledger(settings, role="operator")
    return Story(ledger, prepare(ledger, settings))


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    def call(*args: str, status: int = 0, **kwargs: Any) -> Result:
        result = CliRunner(env=environ).invoke(main, args, **kwargs)
        assert result.exit_code == status, result.output
        return result

    return call


def listed(result: Result) -> list[dict[str, Any]]:
    """The items of a listing: the only value of the only document on standard output."""
    ((_, items),) = json.loads(result.stdout).items()
    assert isinstance(items, list)
    return items


class TestDeliveries:
    def test_a_listing_has_every_promised_field(self, story: Story, run: Run) -> None:
        delivery = story.tell("evcus_1", "mail")

        (item,) = listed(run("deliveries", "list", "--json"))

        assert item.keys() >= {"id", "source", "state", "event_id", "type", "received_at", "reason"}
        assert (item["id"], item["source"], item["state"]) == (delivery, SOURCE, "processed")
        assert (item["event_id"], item["type"], item["reason"]) == ("evcus_1", JOINED, None)
        assert len(item["received_at"]) == len("2026-08-14T09:30:00.000Z")
        assert item["received_at"].endswith("Z")

    def test_one_that_waits_is_queued_and_unread(self, story: Story, run: Run) -> None:
        story.arrive()
        (item,) = listed(run("deliveries", "list", "--json", "--state", "queued"))
        assert (item["state"], item["event_id"], item["type"]) == ("queued", None, None)

    def test_the_newest_comes_first_and_a_limit_holds(self, story: Story, run: Run) -> None:
        ids = [story.tell(f"evcus_{n}", "mail") for n in range(4)]
        assert [item["id"] for item in listed(run("deliveries", "list", "--json", "--limit", "3"))] == ids[:0:-1]

    @pytest.mark.parametrize(
        ("filters", "found"),
        [
            (["--state", "ignored"], ["evcus_3"]),
            (["--type", "customer.loyalty.tier.upgraded"], ["evcus_2"]),
            (["--type", "customer.*.upgraded"], ["evcus_2"]),
            (["--type", "customer.loyalty.*"], ["evcus_3", "evcus_2", "evcus_1"]),
            (["--source", "elsewhere"], []),
            (["--action", "crm"], ["evcus_2"]),
            (["--customer", "cust_a"], ["evcus_1"]),
            (["--customer", "Ada@Example.com"], ["evcus_1"]),
            (["--customer", "crm-b"], ["evcus_2"]),
            (["--campaign", "coffee CLUB"], ["evcus_2"]),
            (["--campaign", "camp_teahouse"], ["evcus_3", "evcus_2", "evcus_1"]),
            (["--tier", "ltr_teahouse_1", "--action", "mail"], ["evcus_2", "evcus_1"]),
            (["--tier", "gold leaf"], ["evcus_1"]),
            (["--since", "1h"], ["evcus_3", "evcus_2", "evcus_1"]),
            (["--until", "2020-01-01"], []),
            (["--since", "2020-01-01T00:00:00Z", "--until", "1h"], []),
            (["--error", "NO RULE"], ["evcus_3"]),
        ],
    )
    def test_filters(self, story: Story, run: Run, filters: list[str], found: list[str]) -> None:
        story.tell(
            "evcus_1", "mail", customer_id="cust_a", email="ada@example.com", source_id="crm-a", tier="Gold leaf"
        )
        upgraded = "customer.loyalty.tier.upgraded"
        more = {"email": "bo@example.com", "source_id": "crm-b", "campaign": "Coffee club"}
        story.tell("evcus_2", "mail", "crm", type=upgraded, customer_id="cust_b", **more)
        story.tell("evcus_3", type="customer.loyalty.tier.left", customer_id="cust_c", email=None, source_id=None)

        assert [item["event_id"] for item in listed(run("deliveries", "list", "--json", *filters))] == found

    def test_a_person_sees_a_table_and_that_there_is_more(self, story: Story, run: Run) -> None:
        for n in range(51):
            story.tell(f"evcus_{n}")

        result = run("deliveries", "list")

        assert len(result.stdout.splitlines()) == 51
        assert "no rule for this event" in result.stdout
        assert "50 newest shown" in result.stderr

    def test_nothing_found_says_what_to_try(self, run: Run) -> None:
        assert "tiercast trigger" in run("deliveries", "list").stdout
        assert "fewer filters" in run("deliveries", "list", "--state", "queued").stdout

    def test_what_a_sender_wrote_cannot_steer_the_terminal(self, story: Story, run: Run) -> None:
        story.arrive()
        story.settle(state=DeliveryState.QUARANTINED, reason="bad \x1b[2Jkey")
        result = run("deliveries", "list")
        assert "\x1b" not in result.stdout
        assert "bad" in result.stdout

    def test_show_tells_everything_but_the_person(self, story: Story, run: Run) -> None:
        delivery = story.tell("evcus_1", "mail", customer_id="cust_a", email="ada@example.com", name="Ada Byron")
        story.perform("mail", "dead", text="mailbox unknown")

        text = run("deliveries", "show", delivery).stdout

        for part in (
            delivery,
            "processed",
            "evcus_1",
            "cust_a",
            "Silver leaf",
            f"{SOURCE}:evcus_1:mail",
            "mailbox unknown",
        ):
            assert part in text
        assert "ada@example.com" not in text
        assert "Byron" not in text

    def test_show_as_json(self, story: Story, run: Run) -> None:
        delivery = story.tell("evcus_1", "mail")
        document = json.loads(run("deliveries", "show", delivery, "--json").stdout)
        assert document["id"] == delivery
        assert document["jobs"][0]["key"] == f"{SOURCE}:evcus_1:mail"

    def test_show_body_prints_the_very_bytes(self, story: Story, run: Run) -> None:
        body = bytes(range(256)) + b"\r\n\n"
        delivery = story.arrive(body)
        assert run("deliveries", "show", delivery, "--body").stdout_bytes == body

    def test_show_of_none(self, run: Run) -> None:
        assert "There is no delivery nope" in run("deliveries", "show", "nope", status=1).stderr


class TestReplay:
    def test_it_makes_the_delivery_owed_again(self, story: Story, run: Run) -> None:
        delivery = story.tell("evcus_1")

        assert "Replayed 1 delivery" in run("deliveries", "replay", delivery).stdout

        (held,) = story.ledger.exchange_deliveries(SOURCE, claim=Claim(token=new_token(), n=5)).claimed
        assert (held.id, held.again) == (delivery, 1)

    def test_again_also_does_again_what_is_done(self, story: Story, run: Run) -> None:
        delivery = story.tell("evcus_1", "mail")
        story.perform("mail", "done")
        run("deliveries", "replay", delivery, "--again", "--action", "mail")
        (held,) = story.ledger.exchange_deliveries(SOURCE, claim=Claim(token=new_token(), n=5)).claimed
        assert held.again == 2

    def test_filters_choose_and_the_oldest_goes_first(self, story: Story, run: Run) -> None:
        ids = [story.tell(f"evcus_{n}") for n in range(3)]
        story.tell("evcus_9", "mail")

        run("deliveries", "replay", "--state", "ignored")

        claimed = story.ledger.exchange_deliveries(SOURCE, claim=Claim(token=new_token(), n=9)).claimed
        assert [held.id for held in claimed] == ids

    def test_a_dry_run_changes_nothing(self, story: Story, run: Run) -> None:
        story.tell("evcus_1")
        story.tell("evcus_2", "mail")

        text = run("deliveries", "replay", "--since", "1h", "--dry-run").stdout

        assert "Would replay 2 deliveries (1 processed, 1 ignored)" in text
        assert not story.ledger.exchange_deliveries(SOURCE, claim=Claim(token=new_token(), n=5)).claimed

    @pytest.mark.parametrize(("answer", "status", "owed"), [("y", 0, 2), ("n", 1, 0)])
    def test_a_person_is_asked_when_filters_choose_several(
        self, story: Story, run: Run, monkeypatch: pytest.MonkeyPatch, answer: str, status: int, owed: int
    ) -> None:
        monkeypatch.setattr(output, "can_ask", lambda: True)
        story.tell("evcus_1")
        story.tell("evcus_2")

        result = run("deliveries", "replay", "--state", "ignored", input=f"{answer}\n", status=status)

        assert "2 deliveries chosen (2 ignored)" in result.stderr
        assert len(story.ledger.exchange_deliveries(SOURCE, claim=Claim(token=new_token(), n=5)).claimed) == owed

    def test_a_duplicate_names_the_first(self, story: Story, run: Run) -> None:
        first = story.tell("evcus_1", "mail")
        second = story.tell("evcus_1", "mail")
        (item,) = listed(run("deliveries", "list", "--state", "duplicate", "--json"))
        assert (item["id"], item["reason"]) == (second, f"the same event as delivery {first}")

        result = run("deliveries", "replay", second, status=1)

        assert "duplicate" in result.stderr
        assert first in result.stderr

    def test_some_done_some_not_is_a_success(self, story: Story, run: Run) -> None:
        delivery = story.tell("evcus_1")
        result = run("deliveries", "replay", "nope", delivery)
        assert "Replayed 1 delivery" in result.stdout
        assert "Not replayed 1 delivery: there is no such delivery" in result.stderr

    def test_nothing_named_means_nothing(self, run: Run) -> None:
        assert "choose them with a filter" in run("deliveries", "replay", status=2).stderr
        assert "not both" in run("deliveries", "replay", "x", "--since", "2h", status=2).stderr

    def test_nothing_that_matches_is_no_failure(self, run: Run) -> None:
        assert "nothing to replay" in run("deliveries", "replay", "--state", "quarantined").stdout


class TestJobs:
    def test_a_listing_has_every_promised_field(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail", customer_id="cust_a")
        story.perform("mail", "done", text="sent")

        (item,) = listed(run("jobs", "list", "--json"))

        assert item.keys() >= {"key", "action", "state", "attempts", "event_id", "customer_id", "error"}
        assert item["key"] == f"{SOURCE}:evcus_1:mail"
        assert (item["action"], item["state"], item["attempts"]) == ("mail", "done", 1)
        assert (item["event_id"], item["customer_id"]) == ("evcus_1", "cust_a")
        assert (item["error"], item["result"]) == (None, "sent")

    def test_a_job_without_customer_has_null(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail", customer=False)
        (item,) = listed(run("jobs", "list", "--json"))
        assert item["customer_id"] is None

    def test_why_one_is_dead_stands_in_error(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail", "crm")
        story.perform("mail", "dead", text="mailbox unknown")
        (item,) = listed(run("jobs", "list", "--json", "--state", "dead"))
        assert (item["action"], item["error"], item["result"]) == ("mail", "mailbox unknown", None)

    def test_an_error_is_found_by_a_part_of_it_or_by_its_pattern(self, story: Story, run: Run) -> None:
        for n, text in enumerate(("answered 404: contact 81723", "answered 404: contact 99", "mailbox unknown", None)):
            story.tell(f"evcus_{n}", "mail")
            story.perform("mail", "dead" if text else "done", text=text or "contact 81723")
        for wanted, found in (
            ("CONTACT 81723", ["evcus_0"]),
            ("answered 404: contact <n>", ["evcus_0", "evcus_1"]),
            ("mailbox", ["evcus_2"]),
            ("nothing like it", []),
        ):
            items = listed(run("jobs", "list", "--json", "--error", wanted))
            assert sorted(item["event_id"] for item in items) == found

    @pytest.mark.parametrize(
        ("filters", "found"),
        [
            (["--action", "crm"], ["evcus_2"]),
            (["--state", "owed", "--action", "mail"], ["evcus_1", "evcus_2"]),
            (["--customer", "cust_a"], ["evcus_1"]),
            (["--tier", "Gold leaf"], ["evcus_1"]),
            (["--campaign", "Coffee club", "--action", "mail"], ["evcus_2"]),
            (["--type", "*.upgraded", "--action", "mail"], ["evcus_2"]),
            (["--until", "2020-01-01"], []),
        ],
    )
    def test_filters(self, story: Story, run: Run, filters: list[str], found: list[str]) -> None:
        story.tell("evcus_1", "mail", customer_id="cust_a", tier="Gold leaf")
        upgraded = "customer.loyalty.tier.upgraded"
        story.tell("evcus_2", "mail", "crm", type=upgraded, customer_id="cust_b", campaign="Coffee club")
        assert sorted(item["event_id"] for item in listed(run("jobs", "list", "--json", *filters))) == found

    def test_a_script_gets_all_of_them(self, story: Story, run: Run) -> None:
        for n in range(60):
            story.tell(f"evcus_{n}", "mail")
        assert len(listed(run("jobs", "list", "--json"))) == 60
        assert "50 newest shown" in run("jobs", "list").stderr

    def test_show_has_the_history(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail")
        story.perform("mail", "later", text="server busy", wait=0)
        story.perform("mail", "done", text="sent")
        key = f"{SOURCE}:evcus_1:mail"

        document = json.loads(run("jobs", "show", key, "--json").stdout)

        outcomes = [(each["outcome"], each["error"], each["duration_ms"]) for each in document["history"]]
        assert outcomes == [("later", "server busy", 12), ("done", None, 12)]
        assert document["history"][0]["started_at"].endswith("Z")
        text = run("jobs", "show", key).stdout
        assert "server busy" in text
        assert "done" in text

    def test_show_of_none(self, run: Run) -> None:
        assert "There is no job nope" in run("jobs", "show", "nope", status=1).stderr

    def test_retry_gives_a_dead_job_new_attempts(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail")
        story.perform("mail", "dead", text="refused")

        assert "Retried 1 job" in run("jobs", "retry", f"{SOURCE}:evcus_1:mail").stdout

        assert len(story.claim("mail")) == 1

    def test_retry_by_filter_chooses_dead_ones(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail", PlannedJob(action="crm", skipped="no email"))
        story.tell("evcus_2", "mail")
        story.perform("mail", "dead", text="refused")

        assert "Would retry 2 jobs (2 dead)" in run("jobs", "retry", "--since", "1h", "--dry-run").stdout
        document = json.loads(run("jobs", "retry", "--since", "1h", "--json").stdout)

        assert document == {"chosen": 2, "done": 2, "not_done": [], "actions": {"mail": 2}, "left_out": {}}

    def test_a_done_job_is_not_retried(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail")
        story.perform("mail", "done")
        result = run("jobs", "retry", f"{SOURCE}:evcus_1:mail", status=1)
        assert "Not retried 1 job: it is done" in result.stderr
        assert "tiercast jobs redo" in result.stderr

    def test_drop_gives_up_all_that_can_be(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail", "crm")
        story.perform("mail", "dead", text="refused")

        assert "Dropped 2 jobs" in run("jobs", "drop", "--source", SOURCE, "--yes").stdout

        assert {item["state"] for item in listed(run("jobs", "list", "--json"))} == {"skipped"}

    def test_a_limit_holds_over_all_states(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail", "crm")
        story.perform("mail", "dead", text="refused")
        assert "Dropped 1 job." in run("jobs", "drop", "--limit", "1").stdout

    @pytest.mark.parametrize(("decision", "state"), [("done", "done"), ("retry", "owed")])
    def test_resolve_decides_an_uncertain_job(self, story: Story, run: Run, decision: str, state: str) -> None:
        story.tell("evcus_1", "points")
        story.perform("points", "uncertain", text="no answer", effect_possible=True)
        key = f"{SOURCE}:evcus_1:points"

        assert f"is {state} now" in run("jobs", "resolve", key, decision).stdout

        (item,) = listed(run("jobs", "list", "--json"))
        assert item["state"] == state

    def test_resolve_refuses_what_is_not_uncertain(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail")
        assert "not uncertain" in run("jobs", "resolve", f"{SOURCE}:evcus_1:mail", "done", status=1).stderr
        assert "There is no job" in run("jobs", "resolve", "nope", "done", status=1).stderr
        assert "done" in run("jobs", "resolve", "nope", "maybe", status=2).stderr

    def test_nothing_found_says_what_to_try(self, run: Run) -> None:
        assert "tiercast trigger" in run("jobs", "list").stdout


class TestLanes:
    def test_a_listing_has_every_promised_field(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail")
        story.arrive()

        items = {item["name"]: item for item in listed(run("lanes", "list", "--json"))}

        lane = items["jobs/mail"]
        assert lane.keys() >= {"name", "owed", "due", "held", "oldest_due_seconds", "paused", "reason"}
        assert (lane["owed"], lane["due"], lane["held"], lane["paused"], lane["reason"]) == (1, 1, 0, False, None)
        assert lane["oldest_due_seconds"] >= 0
        assert items["deliveries/voucherify"]["owed"] == 1

    def test_pause_and_resume_by_the_actions_name(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail")

        run("lanes", "pause", "mail", "--reason", "wrong text")
        (lane,) = [each for each in listed(run("lanes", "list", "--json")) if each["name"] == "jobs/mail"]
        assert (lane["paused"], lane["reason"]) == (True, "wrong text")
        assert "paused: wrong text (" in run("lanes", "list").stdout
        assert story.claim("mail") == []

        run("lanes", "resume", "jobs/mail")
        assert len(story.claim("mail")) == 1

    def test_an_unknown_lane_names_the_nearest(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "welcome-email")
        result = run("lanes", "pause", "welcom-email", status=1)
        assert "Did you mean jobs/welcome-email?" in result.stderr

    def test_a_name_of_both_is_ambiguous(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", SOURCE)
        assert "both an action and a source" in run("lanes", "pause", SOURCE, status=1).stderr

    def test_no_lanes_yet(self, run: Run) -> None:
        assert "No lanes yet" in run("lanes", "list").stdout


class TestTrouble:
    def test_a_ledger_that_is_away_says_what_to_do(self, run: Run) -> None:
        result = run("jobs", "list", "--json", status=1, env={"TIERCAST_REDIS_URL": "redis://:pass-word@127.0.0.1:1/0"})
        assert "tiercast up" in result.stderr
        assert "127.0.0.1:1" in result.stderr
        assert "pass-word" not in result.stderr
        assert "Traceback" not in result.output
        assert result.stdout == ""

    def test_a_wrong_setting_names_its_variable(self, run: Run) -> None:
        result = run("jobs", "list", status=1, env={"TIERCAST_LEASE": "soon"})
        assert "TIERCAST_LEASE" in result.stderr

    @pytest.mark.parametrize(
        "args",
        [
            ("jobs", "list", "--state", "lost"),
            ("jobs", "list", "--since", "yesterday"),
            ("jobs", "list", "--limit", "0"),
            ("deliveries", "list", "--state", "done"),
            ("jobs", "resolve"),
            ("nonsense",),
        ],
    )
    def test_wrong_usage_is_told_apart(self, run: Run, args: tuple[str, ...]) -> None:
        assert "Error" in run(*args, status=2).stderr
