"""What the machine has found, as the shortest stories that show it."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.conftest import Clock
from tests.model import invariants
from tests.model.snapshot import take_snapshot
from tiercast.ledger import Ledger, new_token
from tiercast.ledger.model import Claim, DeliveryState, HeldJob, Outcome, Plan, PlannedJob

SOURCE = "s"
DAY = 86400


def delivery_id(number: int) -> str:
    return f"01900000-0000-7000-8000-{number:012x}"


class Story:
    """A ledger with shorthands. Each step ends with a recount of everything."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger, self.clock = ledger, clock

    def plan(self, number: int, *jobs: PlannedJob, created: int = 10, state: str = "processed") -> None:
        """Take delivery `number` (recorded by now) through the lane as event `e<number>`."""
        token = new_token()
        (held,) = self.ledger.exchange_deliveries(SOURCE, claim=Claim(token=token, n=1)).claimed
        plan = Plan(
            delivery=held.id, token=token, state=DeliveryState(state), event_id=f"e{number}", type="x",
            at="2026-01-01T00:00:00.000Z", created_us=created, jobs=jobs,
        )  # fmt: skip
        self.ledger.exchange_deliveries(SOURCE, [plan])
        self.recount()

    def event(self, number: int, *jobs: PlannedJob, created: int = 10) -> None:
        self.ledger.record([(SOURCE, delivery_id(number), b"{}")])
        self.plan(number, *jobs, created=created)

    def hold(self, action: str = "a") -> HeldJob:
        (held,) = self.ledger.exchange_jobs(f"jobs/{action}", claim=Claim(token=new_token(), n=1)).claimed
        return held

    def settle(self, held: HeldJob, verdict: str, **more: Any) -> None:
        outcome = Outcome(job=held.key, token=held.token, verdict=verdict, duration=0.0, **more)
        self.ledger.exchange_jobs("jobs/" + held.key.split(":")[2], [outcome])
        self.recount()

    def operate(self, verb: str, **request: Any) -> bool:
        done = self.ledger.operate(verb, **request)[0]
        self.recount()
        return done

    def states(self, *numbers: int, action: str = "a") -> list[str]:
        client: Any = self.ledger.client
        return [(client.hget(f"t:j:{SOURCE}:e{n}:{action}", "s") or b"gone").decode() for n in numbers]

    def recount(self) -> None:
        invariants.check(take_snapshot(self.ledger.client, "t"))


@pytest.fixture
def story(timed: Ledger, clock: Clock) -> Story:
    return Story(timed, clock)


def key(number: int, action: str = "a") -> str:
    return f"{SOURCE}:e{number}:{action}"


class TestRetention:
    def test_a_replay_that_is_ignored_today_does_not_let_owed_jobs_go(self, story: Story) -> None:
        story.event(1, PlannedJob(action="a"))
        story.operate("replay", delivery=delivery_id(1), again=1)
        story.plan(1, state="ignored")

        story.clock.pass_(8 * DAY)
        assert story.ledger.trim()[0] == 0
        assert story.hold().key == key(1)

    def test_poison_found_on_a_replay_does_not_let_owed_jobs_go(self, story: Story) -> None:
        story.event(1, PlannedJob(action="a"))
        story.operate("replay", delivery=delivery_id(1), again=1)
        for round_ in range(5):
            assert story.ledger.exchange_deliveries(
                SOURCE, claim=Claim(token=f"{round_}", n=1, isolated=round_ > 1)
            ).claimed
            story.clock.pass_(31)
        story.ledger.exchange_deliveries(SOURCE, claim=Claim(token="last", n=1))
        story.recount()

        story.clock.pass_(31 * DAY)
        assert story.ledger.trim()[0] == 0
        assert story.hold().key == key(1)

    def test_a_delivery_that_waits_to_be_replayed_does_not_leave_when_its_last_job_settles(self, story: Story) -> None:
        story.event(1, PlannedJob(action="a"))
        held = story.hold()
        story.operate("replay", delivery=delivery_id(1), again=2)
        story.settle(held, "done")

        story.clock.pass_(8 * DAY)
        assert story.ledger.trim()[0] == 0
        story.plan(1, PlannedJob(action="a"))
        assert story.hold().key == key(1) + ":r2"

    def test_older_ones_are_not_done_when_the_one_that_may_have_happened_leaves(self, story: Story) -> None:
        story.event(1, PlannedJob(action="a", order="g"), created=20)
        story.event(2, PlannedJob(action="a", order="g"), created=10)
        story.settle(story.hold(), "dead", effect_possible=True)

        story.clock.pass_(31 * DAY)
        assert story.ledger.trim()[0] == 1
        story.recount()
        assert story.states(2) == ["superseded"]


