"""What holds for everyone holds the lane or the limit, costs no job an attempt, and does not count as its failing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Clock
from tests.integration.test_ledger import claim, delivery_id, process, settle, state_of
from tests.operators import ANN
from tiercast.control import Control
from tiercast.ledger import Digests, Ledger, new_token
from tiercast.ledger.model import Claim, HeldJob, Hold, LaneInfo, Outcome, PlannedJob
from tiercast.ledger.reading import Reader

MAIL, CRM = "jobs/mail", "jobs/crm"
HUBSPOT = (("hubspot", 10_000),)

#: The number of an action's first delivery.
_FIRST = {"mail": 1000, "crm": 2000, "log": 3000}


def jobs(ledger: Ledger, *numbers: int, action: str = "mail") -> None:
    for number in numbers:
        process(ledger, f"{action}{number}", PlannedJob(action=action), number=number + _FIRST[action])


def release(ledger: Ledger, held: HeldJob, *, hold: Hold | None = None, lane: str = MAIL, **more: Any) -> None:
    outcome = Outcome(job=held.key, token=held.token, verdict="released", hold=hold, duration=0.01, **more)
    assert ledger.exchange_jobs(lane, [outcome]).settled


def unreachable(ledger: Ledger, held: HeldJob, verdict: str = "later") -> list[str]:
    """The vendor could not be reached for a job; returns the bells."""
    wait = 5.0 if verdict == "later" else None
    outcome = Outcome(
        job=held.key,
        token=held.token,
        verdict=verdict,
        wait=wait,
        text="connection refused",
        duration=0.01,
        signal="outage",
    )
    exchange = ledger.exchange_jobs(MAIL, [outcome])
    assert exchange.settled == [(held.key, "", "")]
    return exchange.bells


def lane(ledger: Ledger, name: str = MAIL) -> LaneInfo:
    """The lane as an operator sees it, at the time of the set clock."""

    class Timed(Reader):
        def now_ms(self) -> int:
            return ledger.now_ms()

    return {found.name: found for found in Timed(ledger, Digests("test")).lanes()}[name]


def on_hold(ledger: Ledger, name: str = MAIL) -> float:
    """Seconds that a lane is still on hold, as a drain learns it."""
    return ledger.exchange_jobs(name, claim=Claim(token=new_token(), n=0)).on_hold


class TestAsked:
    @pytest.mark.parametrize("cause", ["credential", "setting", "vendor"])
    def test_a_hold_releases_its_job_and_counts_no_attempt(self, timed: Ledger, clock: Clock, cause: Any) -> None:
        jobs(timed, 1, 2)
        (first,) = claim(timed, n=1)
        release(timed, first, hold=Hold(seconds=60, cause=cause, reason="no"), text="no")

        assert claim(timed) == []
        found = lane(timed)
        assert (found.owed, found.held, found.cause, found.reason) == (2, 0, cause, "no")
        assert found.hold_until_ms == clock.now + 60_000
        clock.pass_(60)
        again = claim(timed)
        # The first is the first still, and nothing has happened to it. Where it may be refused again, it goes alone.
        assert len(again) == (2 if cause == "vendor" else 1)
        assert again[0].key == first.key
        assert {(job.attempts, job.tries, job.expiries, job.failing) for job in again} == {(0, 0, 0, None)}
        assert lane(timed).cause == (None if cause == "vendor" else cause)

    @pytest.mark.parametrize(("seconds", "reasons"), [((60, 20), "first"), ((20, 60), "second")])
    def test_of_two_holds_the_later_one_stays(
        self, timed: Ledger, clock: Clock, seconds: tuple[int, int], reasons: str
    ) -> None:
        jobs(timed, 1, 2)
        for held, length, reason in zip(claim(timed), seconds, ("first", "second"), strict=True):
            release(timed, held, hold=Hold(seconds=length, cause="vendor", reason=reason))
        assert (lane(timed).reason, on_hold(timed)) == (reasons, 60.0)
        clock.pass_(59)
        assert claim(timed) == []
        clock.pass_(1)
        assert len(claim(timed)) == 2

    def test_a_hold_rings_no_bell_until_it_is_over(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 1)
        release(timed, claim(timed, heard=True)[0], hold=Hold(seconds=60, cause="vendor", reason="429"))
        assert timed.due([MAIL]).bells == []
        clock.pass_(59.5)
        due = timed.due([MAIL])
        assert (due.bells, due.next_in) == ([], 0.5)
        clock.pass_(0.5)
        assert timed.due([MAIL]).bells == [MAIL]

    def test_a_hold_of_a_limit_holds_all_lanes_that_share_it_and_no_other(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 1, 2)
        jobs(timed, 1, 2, action="crm")
        jobs(timed, 1, action="log")
        (first,) = claim(timed, n=1, limits=HUBSPOT)
        release(timed, first, hold=Hold(seconds=60, cause="vendor", reason="429", limit="hubspot"))

        assert claim(timed, limits=HUBSPOT) == claim(timed, lane=CRM, limits=HUBSPOT) == []
        assert len(claim(timed, lane="jobs/log")) == 1
        assert on_hold(timed) > 50
        assert on_hold(timed, CRM) > 50
        assert (lane(timed, CRM).cause, lane(timed, CRM).reason) == ("vendor", "429")
        clock.pass_(60)
        assert len(claim(timed, limits=HUBSPOT)) == len(claim(timed, lane=CRM, limits=HUBSPOT)) == 2

    def test_jobs_that_wait_for_their_start_within_a_rate_are_not_told_of_a_hold(self, timed: Ledger) -> None:
        # Given a rate of four calls a second, and five claimed jobs with a start each
        jobs(timed, *range(20))
        limits = (("slow", 250_000),)
        assert [held.delay for held in claim(timed, limits=limits)] == [0.0, 0.25, 0.5, 0.75, 1.0]

        # When a further claim finds no start, and holds the lane
        assert claim(timed, limits=limits) == []
        assert lane(timed).cause == "rate"

        # Then the drain keeps what it has claimed: a start that is given up is lost to everyone
        assert on_hold(timed) == 0

    def test_a_shorter_hold_of_a_limit_ends_no_longer_one(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 1, 2)
        for held, seconds in zip(claim(timed, limits=HUBSPOT), (60, 5), strict=True):
            release(timed, held, hold=Hold(seconds=seconds, cause="vendor", reason="429", limit="hubspot"))
        clock.pass_(58)
        assert claim(timed, limits=HUBSPOT) == []

    def test_a_hold_for_a_job_that_is_not_ours_any_more_does_nothing(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 1)
        (held,) = claim(timed)
        clock.pass_(31)
        (again,) = claim(timed)
        hold = Hold(seconds=60, cause="credential", reason="401")
        outcome = Outcome(job=held.key, token=held.token, verdict="released", hold=hold)
        assert timed.exchange_jobs(MAIL, [outcome]).settled == []
        settle(timed, again, "released")
        assert len(claim(timed)) == 1


class TestFailing:
    """`failing` is what the time to give up is counted by: holds and pauses do not count."""

    def fail(self, ledger: Ledger) -> None:
        (held,) = claim(ledger)
        settle(ledger, held, "later", wait=0, text="no luck")

    def failing(self, ledger: Ledger) -> float | None:
        (held,) = claim(ledger)
        settle(ledger, held, "released")
        return held.failing

    def hold(self, ledger: Ledger, seconds: float) -> None:
        """A hold that a job of its own brings."""
        process(ledger, "other", PlannedJob(action="mail"), number=77)
        other = next(job for job in claim(ledger) if job.event_id == "other")
        release(ledger, other, hold=Hold(seconds=seconds, cause="vendor", reason="429"))

    def test_it_begins_with_the_first_failure(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 1)
        clock.pass_(500)
        assert self.failing(timed) is None
        self.fail(timed)
        clock.pass_(10)
        self.fail(timed)
        clock.pass_(5)
        assert self.failing(timed) == 15

    def test_time_on_hold_does_not_count(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 1)
        self.fail(timed)
        clock.pass_(10)
        (held,) = claim(timed)
        release(timed, held, hold=Hold(seconds=3600, cause="vendor", reason="429"))
        clock.pass_(3600)
        clock.pass_(5)
        assert self.failing(timed) == 15

    def test_of_a_hold_that_goes_on_only_the_rest_is_left_out(self, timed: Ledger, clock: Clock) -> None:
        # Given two jobs under way when the first one's answer holds the lane for an hour
        jobs(timed, 1, 2)
        first, second = claim(timed)
        release(timed, first, hold=Hold(seconds=3600, cause="vendor", reason="429"))
        # When the second fails by itself within that hour, and fails again a minute after it
        clock.pass_(20)
        settle(timed, second, "later", wait=0)
        clock.pass_(3580 + 60)
        # Then it has been failing for that minute
        assert {job.event_id: job.failing for job in claim(timed)} == {"mail1": None, "mail2": 60}

    def test_a_hold_that_ends_with_the_claim_is_left_out_at_once(self, timed: Ledger, clock: Clock) -> None:
        """Where an exchange settles a failure and claims, the hold ends between the two."""
        jobs(timed, 1, 2)
        first, other = claim(timed)
        settle(timed, first, "later", wait=0)
        clock.pass_(5)
        (first,) = claim(timed)
        release(timed, first, hold=Hold(seconds=20, cause="vendor", reason="429"))
        clock.pass_(20)
        outcome = Outcome(job=other.key, token=other.token, verdict="later", wait=100, duration=0.0)
        (again,) = timed.exchange_jobs(MAIL, [outcome], Claim(token="t", n=9)).claimed
        assert (again.key, again.failing) == (first.key, 5)

    def test_time_in_which_an_operator_paused_the_lane_does_not_count(self, timed: Ledger, clock: Clock) -> None:
        operator = Control(timed, ANN, lambda _: None)
        jobs(timed, 1)
        self.fail(timed)
        clock.pass_(10)
        operator.pause(MAIL)
        clock.pass_(86400)
        operator.resume(MAIL)
        clock.pass_(5)
        assert self.failing(timed) == 15

    @pytest.mark.parametrize("first", ["pause", "hold"])
    def test_a_pause_and_a_hold_at_once_count_once(self, timed: Ledger, clock: Clock, first: str) -> None:
        # Given a job that has been failing for 10 s, of a lane with another one under way
        operator = Control(timed, ANN, lambda _: None)
        jobs(timed, 1)
        self.fail(timed)
        clock.pass_(10)
        process(timed, "other", PlannedJob(action="mail"), number=77)
        other = next(job for job in claim(timed) if job.event_id == "other")
        # When the lane is on hold and paused for 100 s in all
        if first == "pause":
            operator.pause(MAIL)
            clock.pass_(20)
            release(timed, other, hold=Hold(seconds=40, cause="vendor", reason="429"))
            clock.pass_(80)
        else:
            release(timed, other, hold=Hold(seconds=40, cause="vendor", reason="429"))
            clock.pass_(20)
            operator.pause(MAIL)
            clock.pass_(80)
        operator.resume(MAIL)
        clock.pass_(5)
        # Then the rest has counted. The other's lease held up the first one meanwhile.
        assert {job.event_id: job.failing for job in claim(timed)}["mail1"] == 15

    def test_a_hold_that_was_over_before_a_pause_does_not_join_it(self, timed: Ledger, clock: Clock) -> None:
        operator = Control(timed, ANN, lambda _: None)
        jobs(timed, 1)
        self.fail(timed)
        release(timed, claim(timed)[0], hold=Hold(seconds=40, cause="vendor", reason="429"))
        clock.pass_(40 + 7)
        operator.pause(MAIL)
        clock.pass_(100)
        operator.resume(MAIL)
        assert self.failing(timed) == 7

    @pytest.mark.parametrize("groups", [{}, {"order": "g", "once": "k"}])
    def test_a_retry_by_an_operator_begins_anew(self, timed: Ledger, clock: Clock, groups: dict[str, str]) -> None:
        process(timed, "mail1", PlannedJob(action="mail", **groups), number=1)  # type: ignore[arg-type]
        self.fail(timed)
        clock.pass_(86400)
        (held,) = claim(timed)
        settle(timed, held, "dead", effect_possible=True)
        assert Control(timed, ANN, lambda _: None).retry(held.key).done
        clock.pass_(60)
        assert self.failing(timed) is None
        self.fail(timed)
        clock.pass_(5)
        assert self.failing(timed) == 5


class TestOutage:
    def test_three_different_jobs_with_no_success_between_hold_the_lane(self, timed: Ledger) -> None:
        jobs(timed, *range(5))
        held = claim(timed, n=3)
        for job in held[:2]:
            unreachable(timed, job)
            assert on_hold(timed) == 0
        unreachable(timed, held[2])
        found = lane(timed)
        assert (on_hold(timed), found.cause, found.reason) == (1.0, "outage", "connection refused")

    def test_one_job_alone_never_does(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, 1)
        for attempt in range(20):
            (held,) = claim(timed)
            assert held.attempts == attempt
            unreachable(timed, held)
            clock.pass_(5)
        assert on_hold(timed) == 0

    @pytest.mark.parametrize("how", ["done", "answered"])
    def test_nor_do_any_number_with_an_answer_between(self, timed: Ledger, how: str) -> None:
        jobs(timed, *range(30))
        for round_ in range(10):
            first, second, third = claim(timed, n=3)
            unreachable(timed, first)
            unreachable(timed, second)
            if how == "done":
                settle(timed, third, "done")
            else:
                settle(timed, third, "dead", answered=True)
            assert on_hold(timed) == 0, round_

    def test_a_failure_that_is_a_jobs_own_says_nothing_of_the_vendor(self, timed: Ledger) -> None:
        jobs(timed, *range(4))
        first, second, own, third = claim(timed)
        unreachable(timed, first)
        unreachable(timed, second)
        settle(timed, own, "later", wait=5)
        unreachable(timed, third)
        assert on_hold(timed) == 1.0

    def test_the_first_two_failures_are_their_jobs_own_and_further_ones_cost_nothing(
        self, timed: Ledger, clock: Clock
    ) -> None:
        jobs(timed, *range(6))
        held = claim(timed)
        # The last attempt of one may be among them: its job lives.
        for job, verdict in zip(held, ("later", "later", "later", "dead", "dead", "later"), strict=True):
            unreachable(timed, job, verdict)

        assert [state_of(timed, f"mail{number}") for number in range(6)] == ["owed"] * 6
        clock.pass_(10)
        found: dict[str, HeldJob] = {}
        while len(found) < 6:
            for job in claim(timed):
                found[job.event_id] = job
                settle(timed, job, "done")
        assert {event: (job.attempts, job.failing is not None) for event, job in found.items()} == {
            "mail0": (1, True),
            "mail1": (1, True),
            **{f"mail{number}": (0, False) for number in range(2, 6)},
        }

    def test_a_job_that_may_have_had_its_effect_is_judged_all_the_same(self, timed: Ledger) -> None:
        jobs(timed, *range(4))
        held = claim(timed)
        for job in held[:3]:
            unreachable(timed, job)
        unreachable(timed, held[3], "uncertain")
        assert state_of(timed, held[3].event_id) == "uncertain"

    def begin(self, ledger: Ledger, count: int = 40) -> None:
        jobs(ledger, *range(count))
        for job in claim(ledger, n=3, heard=True):
            unreachable(ledger, job)

    def test_single_jobs_probe_after_1_2_4_and_at_last_60_seconds(self, timed: Ledger, clock: Clock) -> None:
        self.begin(timed)
        began, probes = clock.now, []
        for _ in range(300 * 10):
            clock.pass_(0.1)
            if found := claim(timed, n=20):
                assert len(found) == 1
                probes.append((clock.now - began) / 1000)
                unreachable(timed, found[0])
        pauses = [after - before for before, after in zip([0, *probes], probes, strict=False)]
        assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])

    def test_the_success_of_a_probe_opens_the_lane_and_rings(self, timed: Ledger, clock: Clock) -> None:
        self.begin(timed)
        clock.pass_(1)
        (probe,) = claim(timed, n=20, heard=True)
        assert claim(timed, n=20) == []
        outcome = Outcome(job=probe.key, token=probe.token, verdict="done", duration=0.01)
        exchange = timed.exchange_jobs(MAIL, [outcome])
        assert (exchange.bells, exchange.on_hold) == ([MAIL], 0)
        assert (lane(timed).cause, lane(timed).reason) == (None, None)
        assert len(claim(timed, n=20)) == 20
        # It takes three different jobs again.
        jobs(timed, 100, 101)
        for job in claim(timed, n=2):
            unreachable(timed, job)
        assert on_hold(timed) == 0

    def test_the_exchange_that_settles_the_probe_claims_at_once(self, timed: Ledger, clock: Clock) -> None:
        self.begin(timed)
        clock.pass_(1)
        (probe,) = claim(timed, n=20)
        outcome = Outcome(job=probe.key, token=probe.token, verdict="dead", answered=True, duration=0.01)
        assert len(timed.exchange_jobs(MAIL, [outcome], Claim(token="t", n=20)).claimed) == 20

    def test_the_answer_to_a_job_that_was_under_way_opens_it_too(self, timed: Ledger) -> None:
        jobs(timed, *range(9))
        held = claim(timed, n=4)
        for job in held[:3]:
            unreachable(timed, job)
        settle(timed, held[3], "done")
        assert on_hold(timed) == 0

    def test_an_operator_opens_it(self, timed: Ledger) -> None:
        self.begin(timed)
        rung: list[str] = []
        assert Control(timed, ANN, rung.extend).resume(MAIL).done
        assert rung == [MAIL]
        assert len(claim(timed, n=20)) == 20

    def test_the_end_of_an_outage_ends_no_hold_of_another_cause(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, *range(9))
        held = claim(timed, n=5)
        for job in held[:3]:
            unreachable(timed, job)
        release(timed, held[3], hold=Hold(seconds=60, cause="credential", reason="401"))
        settle(timed, held[4], "done")
        assert (on_hold(timed), lane(timed).cause) == (60.0, "credential")

    def test_a_job_of_an_hours_outage_has_not_been_failing_for_an_hour(self, timed: Ledger, clock: Clock) -> None:
        jobs(timed, *range(3))
        first, second, third = claim(timed)
        for job in (first, second, third):
            unreachable(timed, job)
        for _ in range(3600):
            clock.pass_(1)
            for probe in claim(timed):
                unreachable(timed, probe)
        failing: list[float] = []
        while len(failing) < 3:
            clock.pass_(1)
            for job in claim(timed):
                failing.append(job.failing or 0)
                settle(timed, job, "done")
        assert max(failing) < 10


def test_a_paused_lane_shows_its_pause_and_not_its_hold(timed: Ledger) -> None:
    jobs(timed, 1)
    release(timed, claim(timed)[0], hold=Hold(seconds=60, cause="vendor", reason="429"))
    ends = lane(timed).hold_until_ms
    Control(timed, ANN, lambda _: None).pause(MAIL, "tea")
    found = lane(timed)
    assert (found.paused, found.cause, found.reason, found.hold_until_ms) == (True, "paused", "tea", ends)


def test_a_lane_counts_what_was_redelivered_and_what_needs_isolation(timed: Ledger, clock: Clock) -> None:
    for losses in (3, 2, 1, 0):
        timed.record([("voucherify", delivery_id(losses), b"{}")])
    name = "deliveries/voucherify"
    for number in range(3):
        for losses in range(number + 1):
            timed.client.hset(f"t:expiries:{name}", delivery_id(number + 1), losses + 1)
    found = lane(timed, name)
    assert (found.owed, found.redelivered, found.isolated) == (4, 1, 2)
