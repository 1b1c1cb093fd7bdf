"""Doing one action of an event again: a new round of it, once a request, and nothing of its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.conftest import Clock
from tests.model import invariants
from tests.model.snapshot import take_snapshot
from tests.operators import ANN
from tiercast.control import Control
from tiercast.ids import new_delivery_id
from tiercast.ledger import Digests, Ledger, new_token
from tiercast.ledger.model import Answer, Claim, DeliveryState, HeldJob, Outcome, Plan, PlannedJob
from tiercast.ledger.reading import Reader

SOURCE = "s"  # that of the model, whose invariants are checked


class Story:
    """Events that lead to jobs, and workers that do them."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.reader = Reader(ledger, Digests("test"))
        self.operator = Control(ledger, ANN, lambda _: None)

    def arrive(self, event: str, *jobs: PlannedJob, created: int = 1, state: str = "processed") -> str:
        delivery = new_delivery_id()
        self.ledger.record([(SOURCE, delivery, b"{}")])
        self.read(event, *jobs, created=created, state=state)
        return delivery

    def read(self, event: str, *jobs: PlannedJob, created: int = 1, state: str = "processed") -> str:
        """The next delivery that is due is read; returns its state."""
        token = new_token()
        (held,) = self.ledger.exchange_deliveries(SOURCE, claim=Claim(token=token, n=1)).claimed
        plan = Plan(
            delivery=held.id,
            token=token,
            state=DeliveryState(state),
            event_id=event,
            type="x",
            created_us=created,
            jobs=jobs,
        )
        ((_, became, _),) = self.ledger.exchange_deliveries(SOURCE, [plan]).settled
        return became

    def claim(self, action: str) -> list[HeldJob]:
        return self.ledger.exchange_jobs(f"jobs/{action}", claim=Claim(token=new_token(), n=9)).claimed

    def perform(self, action: str, verdict: str = "done", **more: Any) -> list[str]:
        """All that is due of an action ends so; returns the keys."""
        held = self.claim(action)
        self.ledger.exchange_jobs(
            f"jobs/{action}", [Outcome(job=h.key, token=h.token, verdict=verdict, duration=0.1, **more) for h in held]
        )
        return [h.key for h in held]

    def state(self, key: str) -> str | None:
        job = self.reader.job(key)
        return str(job.state) if job else None


@pytest.fixture
def story(ledger: Ledger, client: redis.Redis) -> Iterator[Story]:
    """A story, after which the ledger's counts and places must agree."""
    yield Story(ledger)
    invariants.check(take_snapshot(client, "t"))


def key(event: str, action: str, more: str = "") -> str:
    return f"{SOURCE}:{event}:{action}{more}"


class TestRedo:
    def test_it_owes_the_next_round_of_that_action_only(self, story: Story) -> None:
        delivery = story.arrive("e1", PlannedJob(action="mail"), PlannedJob(action="points"))
        story.perform("mail")
        story.perform("points")

        assert story.operator.redo(key("e1", "mail")) == Answer(True, "owed")

        assert story.perform("mail") == [key("e1", "mail", ":r2")]
        assert story.claim("points") == []
        info = story.reader.delivery(delivery)
        assert info is not None
        assert info.jobs == (key("e1", "mail"), key("e1", "points"), key("e1", "mail", ":r2"))

    def test_the_same_request_again_makes_no_other_round(self, story: Story) -> None:
        story.arrive("e1", PlannedJob(action="mail"))
        story.perform("mail")
        story.operator.redo(key("e1", "mail"))

        for state in ("owed", "done"):
            answer = story.operator.redo(key("e1", "mail"))
            assert not answer.done
            assert key("e1", "mail", ":r2") in answer.text
            assert state in answer.text
            story.perform("mail")
        assert story.state(key("e1", "mail", ":r3")) is None

    def test_a_further_round_is_made_of_the_last_one(self, story: Story) -> None:
        story.arrive("e1", PlannedJob(action="mail"))
        for more in ("", ":r2", ":r3"):
            assert story.perform("mail") == [key("e1", "mail", more)]
            assert story.operator.redo(key("e1", "mail", more)).done

    @pytest.mark.parametrize(("verdict", "advice"), [("dead", "jobs retry"), ("uncertain", "jobs resolve")])
    def test_what_was_not_done_is_refused_with_what_to_use(self, story: Story, verdict: str, advice: str) -> None:
        story.arrive("e1", PlannedJob(action="mail"))
        assert "owed already" in story.operator.redo(key("e1", "mail")).text
        story.perform("mail", verdict, effect_possible=True)
        answer = story.operator.redo(key("e1", "mail"))
        assert not answer.done
        assert advice in answer.text

    def test_it_takes_no_once_place_and_goes_under_its_own_key(self, story: Story) -> None:
        story.arrive("e1", PlannedJob(action="points", once="c"))
        assert story.claim("points")[0].once == "c"
        story.ledger.client.flushall()

        story.arrive("e2", PlannedJob(action="points", once="c"))
        story.perform("points")
        assert story.operator.redo(key("e2", "points")).done
        (held,) = story.claim("points")
        assert (held.key, held.once) == (key("e2", "points", ":r2"), None)

    def test_it_waits_for_its_order_group(self, story: Story) -> None:
        story.arrive("e1", PlannedJob(action="crm", order="g"), created=1)
        story.perform("crm")
        story.arrive("e2", PlannedJob(action="crm", order="g"), created=2)

        assert story.operator.redo(key("e1", "crm")) == Answer(True, "parked")

        assert story.perform("crm") == [key("e2", "crm")]
        assert story.state(key("e1", "crm", ":r2")) == "superseded"

    def test_it_does_not_undo_a_newer_event(self, story: Story) -> None:
        for created in (1, 2):
            story.arrive(f"e{created}", PlannedJob(action="crm", order="g"), created=created)
            story.perform("crm")
        answer = story.operator.redo(key("e1", "crm"))
        assert not answer.done
        assert "newer event" in answer.text
        assert story.state(key("e1", "crm", ":r2")) is None
        assert story.operator.redo(key("e2", "crm")).done

    def test_an_event_that_is_no_longer_kept_is_refused(self, story: Story) -> None:
        delivery = story.arrive("e1", PlannedJob(action="mail"))
        story.perform("mail")
        story.ledger.client.delete(f"t:b:{delivery}")
        assert "no longer kept" in story.operator.redo(key("e1", "mail")).text
        story.ledger.client.set(f"t:b:{delivery}", b"{}")
        assert story.operator.redo(key("e9", "mail")).text == "there is no such job"

    def test_the_delivery_does_not_leave_while_the_round_is_owed(self, timed: Ledger, clock: Clock) -> None:
        story = Story(timed)
        story.arrive("e1", PlannedJob(action="mail"))
        story.perform("mail")
        story.operator.redo(key("e1", "mail"))
        clock.pass_(30 * 86400)
        assert timed.trim()[0] == 0

        story.perform("mail")
        clock.pass_(8 * 86400)
        assert timed.trim()[0] == 1
        assert not [name for name in timed.client.scan_iter("t:j:*")]