class TestReplay:
    def test_a_second_replay_of_a_delivery_that_is_being_read_does_not_owe_it_twice(self, story: Story) -> None:
        story.event(1, PlannedJob(action="a"))
        story.settle(story.hold(), "done")
        story.operate("replay", delivery=delivery_id(1), again=2)
        (held,) = story.ledger.exchange_deliveries(SOURCE, claim=Claim(token="t", n=1)).claimed
        assert story.operate("replay", delivery=delivery_id(1), again=1)

        assert story.ledger.exchange_deliveries(SOURCE, claim=Claim(token="u", n=1)).claimed == []
        plan = Plan(delivery=held.id, token="t", state=DeliveryState.PROCESSED, event_id="e1", type="x", created_us=1,
                    jobs=(PlannedJob(action="a"),))  # fmt: skip
        story.ledger.exchange_deliveries(SOURCE, [plan])
        story.recount()
        # The first asked for what is done, too; the second takes nothing of that back.
        assert story.hold().key == key(1) + ":r2"


class TestGroups:
    def test_superseding_by_once_releases_the_next_of_another_order_group(self, story: Story) -> None:
        story.event(1, PlannedJob(action="a", order="g", once="k"))
        story.event(2, PlannedJob(action="a", order="h", once="k"), created=20)
        story.event(3, PlannedJob(action="a", order="h", once="k2"), created=30)
        held = {job.key: job for job in (story.hold(), story.hold())}
        story.event(4, PlannedJob(action="a", order="h", once="k3"), created=10)
        story.settle(held[key(3)], "dead")
        assert story.states(1, 2, 3, 4) == ["owed", "parked", "dead", "parked"]

        story.settle(held[key(1)], "done")
        assert story.states(2, 4) == ["superseded", "owed"]

    def test_one_that_may_have_paid_is_asked_again_before_another_of_its_once_group(self, story: Story) -> None:
        for number, created in ((1, 10), (2, 20)):
            story.event(number, PlannedJob(action="a", order="g", once="k"), created=created)
        story.settle(story.hold(), "dead", effect_possible=True)
        assert story.operate("retry", job=key(1))

        held = story.hold()
        assert (held.key, held.effect_possible) == (key(1), True)
        assert story.states(1, 2) == ["owed", "parked"]

    def test_one_that_may_have_paid_keeps_its_once_place_while_its_order_group_is_at_work(self, story: Story) -> None:
        story.event(1, PlannedJob(action="a", order="g", once="k"), created=10)
        story.event(2, PlannedJob(action="a", order="h", once="k"), created=10)
        story.settle(story.hold(), "dead", effect_possible=True)
        story.event(3, PlannedJob(action="a", order="g", once="other"), created=20)
        newer = story.hold()
        assert newer.key == key(3)

        assert not story.operate("retry", job=key(1))
        story.settle(newer, "done")
        assert not story.operate("retry", job=key(1))
        assert story.states(1, 2, 3) == ["dead", "parked", "done"]

        # What is left to the operator: to say that it has not happened.
        assert story.operate("drop", job=key(1))
        assert story.states(1, 2) == ["skipped", "owed"]

    def test_of_equal_times_the_one_that_arrived_earlier_does_not_overwrite_the_other(self, story: Story) -> None:
        story.event(2, PlannedJob(action="a", order="g"))
        held = story.hold()
        story.event(1, PlannedJob(action="a", order="g"))
        story.settle(held, "done")
        assert story.states(1, 2) == ["superseded", "done"]

    def test_one_that_may_have_happened_bars_what_is_older_by_arrival_alone(self, story: Story) -> None:
        story.event(2, PlannedJob(action="a", order="g"))
        held = story.hold()
        story.event(1, PlannedJob(action="a", order="g"))
        story.event(3, PlannedJob(action="a", order="g"))
        story.settle(held, "uncertain")
        assert story.states(1, 2, 3) == ["parked", "uncertain", "owed"]

        story.operate("resolve", job=key(2), **{"as": "done"})
        assert story.states(1, 2, 3) == ["superseded", "done", "owed"]

    def test_one_that_may_have_paid_is_not_asked_again_over_a_newer_one_that_may_have_happened(
        self, story: Story
    ) -> None:
        for number, created, once in ((1, 10, "k"), (2, 20, "other")):
            story.event(number, PlannedJob(action="a", order="g", once=once), created=created)
            story.settle(story.hold(), "dead", effect_possible=True)
        assert not story.operate("retry", job=key(1))
        assert story.operate("retry", job=key(2))


