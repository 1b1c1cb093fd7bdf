"""The ledger's scripts on a real server: record, claim, plan, settle."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.conftest import Clock
from tests.operators import ANN
from tiercast.control import Control
from tiercast.errors import LedgerFull, LedgerUnavailable
from tiercast.ledger import Digests, Ledger, new_token
from tiercast.ledger.client import LedgerClient
from tiercast.ledger.model import Claim, DeliveryState, HeldJob, Hold, Outcome, Plan, PlannedJob
from tiercast.ledger.reading import Filter, Reader

SOURCE = "voucherify"
_DIGESTS = Digests("test")


def delivery_id(number: int) -> str:
    return f"01900000-0000-7000-8000-{number:012x}"


def record(ledger: Ledger, *numbers: int) -> list[str]:
    return ledger.record([(SOURCE, delivery_id(n), b"body %d" % n) for n in numbers]).bells


def process(ledger: Ledger, event: str, *jobs: PlannedJob, number: int, created: int = 0) -> str:
    """Record, claim and plan one delivery; returns its state."""
    record(ledger, number)
    token = new_token()
    (held,) = ledger.exchange_deliveries(SOURCE, claim=Claim(token=token, n=1)).claimed
    plan = Plan(
        delivery=held.id,
        token=token,
        state=DeliveryState.PROCESSED,
        event_id=event,
        type="customer.loyalty.tier.joined",
        at="2026-01-01T00:00:00.000Z",
        created_us=created or number,
        form="envelope",
        jobs=jobs,
    )
    ((_, state, _),) = ledger.exchange_deliveries(SOURCE, [plan]).settled
    return state


def claim(ledger: Ledger, n: int = 10, lane: str = "jobs/mail", **more: object) -> list[HeldJob]:
    return ledger.exchange_jobs(lane, claim=Claim(token=new_token(), n=n, **more)).claimed  # type: ignore[arg-type]


def settle(ledger: Ledger, held: HeldJob, verdict: str, **more: object) -> list[tuple[str, str, str]]:
    lane = "jobs/" + held.key.rsplit(":", 1)[1]
    outcome = Outcome(job=held.key, token=held.token, verdict=verdict, duration=0.01, **more)  # type: ignore[arg-type]
    return ledger.exchange_jobs(lane, [outcome]).settled


def state_of(ledger: Ledger, event: str, action: str = "mail") -> str:
    job = Reader(ledger, _DIGESTS).job(f"{SOURCE}:{event}:{action}")
    assert job is not None
    return job.state


class TestRecording:
    def test_a_delivery_is_lent_with_its_very_bytes(self, ledger: Ledger) -> None:
        body = bytes(range(256)) * 3
        ledger.record([(SOURCE, delivery_id(1), body)])

        exchange = ledger.exchange_deliveries(SOURCE, claim=Claim(token="a", n=5))

        assert [(held.id, held.body) for held in exchange.claimed] == [(delivery_id(1), body)]

    def test_the_first_one_rings_and_the_next_does_not(self, ledger: Ledger) -> None:
        assert record(ledger, 1) == ["deliveries/voucherify"]
        assert record(ledger, 2) == []

    def test_recording_again_stores_nothing_twice(self, ledger: Ledger, client: LedgerClient) -> None:
        record(ledger, 1)
        record(ledger, 1)
        assert client.zcard("t:due:deliveries/voucherify") == 1

        process(ledger, "e1", number=1)
        record(ledger, 1)
        assert client.zcard("t:due:deliveries/voucherify") == 0

    def test_the_limit_of_owed_deliveries_refuses_the_whole_batch(self, client: LedgerClient) -> None:
        ledger = Ledger(client, prefix="t", max_owed=2)
        with pytest.raises(LedgerFull, match="TIERCAST_MAX_OWED"):
            record(ledger, 1, 2, 3)
        assert client.zcard("t:due:deliveries/voucherify") == 0

    def test_a_full_server_refuses_to_record_and_still_drains(self, ledger: Ledger, client: LedgerClient) -> None:
        record(ledger, 1)
        client.config_set("maxmemory", "1mb")
        try:
            client.hdel("t:meta", "room")
            with pytest.raises(LedgerFull):
                record(ledger, 2)
            exchange = ledger.exchange_deliveries(SOURCE, claim=Claim(token="a", n=5))
            ledger.exchange_deliveries(
                SOURCE,
                [Plan(delivery=exchange.claimed[0].id, token="a", state=DeliveryState.IGNORED, reason="no rule")],
            )
            assert client.hget(f"t:d:{delivery_id(1)}", "s") == b"ignored"
        finally:
            client.config_set("maxmemory", "0")


def fill(client: LedgerClient) -> None:
    """Use 30 MB of the server's memory. A value of that size, sent, would be in its buffers as well for a while."""
    client.setrange("filler", 30_000_000 - 1, "x")