class TestLimitedReplay:
    def test_only_these_actions_are_added(self, story: Story) -> None:
        story.arrive("e1", PlannedJob(action="mail"))
        delivery = new_delivery_id()
        story.ledger.record([(SOURCE, delivery, b"{}")])
        story.read("e2", PlannedJob(action="mail"))
        story.perform("mail")

        assert story.operator.replay(delivery, only=["crm"]).done
        story.read("e2", PlannedJob(action="mail"), PlannedJob(action="crm"), PlannedJob(action="points"))

        assert story.perform("crm") == [key("e2", "crm")]
        assert story.claim("points") == []
        assert story.claim("mail") == []

    def test_only_these_rounds_are_made_and_once_a_request(self, story: Story) -> None:
        delivery = story.arrive("e1", PlannedJob(action="mail"), PlannedJob(action="points"))
        jobs = (PlannedJob(action="mail"), PlannedJob(action="points"))
        story.perform("mail")
        story.perform("points")

        for made in ([key("e1", "mail", ":r2")], []):
            assert story.operator.replay(delivery, again=True, only=["mail"], rounds=["mail:r2"]).done
            story.read("e1", *jobs)
            assert story.perform("mail") == made
        assert story.claim("points") == []

    def test_two_replays_that_wait_are_one(self, story: Story) -> None:
        delivery = story.arrive("e1", PlannedJob(action="mail"), PlannedJob(action="points"))
        story.perform("mail")
        story.perform("points")
        story.operator.replay(delivery, again=True, only=["mail"], rounds=["mail:r2"])
        story.operator.replay(delivery, again=True, only=["crm"], rounds=["mail:r2"])

        story.read("e1", *(PlannedJob(action=name) for name in ("mail", "points", "crm", "slack")))

        assert story.perform("mail") == [key("e1", "mail", ":r2")]
        assert story.perform("crm") == [key("e1", "crm")]
        assert story.claim("points") == story.claim("slack") == []

    def test_the_wider_of_two_replays_holds(self, story: Story) -> None:
        delivery = story.arrive("e1", PlannedJob(action="mail"))
        story.perform("mail")
        story.operator.replay(delivery, only=["crm"])
        story.operator.replay(delivery, again=True, rounds=["mail:r2"])
        story.read("e1", *(PlannedJob(action=name) for name in ("mail", "slack")))
        assert story.perform("mail") == [key("e1", "mail", ":r2")]
        assert story.perform("slack") == [key("e1", "slack")]

    def test_the_limits_end_with_the_replay(self, story: Story) -> None:
        delivery = story.arrive("e1", PlannedJob(action="mail"))
        story.operator.replay(delivery, only=["crm"])
        story.read("e1", PlannedJob(action="mail"), PlannedJob(action="slack"))
        story.operator.replay(delivery)
        story.read("e1", PlannedJob(action="mail"), PlannedJob(action="slack"))
        assert story.perform("slack") == [key("e1", "slack")]

    def test_an_ignored_delivery_stays_so_where_no_rule_leads_to_the_action(self, story: Story) -> None:
        delivery = story.arrive("e1", state="ignored")
        story.operator.replay(delivery, only=["crm"])
        assert story.read("e1", PlannedJob(action="mail")) == "ignored"
        info = story.reader.delivery(delivery)
        assert info is not None
        assert "crm" in (info.reason or "")
        assert story.claim("mail") == []

        story.operator.replay(delivery, only=["crm"])
        assert story.read("e1", PlannedJob(action="mail"), PlannedJob(action="crm")) == "processed"
        assert story.perform("crm") == [key("e1", "crm")]