class TestSkipped:
    def test_what_its_plan_skipped_is_not_performed_without_its_groups(self, story: Story) -> None:
        story.event(1, PlannedJob(action="a", skipped="once: this event names no tier"))
        done, why, _ = story.ledger.operate("retry", job=key(1))
        assert not done
        assert "once: this event names no tier" in why
        assert story.states(1) == ["skipped"]

    def test_what_an_operator_dropped_can_be_tried_again(self, story: Story) -> None:
        story.event(1, PlannedJob(action="a", once="k"))
        assert story.operate("drop", job=key(1))
        assert story.operate("retry", job=key(1))
        assert story.states(1) == ["owed"]


class TestContent:
    def test_a_job_whose_event_has_no_time_is_lent(self, story: Story) -> None:
        story.ledger.record([(SOURCE, delivery_id(1), b"{}")])
        (held,) = story.ledger.exchange_deliveries(SOURCE, claim=Claim(token="t", n=1)).claimed
        plan = Plan(delivery=held.id, token="t", state=DeliveryState.PROCESSED, event_id="e1", type="x",
                    jobs=(PlannedJob(action="a"),))  # fmt: skip
        story.ledger.exchange_deliveries(SOURCE, [plan])
        assert story.hold().at == ""


def test_a_repeated_claim_keeps_the_starts_that_it_reserved(timed: Ledger, clock: Clock) -> None:
    story = Story(timed, clock)
    for number in range(3):
        story.event(number, PlannedJob(action="a"))
    request = Claim(token="t", n=3, limits=(("vendor", 400_000),))
    assert [job.delay for job in timed.exchange_jobs("jobs/a", claim=request).claimed] == [0, 0.4, 0.8]

    clock.pass_(0.5)
    assert [job.delay for job in timed.exchange_jobs("jobs/a", claim=request).claimed] == [0, 0, 0.3]


def test_the_snapshot_reads_every_kind_of_key(client: redis.Redis) -> None:
    client.hset("x:d:1", "a", "b")
    client.zadd("x:trim", {"m": 5})
    client.set("x:b:1", "body")
    client.sadd("x:lanes", "l")
    found = take_snapshot(client, "x")
    assert (found.hash("d", "1"), found.zset("trim"), found.names("b")) == ({"a": "b"}, {"m": 5}, {"1"})
    assert found.sets == {"lanes": {"": {"l"}}}