class TestRoom:
    """One source that fills the memory does not shut out the others."""

    BODY = b"x" * 100_000

    def store(self, ledger: Ledger, source: str, number: int) -> bool:
        try:
            ledger.record([(source, delivery_id(number), self.BODY)])
        except LedgerFull:
            return False
        return True

    def test_beyond_the_share_each_source_has_a_part_of_its_own(
        self, timed: Ledger, client: LedgerClient, clock: Clock
    ) -> None:
        for number, source in enumerate(("flood", "quiet")):
            assert self.store(timed, source, number)
        fill(client)
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", round(used / 0.81))
        try:
            clock.pass_(1)
            taken = 0
            while self.store(timed, "flood", 100 + taken):
                taken += 1
                clock.pass_(1)
                assert taken < 50
            # Half of what is beyond the share of 0.8, in three parts: one is for a source that may come.
            assert taken == int(used / 0.81 * 0.1 / 3 // (100_000 + 4096))

            assert all(self.store(timed, "quiet", 200 + number) for number in range(taken))
            assert not self.store(timed, "quiet", 300)
            timed.ping()
        finally:
            client.config_set("maxmemory", "0")
        # Within the share again, nobody owes anything for the time before.
        clock.pass_(1)
        assert self.store(timed, "flood", 400)
        assert not client.exists("t:room")

    def test_near_the_limit_nobody_stores(self, timed: Ledger, client: LedgerClient) -> None:
        fill(client)
        client.config_set("maxmemory", round(int(client.info("memory")["used_memory"]) / 0.91))
        try:
            assert not self.store(timed, "quiet", 1)
            with pytest.raises(LedgerFull, match="TIERCAST_MEMORY_SHARE"):
                timed.ping()
        finally:
            client.config_set("maxmemory", "0")


class TestClaiming:
    def test_repeating_a_claim_returns_the_same_members(self, ledger: Ledger) -> None:
        record(ledger, 1, 2, 3)
        first = ledger.exchange_deliveries(SOURCE, claim=Claim(token="a", n=2)).claimed
        again = ledger.exchange_deliveries(SOURCE, claim=Claim(token="a", n=2)).claimed
        other = ledger.exchange_deliveries(SOURCE, claim=Claim(token="b", n=2)).claimed

        assert [held.id for held in first] == [held.id for held in again] == [delivery_id(1), delivery_id(2)]
        assert [held.id for held in other] == [delivery_id(3)]

    def test_an_expired_lease_returns_the_member_at_its_place(self, timed: Ledger, clock: Clock) -> None:
        record(timed, 1)
        timed.exchange_deliveries(SOURCE, claim=Claim(token="a", n=1))
        clock.pass_(31)
        record(timed, 2)

        exchange = timed.exchange_deliveries(SOURCE, claim=Claim(token="b", n=5))

        assert [(held.id, held.expiries) for held in exchange.claimed] == [(delivery_id(1), 1), (delivery_id(2), 0)]
        assert not exchange.isolated

    def test_settling_under_an_old_token_changes_nothing(self, timed: Ledger, clock: Clock) -> None:
        record(timed, 1)
        timed.exchange_deliveries(SOURCE, claim=Claim(token="a", n=1))
        clock.pass_(31)
        timed.exchange_deliveries(SOURCE, claim=Claim(token="b", n=1))

        late = Plan(delivery=delivery_id(1), token="a", state=DeliveryState.IGNORED)
        assert timed.exchange_deliveries(SOURCE, [late]).settled == []
        now = Plan(delivery=delivery_id(1), token="b", state=DeliveryState.IGNORED)
        assert timed.exchange_deliveries(SOURCE, [now]).settled == [(delivery_id(1), "ignored", "")]
        assert timed.exchange_deliveries(SOURCE, [now]).settled == []

    def test_five_expired_leases_quarantine_a_delivery(self, timed: Ledger, clock: Clock, client: LedgerClient) -> None:
        record(timed, 1)
        for round_ in range(5):
            assert timed.exchange_deliveries(SOURCE, claim=Claim(token=f"{round_}", n=1, isolated=round_ > 1)).claimed
            clock.pass_(31)
        assert timed.exchange_deliveries(SOURCE, claim=Claim(token="last", n=1, isolated=True)).claimed == []
        assert client.hget(f"t:d:{delivery_id(1)}", "s") == b"quarantined"
        assert client.hlen("t:expiries:deliveries/voucherify") == 0

    def test_handing_back_is_free(self, timed: Ledger, clock: Clock) -> None:
        process(timed, "e1", PlannedJob(action="mail"), number=1)
        for _ in range(9):
            (held,) = claim(timed)
            assert (held.expiries, held.attempts) == (0, 0)
            timed.exchange_jobs("jobs/mail", [Outcome(job=held.key, token=held.token, verdict="released")])
            clock.pass_(1)

    def test_a_renewed_lease_does_not_end(self, timed: Ledger, clock: Clock) -> None:
        record(timed, 1)
        timed.exchange_deliveries(SOURCE, claim=Claim(token="a", n=1))
        clock.pass_(20)
        assert timed.renew("deliveries/voucherify", [(delivery_id(1), "a")]) == [True]
        clock.pass_(20)
        assert timed.exchange_deliveries(SOURCE, claim=Claim(token="b", n=1)).claimed == []
        clock.pass_(20)
        assert timed.renew("deliveries/voucherify", [(delivery_id(1), "a")]) == [False]

    def test_a_backlog_leaves_places_of_a_full_lane_to_what_needs_isolation(self, timed: Ledger, clock: Clock) -> None:
        # Given a lane of four places, whose four members lost their leases twice, and a backlog behind them
        record(timed, 1, 2, 3, 4)
        for round_ in range(2):
            assert len(timed.exchange_deliveries(SOURCE, claim=Claim(token=f"a{round_}", n=9, cap=4)).claimed) == 4
            clock.pass_(31)
        record(timed, 5, 6, 7, 8)

        # When all that can be taken of the backlog is taken
        fresh = timed.exchange_deliveries(SOURCE, claim=Claim(token="b", n=9, cap=4))
        isolated = [
            timed.exchange_deliveries(SOURCE, claim=Claim(token=f"c{n}", n=1, cap=4, isolated=True)).claimed
            for n in range(4)
        ]

        # Then half of the places are left
        assert [held.id for held in fresh.claimed] == [delivery_id(5), delivery_id(6)]
        assert fresh.isolated
        assert [[held.id for held in claimed] for claimed in isolated] == [[delivery_id(1)], [delivery_id(2)], [], []]

        # And a lane of one place is left to the one that waits
        assert timed.exchange_deliveries(SOURCE, claim=Claim(token="d", n=9, cap=1)).claimed == []

    def test_no_more_than_the_cap_is_held_over_all_workers(self, ledger: Ledger) -> None:
        for number in range(5):
            process(ledger, f"e{number}", PlannedJob(action="mail"), number=number)
        assert len(claim(ledger, cap=3)) == 3
        assert claim(ledger, cap=3) == []

    def test_a_lane_at_its_cap_whose_leases_all_ended_is_rung_for(self, timed: Ledger, clock: Clock) -> None:
        process(timed, "e1", PlannedJob(action="mail"), number=1)
        assert len(claim(timed, cap=1)) == 1
        clock.pass_(5)
        assert timed.due(["jobs/mail"]).bells == []
        clock.pass_(31)
        assert timed.due(["jobs/mail"]).bells == ["jobs/mail"]

    def test_the_timer_learns_which_lanes_need_an_isolated_process(self, timed: Ledger, clock: Clock) -> None:
        process(timed, "e1", PlannedJob(action="mail"), number=1)
        for losses in range(2):
            assert timed.due(["jobs/mail"]).isolated == []
            assert [job.expiries for job in claim(timed)] == [losses]
            clock.pass_(31)
        assert claim(timed) == []
        due = timed.due(["deliveries/voucherify", "jobs/mail"])
        assert (due.isolated, due.now_ms) == (["jobs/mail"], clock.now)
        (held,) = claim(timed, isolated=True)
        assert timed.due(["jobs/mail"]).isolated == []
        settle(timed, held, "later", wait=10)
        assert timed.due(["jobs/mail"]).isolated == []
        clock.pass_(10)
        assert timed.due(["jobs/mail"]).isolated == ["jobs/mail"]

    def test_only_a_lane_that_was_rung_for_in_vain_counts_as_waiting(self, timed: Ledger, clock: Clock) -> None:
        # Given a lane that was at its cap for so long that what waits there has been due for a minute
        for number in (1, 2):
            process(timed, f"e{number}", PlannedJob(action="mail"), number=number)
        assert len(claim(timed, n=1, cap=1, heard=True)) == 1
        clock.pass_(31)

        # When its place is free, then the bell that is rung now may yet be heard
        first = timed.due(["jobs/mail"])
        assert (first.bells, first.waiting) == (["jobs/mail"], [])
        clock.pass_(1.5)
        assert timed.due(["jobs/mail"]).waiting == ["jobs/mail"]

    def test_bells_that_nobody_hears_are_rung_ever_more_rarely(self, timed: Ledger, clock: Clock) -> None:
        record(timed, 1)
        rung = []
        for second in range(200):
            clock.pass_(1)
            rung += [second for _ in timed.due(["deliveries/voucherify"]).bells]
        pauses = [after - before for before, after in pairwise(rung)]
        assert pauses[:4] == [2, 4, 8, 16]
        assert set(pauses[4:]) == {32}

        # and once somebody came, a lost bell is rung for within a second again
        record(timed, 2)
        timed.exchange_deliveries(SOURCE, claim=Claim(token="a", n=1, heard=True))
        clock.pass_(1)
        assert timed.due(["deliveries/voucherify"]).bells == ["deliveries/voucherify"]

    def test_starts_are_spaced_under_a_limit(self, timed: Ledger, clock: Clock) -> None:
        for number in range(9):
            process(timed, f"e{number}", PlannedJob(action="mail"), number=number)
        limits = (("hubspot", 250_000),)

        first = claim(timed, limits=limits)
        assert [job.delay for job in first] == [0, 0.25, 0.5, 0.75, 1.0]
        assert claim(timed, limits=limits) == []
        clock.pass_(2)
        assert [job.delay for job in claim(timed, limits=limits)] == [0, 0.25, 0.5, 0.75]


class TestPlanning:
    def test_a_tier_event_takes_little_memory_beside_its_body(self, ledger: Ledger, client: LedgerClient) -> None:
        # With one field of more than 64 bytes the server would spread it, at twice the memory.
        record(ledger, 1)
        ledger.exchange_deliveries(SOURCE, claim=Claim(token="a", n=1))
        plan = Plan(
            delivery=delivery_id(1),
            token="a",
            state=DeliveryState.PROCESSED,
            event_id="evcus_0EjGhnHU0v6UhCv1BAqDb39U",
            type="customer.loyalty.tier.prolonged",
            at="2026-01-01T00:00:00.000Z",
            created_us=1767225600000000,
            form="envelope",
            customer=tuple(_DIGESTS.customer(SOURCE, kind, "x") for kind in ("id", "source_id", "email")),
            jobs=(PlannedJob(action="email"), PlannedJob(action="crm"), PlannedJob(action="points")),
        )

        assert ledger.exchange_deliveries(SOURCE, [plan]).settled == [(delivery_id(1), "processed", "")]

        assert client.object("encoding", f"t:d:{delivery_id(1)}") == b"listpack"

    def test_an_event_is_recorded_with_its_jobs(self, ledger: Ledger) -> None:
        state = process(ledger, "e1", PlannedJob(action="mail"), PlannedJob(action="crm"), number=1)

        assert state == "processed"
        (mail,) = claim(ledger)
        assert (mail.key, mail.event_id, mail.body, mail.created_us) == (
            "voucherify:e1:mail",
            "e1",
            b"body 1",
            1,
        )
        assert len(claim(ledger, lane="jobs/crm")) == 1

    def test_a_copy_of_an_event_is_a_duplicate_that_points_at_the_first(self, ledger: Ledger) -> None:
        process(ledger, "e1", PlannedJob(action="mail"), number=1)
        assert process(ledger, "e1", PlannedJob(action="mail"), number=2) == "duplicate"

        info = Reader(ledger, _DIGESTS).delivery(delivery_id(2))
        assert info is not None
        assert (info.state, info.first) == ("duplicate", delivery_id(1))
        assert len(claim(ledger)) == 1

    def test_a_copy_is_recognised_for_30_days_whatever_the_retention(self, client: LedgerClient, clock: Clock) -> None:
        ledger = Ledger(client, prefix="t", test_clock=True, keep=60)
        process(ledger, "e1", PlannedJob(action="mail"), number=1)
        settle(ledger, claim(ledger)[0], "done")
        clock.pass_(61)
        assert ledger.trim()[0] == 1

        assert client.exists(f"t:b:{delivery_id(1)}") == 0
        assert process(ledger, "e1", PlannedJob(action="mail"), number=2) == "duplicate"
        clock.pass_(30 * 86400)
        assert process(ledger, "e1", PlannedJob(action="mail"), number=3) == "duplicate"


class TestSettling:
    def test_a_retry_is_due_later(self, timed: Ledger, clock: Clock) -> None:
        process(timed, "e1", PlannedJob(action="mail"), number=1)
        settle(timed, claim(timed)[0], "later", wait=10, text="no luck")

        assert claim(timed) == []
        clock.pass_(10)
        (again,) = claim(timed)
        assert (again.attempts, again.tries) == (1, 1)

    def test_attempts_are_on_record(self, timed: Ledger) -> None:
        process(timed, "e1", PlannedJob(action="mail"), number=1)
        settle(timed, claim(timed)[0], "later", wait=0, text="connection refused")
        settle(timed, claim(timed)[0], "done", text="sent")

        job = Reader(timed, _DIGESTS).job("voucherify:e1:mail")
        assert job is not None
        assert [(a.number, a.outcome, a.error) for a in job.history] == [
            (1, "later", "connection refused"),
            (2, "done", "sent"),
        ]
        assert (job.state, job.attempts, job.text) == ("done", 2, "sent")

    def test_five_expired_leases_end_a_job_as_dead(self, timed: Ledger, clock: Clock) -> None:
        process(timed, "e1", PlannedJob(action="mail"), number=1)
        for round_ in range(5):
            assert claim(timed, isolated=round_ > 1)
            clock.pass_(31)
        assert claim(timed, isolated=True) == []
        assert state_of(timed, "e1") == "dead"

    def test_what_is_settled_leaves_after_its_retention_and_dead_later(self, timed: Ledger, clock: Clock) -> None:
        process(timed, "e1", PlannedJob(action="mail"), number=1)
        process(timed, "e2", PlannedJob(action="mail"), number=2)
        jobs = {job.event_id: job for job in claim(timed)}
        settle(timed, jobs["e1"], "done")
        settle(timed, jobs["e2"], "dead", text="no")

        clock.pass_(8 * 86400)
        assert timed.trim()[0] == 1
        assert state_of(timed, "e2") == "dead"
        clock.pass_(23 * 86400)
        assert timed.trim()[0] == 1
        assert sorted(timed.client.keys("t:[bdj]:*")) == []

    def test_what_is_owed_never_leaves(self, timed: Ledger, clock: Clock) -> None:
        process(timed, "e1", PlannedJob(action="mail"), PlannedJob(action="crm"), number=1)
        settle(timed, claim(timed)[0], "done")
        clock.pass_(400 * 86400)
        assert timed.trim()[0] == 0
        assert len(claim(timed, lane="jobs/crm")) == 1


class TestOddText:
    """No text or number of one member has the whole request refused."""

    ODD = "no \ud83d, \udc00 and \U0001f600\x00"
    WHOLE = "no \ufffd, \ufffd and \U0001f600\x00"

    def test_half_a_surrogate_in_an_outcome_becomes_a_replacement_character(self, ledger: Ledger) -> None:
        for number in (1, 2):
            process(ledger, f"e{number}", PlannedJob(action="mail"), number=number)
        one, two = claim(ledger)
        outcomes = [
            Outcome(job=one.key, token=one.token, verdict="dead", text=self.ODD, duration=0.01),
            Outcome(job=two.key, token=two.token, verdict="done", duration=float("nan")),
        ]
        assert len(ledger.exchange_jobs("jobs/mail", outcomes).settled) == 2
        job = Reader(ledger, _DIGESTS).job(one.key)
        assert job is not None
        assert (job.state, job.text) == ("dead", self.WHOLE)

    def test_in_a_hold_a_plan_and_an_operators_verb(self, ledger: Ledger) -> None:
        process(ledger, "e0", PlannedJob(action="mail"), number=0)
        (held,) = claim(ledger)
        wish = Hold(seconds=60, cause="vendor", reason=self.ODD)
        ledger.exchange_jobs("jobs/mail", [Outcome(job=held.key, token=held.token, verdict="released", hold=wish)])
        (lane,) = [lane for lane in Reader(ledger, _DIGESTS).lanes() if lane.name == "jobs/mail"]
        assert lane.reason == self.WHOLE
        process(ledger, self.ODD, PlannedJob(action="mail", skipped=self.ODD), number=1)
        (job,) = Reader(ledger, _DIGESTS).jobs(Filter(state="skipped"))
        assert (job.event_id, job.text) == (self.WHOLE, self.WHOLE)
        assert ledger.operate("pause", lane="jobs/mail", reason=self.ODD)[0]
        (lane,) = [lane for lane in Reader(ledger, _DIGESTS).lanes() if lane.name == "jobs/mail"]
        assert lane.reason == self.WHOLE
        assert not ledger.operate("retry", job=self.ODD)[0]

    @pytest.mark.parametrize("wait", [float("inf"), float("nan"), -5.0, 1e300])
    def test_a_wait_out_of_range(self, ledger: Ledger, wait: float) -> None:
        process(ledger, "e1", PlannedJob(action="mail"), number=1)
        (held,) = claim(ledger)
        assert settle(ledger, held, "later", wait=wait)
        assert state_of(ledger, "e1") == "owed"


class TestOrder:
    def ordered(self, ledger: Ledger, event: str, created: int, number: int) -> None:
        process(ledger, event, PlannedJob(action="mail", order="g"), number=number, created=created)

    def test_one_stands_the_others_are_parked_and_the_newest_is_next(self, ledger: Ledger) -> None:
        for number, (event, created) in enumerate((("e1", 10), ("e2", 30), ("e3", 20))):
            self.ordered(ledger, event, created, number)
        assert [state_of(ledger, e) for e in ("e1", "e2", "e3")] == ["owed", "parked", "parked"]

        settle(ledger, claim(ledger)[0], "done")
        assert [state_of(ledger, e) for e in ("e1", "e2", "e3")] == ["done", "owed", "parked"]

        settle(ledger, claim(ledger)[0], "done")
        assert [state_of(ledger, e) for e in ("e1", "e2", "e3")] == ["done", "done", "superseded"]

    def test_a_late_event_never_overwrites_a_newer_one(self, ledger: Ledger) -> None:
        self.ordered(ledger, "new", 20, 1)
        settle(ledger, claim(ledger)[0], "done")
        self.ordered(ledger, "late", 10, 2)
        assert state_of(ledger, "late") == "superseded"
        assert claim(ledger) == []

    def test_equal_times_keep_the_order_of_arrival(self, ledger: Ledger) -> None:
        for number in range(3):
            self.ordered(ledger, f"e{number}", 10, number)
        performed = []
        while held := claim(ledger):
            performed.append(held[0].event_id)
            settle(ledger, held[0], "done")
        assert performed == ["e0", "e1", "e2"]

    def test_dead_without_effect_releases_the_next_newest(self, ledger: Ledger) -> None:
        for number, created in enumerate((30, 10, 20)):
            self.ordered(ledger, f"e{created}", created, number)
        settle(ledger, claim(ledger)[0], "dead")
        assert [state_of(ledger, f"e{n}") for n in (30, 20, 10)] == ["dead", "owed", "parked"]

    def test_dead_with_a_possible_effect_bars_older_ones_but_not_newer(self, ledger: Ledger) -> None:
        self.ordered(ledger, "middle", 20, 1)
        self.ordered(ledger, "old", 10, 2)
        settle(ledger, claim(ledger)[0], "dead", effect_possible=True)
        assert state_of(ledger, "old") == "parked"

        self.ordered(ledger, "new", 30, 3)
        assert state_of(ledger, "new") == "owed"
        settle(ledger, claim(ledger)[0], "done")
        assert state_of(ledger, "old") == "superseded"

    def test_a_retry_of_a_dead_one_after_a_newer_was_done_is_superseded(self, ledger: Ledger) -> None:
        self.ordered(ledger, "old", 10, 1)
        settle(ledger, claim(ledger)[0], "dead")
        self.ordered(ledger, "new", 20, 2)
        settle(ledger, claim(ledger)[0], "done")
        assert ledger.operate("retry", job="voucherify:old:mail")[:2] == (True, "superseded")


class TestOnce:
    def once(self, ledger: Ledger, event: str, number: int, **more: str) -> None:
        process(ledger, event, PlannedJob(action="mail", once="k", **more), number=number)  # type: ignore[arg-type]

    def test_done_takes_the_place_for_ever(self, timed: Ledger, clock: Clock) -> None:
        self.once(timed, "e1", 1)
        self.once(timed, "e2", 2)
        assert [state_of(timed, e) for e in ("e1", "e2")] == ["owed", "parked"]

        settle(timed, claim(timed)[0], "done")
        assert state_of(timed, "e2") == "superseded"
        clock.pass_(400 * 86400)
        timed.trim()
        self.once(timed, "e3", 3)
        assert state_of(timed, "e3") == "superseded"

    @pytest.mark.parametrize("verdict", ["dead", "skipped"])
    def test_without_effect_the_next_is_released(self, ledger: Ledger, verdict: str) -> None:
        self.once(ledger, "e1", 1)
        self.once(ledger, "e2", 2)
        settle(ledger, claim(ledger)[0], verdict)
        assert state_of(ledger, "e2") == "owed"

    def test_uncertain_keeps_the_place_until_an_operator_decides(self, ledger: Ledger) -> None:
        self.once(ledger, "e1", 1)
        self.once(ledger, "e2", 2)
        settle(ledger, claim(ledger)[0], "uncertain", effect_possible=True)
        assert state_of(ledger, "e2") == "parked"
        assert claim(ledger) == []

        operator = Control(ledger, ANN, lambda _: None)
        assert operator.resolve("voucherify:e1:mail", "done").done
        assert [state_of(ledger, e) for e in ("e1", "e2")] == ["done", "superseded"]

    def test_dropping_releases_the_next(self, ledger: Ledger) -> None:
        self.once(ledger, "e1", 1)
        self.once(ledger, "e2", 2)
        assert Control(ledger, ANN, lambda _: None).drop("voucherify:e1:mail").done
        assert [state_of(ledger, e) for e in ("e1", "e2")] == ["skipped", "owed"]

    def test_dead_with_a_possible_effect_keeps_its_place_beyond_its_retention(
        self, timed: Ledger, clock: Clock
    ) -> None:
        self.once(timed, "e1", 1)
        self.once(timed, "e2", 2)
        settle(timed, claim(timed)[0], "dead", effect_possible=True)
        assert state_of(timed, "e2") == "parked"
        clock.pass_(31 * 86400)
        timed.trim()
        assert state_of(timed, "e2") == "superseded"

    def test_order_and_once_together(self, ledger: Ledger) -> None:
        self.once(ledger, "e1", 1, order="g")
        self.once(ledger, "e2", 2, order="g")
        self.once(ledger, "e3", 3, order="h")
        assert [state_of(ledger, f"e{n}") for n in (1, 2, 3)] == ["owed", "parked", "parked"]
        settle(ledger, claim(ledger)[0], "dead")
        assert [state_of(ledger, f"e{n}") for n in (2, 3)] == ["owed", "parked"]
        settle(ledger, claim(ledger)[0], "done")
        assert [state_of(ledger, f"e{n}") for n in (2, 3)] == ["done", "superseded"]


class TestOperating:
    def test_a_paused_lane_lends_nothing_until_it_is_resumed(self, ledger: Ledger) -> None:
        rung: list[str] = []
        operator = Control(ledger, ANN, rung.extend)
        process(ledger, "e1", PlannedJob(action="mail"), number=1)
        operator.pause("jobs/mail")
        assert claim(ledger) == []
        assert ledger.due(["jobs/mail"]).bells == []
        operator.resume("jobs/mail")
        assert rung == ["jobs/mail"]
        assert len(claim(ledger)) == 1

    def test_retry_gives_a_dead_job_new_attempts(self, ledger: Ledger) -> None:
        process(ledger, "e1", PlannedJob(action="mail"), number=1)
        settle(ledger, claim(ledger)[0], "dead", text="no")
        assert Control(ledger, ANN, lambda _: None).retry("voucherify:e1:mail").done
        (job,) = claim(ledger)
        assert (job.attempts, job.tries) == (1, 0)

    def test_what_is_done_is_not_retried(self, ledger: Ledger) -> None:
        process(ledger, "e1", PlannedJob(action="mail"), number=1)
        settle(ledger, claim(ledger)[0], "done")
        answer = Control(ledger, ANN, lambda _: None).retry("voucherify:e1:mail")
        assert not answer.done
        assert "tiercast jobs redo" in answer.text

    def test_replay_adds_missing_jobs_and_again_does_done_ones_under_a_new_key(self, ledger: Ledger) -> None:
        process(ledger, "e1", PlannedJob(action="mail"), number=1)
        settle(ledger, claim(ledger)[0], "done")
        operator = Control(ledger, ANN, lambda _: None)
        for again, expected in ((False, []), (True, ["r2"]), (True, ["r3"])):
            assert operator.replay(delivery_id(1), again=again).done
            token = new_token()
            (held,) = ledger.exchange_deliveries(SOURCE, claim=Claim(token=token, n=1)).claimed
            plan = Plan(
                delivery=held.id,
                token=token,
                state=DeliveryState.PROCESSED,
                event_id="e1",
                type="x",
                created_us=1,
                jobs=(PlannedJob(action="mail"), PlannedJob(action="crm")),
            )
            assert ledger.exchange_deliveries(SOURCE, [plan]).settled == [(delivery_id(1), "processed", "")]
            held_jobs = claim(ledger)
            assert [job.key.rsplit(":", 1)[1] for job in held_jobs] == expected
            for job in held_jobs:
                outcome = Outcome(job=job.key, token=job.token, verdict="done", duration=0.0)
                ledger.exchange_jobs("jobs/mail", [outcome])
        assert len(claim(ledger, lane="jobs/crm")) == 1
        info = Reader(ledger, _DIGESTS).delivery(delivery_id(1))
        assert info is not None
        assert [key.split(":", 2)[2] for key in info.jobs] == ["mail", "crm", "mail:r2", "mail:r3"]


class TestReading:
    def test_from_a_customer_to_every_delivery_and_job(self, ledger: Ledger) -> None:
        record(ledger, 1, 2)
        held = ledger.exchange_deliveries(SOURCE, claim=Claim(token="a", n=2)).claimed
        refs = (
            _DIGESTS.customer(SOURCE, "id", "cust_1"),
            _DIGESTS.customer(SOURCE, "email", "ada@example.com"),
        )
        plans = [
            Plan(
                delivery=held[0].id, token="a", state=DeliveryState.PROCESSED, event_id="e1", type="x",
                customer=refs, jobs=(PlannedJob(action="mail"),),
            ),
            Plan(delivery=held[1].id, token="a", state=DeliveryState.IGNORED, event_id="e2", type="y"),
        ]  # fmt: skip
        ledger.exchange_deliveries(SOURCE, plans)
        reader = Reader(ledger, _DIGESTS)

        for name in ("cust_1", "Ada@Example.com"):
            assert [d.id for d in reader.deliveries(Filter(customer=name))] == [delivery_id(1)]
            assert [j.key for j in reader.jobs(Filter(customer=name))] == ["voucherify:e1:mail"]
        assert list(reader.deliveries(Filter(customer="cust_2"))) == []

    def test_listings_are_newest_first_with_queued_among_them(self, ledger: Ledger) -> None:
        for number in (1, 2):
            process(ledger, f"e{number}", PlannedJob(action="mail"), number=number)
        record(ledger, 3, 4)
        reader = Reader(ledger, _DIGESTS)

        assert [d.id for d in reader.deliveries(Filter())] == [delivery_id(n) for n in (4, 3, 2, 1)]
        assert [d.id for d in reader.deliveries(Filter(state="queued", limit=1))] == [delivery_id(4)]
        assert [d.id for d in reader.deliveries(Filter(state="processed"))] == [
            delivery_id(2),
            delivery_id(1),
        ]
        assert [j.key for j in reader.jobs(Filter(state="owed"))] == [
            "voucherify:e1:mail",
            "voucherify:e2:mail",
        ]


def test_jobs_of_a_delivery_that_a_replay_found_ignored_are_still_listed(ledger: Ledger) -> None:
    process(ledger, "e1", PlannedJob(action="mail"), number=1)
    settle(ledger, claim(ledger)[0], "done")
    assert ledger.operate("replay", delivery=delivery_id(1), again=1)[0]
    (held,) = ledger.exchange_deliveries(SOURCE, claim=Claim(token="a", n=1)).claimed
    ledger.exchange_deliveries(
        SOURCE, [Plan(delivery=held.id, token="a", state=DeliveryState.IGNORED, event_id="e1", type="x")]
    )
    assert [job.key for job in Reader(ledger, _DIGESTS).jobs(Filter())] == ["voucherify:e1:mail"]


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    from tiercast.embedded import free_port
    from tiercast.ledger.client import connect

    ledger = Ledger(connect(f"redis://127.0.0.1:{free_port()}", timeout=0.2))
    with pytest.raises(LedgerUnavailable):
        record(ledger, 1)