class TestLargeGroups:
    """One script visits at most some hundred members of a group; what it leaves stays exact."""

    MANY = 1000

    def grow(self, story: Story, count: int, *, order: str | None = None, once: str | None = None) -> None:
        """Make `count` parked jobs of action a, without a recount after each."""
        for start in range(1, count + 1, 100):
            numbers = range(start, min(start + 100, count + 1))
            story.ledger.record([(SOURCE, delivery_id(n), b"{}") for n in numbers])
            claimed = story.ledger.exchange_deliveries(SOURCE, claim=Claim(token=new_token(), n=100)).claimed
            story.ledger.exchange_deliveries(
                SOURCE,
                [
                    Plan(delivery=held.id, token=held.token, state=DeliveryState.PROCESSED,
                         event_id=f"e{int(held.id[-12:], 16)}", type="x", created_us=10 + int(held.id[-12:], 16),
                         jobs=(PlannedJob(action="a", order=order, once=once),))
                    for held in claimed
                ],
            )  # fmt: skip

    def counts(self, story: Story) -> tuple[int, int]:
        client: Any = story.ledger.client
        return client.zcard("t:ix:j:parked"), client.zcard("t:ix:j:superseded")

    @pytest.mark.parametrize("groups", [{"once": "k"}, {"order": "g"}, {"order": "g", "once": "k"}])
    def test_a_settle_visits_a_bounded_number_and_nothing_older_is_performed_meanwhile(
        self, story: Story, groups: dict[str, str]
    ) -> None:
        self.grow(story, self.MANY, **groups)
        first = story.hold()
        if "once" not in groups:
            # The first that came stood at once; all others wait, and the newest of them is next.
            story.settle(first, "dead")
            first = story.hold()
            assert first.key == key(self.MANY)
        parked, superseded = self.counts(story)

        story.settle(first, "done")

        assert 0 < self.counts(story)[1] - superseded <= 300
        assert self.counts(story)[0] >= parked - 300
        rounds = 0
        while self.counts(story)[0]:
            # Whoever claims is claimed none of them: they lost their purpose when the other was done.
            assert not story.ledger.exchange_jobs("jobs/a", claim=Claim(token=new_token(), n=10)).claimed
            rounds += 1
            assert rounds <= self.MANY / 300 + 1
        story.recount()
        assert self.counts(story)[1] - superseded == parked

    def test_the_trimmer_goes_on_and_says_when_it_is_through(self, story: Story) -> None:
        self.grow(story, self.MANY, once="k")
        story.settle(story.hold(), "done")
        assert story.ledger.trim()[0] == 200
        assert story.ledger.trim()[0] == 200
        while story.ledger.trim()[0] >= 200:
            pass
        story.recount()
        assert self.counts(story) == (0, self.MANY - 1)

    def test_what_is_older_is_not_revived_while_its_group_is_unfinished(self, story: Story) -> None:
        self.grow(story, self.MANY, order="g")
        story.settle(story.hold(), "dead")
        story.settle(story.hold(), "done")
        client: Any = story.ledger.client
        # What says that a newer one was done does not expire before all older ones are superseded.
        assert client.ttl("t:n:o:a:g") == -1
        assert story.operate("drop", job=key(900))
        assert story.operate("retry", job=key(900))
        assert story.states(900) == ["superseded"]
        while story.ledger.trim()[0] >= 200:
            pass
        assert 0 < client.ttl("t:n:o:a:g") <= 90 * DAY

    def test_a_release_looks_for_the_next_in_bounded_steps(self, story: Story) -> None:
        """All but the last wait for another job of their order group."""
        self.grow(story, 700, order="g", once="k")
        story.event(701, PlannedJob(action="a", order="h", once="k"))
        story.event(702, PlannedJob(action="a", order="g", once="other"), created=9999)
        held = story.hold()
        assert held.key == key(1)
        story.settle(held, "skipped")
        # 702 is the newest of g and stands; of the once group k, 701 is the only one that may stand beside it.
        rounds = 0
        while story.states(701) != ["owed"]:
            story.ledger.trim()
            rounds += 1
            assert rounds < 4
        story.recount()
        assert rounds >= 1
