"""What is settled is filed, and the ledger lets go of it only then; what is filed can be brought back."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.conftest import Clock
from tests.filing import Shelf, claim_filing, file_all, let_go
from tiercast.control.actor import Actor
from tiercast.control.changes import Control
from tiercast.errors import LedgerFull
from tiercast.history.reading import Reading
from tiercast.history.rows import FiledDelivery
from tiercast.history.store import History
from tiercast.ledger import Digests, Ledger, new_token
from tiercast.ledger.filed import Filed
from tiercast.ledger.filing import FilingHold, Released, bring_back, exchange_history, start_filing
from tiercast.ledger.model import Claim, DeliveryState, HeldJob, Outcome, Plan, PlannedJob
from tiercast.ledger.reading import Filter, Reader
from tiercast.queries.listing import Queries

SOURCE = "voucherify"
ACTOR = Actor("ann", "cli", "ops1")
DIGESTS = Digests("test")
BODY = b'{"raw": "\xff\x00"}'
NAMES = tuple(DIGESTS.customer(SOURCE, kind, f"{kind}@example.com") for kind in ("id", "email"))


def delivery_id(number: int) -> str:
    return f"01900000-0000-7000-8000-{number:012x}"


class Shop:
    """A ledger that files, with a shelf as its history."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger, self.clock = ledger, clock
        self.client: Any = ledger.client
        self.shelf = Shelf()
        self.control = Control(ledger, ACTOR)
        self.reader = Reader(ledger, DIGESTS)
        self.number = 0

    def record(self, number: int) -> str:
        self.ledger.record([(SOURCE, delivery_id(number), BODY)])
        return delivery_id(number)

    def tell(self, event: str, *jobs: PlannedJob | str, state: str = "processed", **more: Any) -> str:
        """A delivery arrives and is planned; returns its id."""
        self.number += 1
        delivery = self.record(self.number)
        self.plan(event, *jobs, state=state, **more)
        return delivery

    def plan(self, event: str, *jobs: PlannedJob | str, state: str = "processed", **more: Any) -> str:
        """The next delivery that is due is planned; returns its state."""
        token = new_token()
        (held,) = self.ledger.exchange_deliveries(SOURCE, claim=Claim(token=token, n=1)).claimed
        fields: dict[str, Any] = {"customer": NAMES, "created_us": self.number, **more}
        if state in ("quarantined", "test"):
            fields = {"reason": "not JSON"}
        else:
            fields |= {"event_id": event, "type": "customer.loyalty.tier.joined", "at": "2026-01-01T00:00:00.000Z"}
        plan = Plan(
            delivery=held.id,
            token=token,
            state=DeliveryState(state),
            form="envelope",
            jobs=tuple(job if isinstance(job, PlannedJob) else PlannedJob(action=job) for job in jobs),
            **fields,
        )
        ((_, settled, _),) = self.ledger.exchange_deliveries(SOURCE, [plan]).settled
        return settled

    def claim(self, action: str) -> list[HeldJob]:
        return self.ledger.exchange_jobs(f"jobs/{action}", claim=Claim(token=new_token(), n=50)).claimed

    def perform(self, action: str, verdict: str = "done", **more: Any) -> int:
        """All due jobs of an action end so."""
        held = self.claim(action)
        outcomes = [Outcome(job=job.key, token=job.token, verdict=verdict, duration=0.01, **more) for job in held]
        self.ledger.exchange_jobs(f"jobs/{action}", outcomes)
        return len(held)

    def wait(self) -> None:
        """Until what is settled may be filed."""
        self.clock.pass_(1.1)

    def file(self) -> list[str]:
        self.wait()
        return file_all(self.ledger, self.shelf)

    def keys(self) -> set[str]:
        """Of what the ledger holds something, by the first part of its keys."""
        names = (key.decode().split(":")[1:] for key in self.client.scan_iter("t:*"))
        return {":".join(name[:2]) if name[0] == "ix" else name[0] for name in names}

    def open(self) -> dict[str, int]:
        return {name.decode(): int(count) for name, count in self.client.hgetall("t:open").items()}

    def state(self, key: str) -> str | None:
        job = self.reader.job(key)
        return job.state if job else None

    def bring_back(self, *rows: FiledDelivery) -> list[str]:
        return bring_back(self.ledger, rows)


@pytest.fixture
def shop(timed: Ledger, clock: Clock) -> Shop:
    start_filing(timed)
    return Shop(timed, clock)


#: What stays of a delivery that was filed: marks, and what says what lanes there are.
STAYS = {"audit", "meta", "lanes", "lane", "projects", "marks", "m", "rewrite", "claim", "clock", "answered"}


class TestLettingGo:
    def test_a_delivery_is_filed_as_it_was_and_nothing_but_its_mark_stays(self, shop: Shop) -> None:
        delivery = shop.tell("e1", "mail", "crm", project="proj_1")
        shop.perform("mail", text="sent")
        shop.perform("crm", "later", wait=1.0, text="HTTP 503")
        shop.clock.pass_(2)
        shop.perform("crm", "done", text="ok")

        assert shop.file() == [delivery]

        row = shop.shelf.deliveries[delivery]
        assert (row.state, row.round, row.source, row.body) == ("processed", 0, SOURCE, BODY)
        assert (row.event_id, row.type, row.project) == ("e1", "customer.loyalty.tier.joined", "proj_1")
        assert (row.customer, row.names) == (NAMES, ("mail", "crm"))
        assert row.created_us == 1
        crm = shop.shelf.jobs[f"{SOURCE}:e1:crm"]
        assert (crm.state, crm.text, crm.attempts) == ("done", "ok", 2)
        assert [(each.number, each.outcome, each.error) for each in crm.history] == [
            (1, "later", "HTTP 503"),
            (2, "done", "ok"),
        ]
        assert shop.keys() <= STAYS

    def test_it_waits_for_its_last_job(self, shop: Shop) -> None:
        delivery = shop.tell("e1", "mail", "crm")
        shop.perform("mail")
        assert shop.file() == []
        shop.perform("crm", "skipped", text="no email")
        assert shop.file() == [delivery]
        assert shop.shelf.jobs[f"{SOURCE}:e1:crm"].text == "no email"

    @pytest.mark.parametrize("state", ["quarantined", "ignored", "test"])
    def test_what_leads_to_no_job_is_filed_too(self, shop: Shop, state: str) -> None:
        delivery = shop.tell("e1", state=state)
        assert shop.file() == [delivery]
        assert (shop.shelf.deliveries[delivery].state, shop.shelf.deliveries[delivery].body) == (state, BODY)
        assert shop.keys() <= STAYS | {"open"}

    def test_a_copy_is_recognised_after_filing_and_filed_as_a_duplicate(self, shop: Shop) -> None:
        first = shop.tell("e1", "mail")
        shop.perform("mail")
        shop.file()
        copy = shop.tell("e1", "mail")
        assert shop.file() == [copy]
        assert (shop.shelf.deliveries[copy].state, shop.shelf.deliveries[copy].first) == ("duplicate", first)
        assert shop.claim("mail") == []

    def test_the_same_delivery_stored_again_after_filing_does_nothing_again(self, shop: Shop) -> None:
        """A receiver whose answer was lost keeps it in its spool, and stores it once more when the ledger is back."""
        delivery = shop.tell("e1", "mail")
        shop.perform("mail")
        shop.file()
        shop.record(1)
        assert shop.plan("e1", "mail") == "duplicate"
        assert (shop.claim("mail"), shop.file()) == ([], [])
        assert shop.shelf.deliveries[delivery].state == "processed"
        assert shop.keys() <= STAYS

    def test_nothing_is_let_go_of_before_it_is_filed(self, shop: Shop) -> None:
        delivery = shop.tell("e1", "mail")
        shop.perform("mail")
        shop.wait()
        assert [held.id for held in claim_filing(shop.ledger)] == [delivery]
        # Its filer dies; another takes it up when the lease has expired.
        assert claim_filing(shop.ledger) == []
        shop.clock.pass_(31)
        assert file_all(shop.ledger, shop.shelf) == [delivery]

    def test_a_repeated_claim_and_a_repeated_letting_go_change_nothing(self, shop: Shop) -> None:
        for number in range(3):
            shop.tell(f"e{number}", state="ignored")
        shop.wait()
        claim = Claim(token=new_token(), n=2)
        first, again = (exchange_history(shop.ledger, claim=claim).claimed for _ in range(2))
        assert [each.row for each in first] == [each.row for each in again]
        assert len(let_go(shop.ledger, first).settled) == 2
        assert let_go(shop.ledger, first).settled == []
        assert len(claim_filing(shop.ledger)) == 1

    def test_a_late_filer_lets_go_of_nothing_that_another_holds(self, shop: Shop) -> None:
        delivery = shop.tell("e1", state="ignored")
        shop.wait()
        late = claim_filing(shop.ledger)
        shop.clock.pass_(31)
        other = claim_filing(shop.ledger)
        assert let_go(shop.ledger, late).settled == []
        assert shop.reader.delivery(delivery) is not None
        assert let_go(shop.ledger, other).settled == [delivery]

    def test_released_ones_keep_their_place_and_cost_no_lease(self, shop: Shop) -> None:
        for number in range(2):
            shop.tell(f"e{number}", state="ignored")
            shop.clock.pass_(1)
        shop.wait()
        held = claim_filing(shop.ledger)
        released = [Released(id=each.id, token=each.token) for each in held]
        exchange_history(shop.ledger, released=released)
        assert [each.id for each in claim_filing(shop.ledger)] == [each.id for each in held]
        assert shop.client.exists("t:expiries:history") == 0

    def test_a_poisonous_one_is_never_given_up(self, shop: Shop) -> None:
        delivery = shop.tell("e1", state="ignored")
        shop.wait()
        for _ in range(9):
            claim_filing(shop.ledger)
            claim_filing(shop.ledger, n=16, isolated=True)
            shop.clock.pass_(31)
        held = claim_filing(shop.ledger, n=16, isolated=True)
        assert let_go(shop.ledger, held).settled == [delivery]
        assert shop.keys() <= STAYS

    def test_what_was_settled_before_there_was_a_history_is_filed_too(self, timed: Ledger, clock: Clock) -> None:
        shop = Shop(timed, clock)
        deliveries = [shop.tell(f"e{number}", "mail") for number in range(5)]
        shop.perform("mail")
        undecided = shop.tell("e9", "mail")
        shop.perform("mail", "uncertain", effect_possible=True)
        start_filing(timed)
        assert start_filing(timed) <= clock.now
        while timed.trim(2)[0] >= 2:
            pass
        assert sorted(shop.file()) == deliveries
        assert shop.reader.delivery(undecided) is not None


class TestListing:
    def test_what_is_filed_while_it_is_listed_is_listed_once(self, shop: Shop, history: History) -> None:
        # Given a history that is opened when the ledger has been read, and a filer that is quicker than that
        for number in range(3):
            shop.tell(f"e{number}", "mail")
        shop.perform("mail", "dead", text="no")
        shop.wait()

        def opened() -> Filed:
            file_all(shop.ledger, history)
            return history.reading

        for what in ("deliveries", "jobs"):
            rows = list(getattr(Reader(shop.ledger, DIGESTS, opened), what)(Filter()))
            assert len(rows) == 3, what
        assert shop.reader.job("voucherify:e0:mail") is None

    @pytest.mark.parametrize("which", [Filter(state="dead"), Filter(action="mail")])
    def test_so_is_a_job_however_it_is_found(self, shop: Shop, history: History, which: Filter) -> None:
        shop.tell("e1", "mail")
        shop.perform("mail", "dead", text="no")
        shop.wait()

        def opened() -> Filed:
            file_all(shop.ledger, history)
            return history.reading

        (job,) = Reader(shop.ledger, DIGESTS, opened).jobs(which)
        assert job.state == "dead"

    @pytest.mark.parametrize("what", ["find_deliveries", "find_jobs"])
    def test_so_it_is_on_a_page(self, shop: Shop, history: History, what: str) -> None:
        shop.tell("e1", "mail")
        shop.perform("mail", "dead", text="no")
        shop.wait()

        def opened() -> Reading:
            file_all(shop.ledger, history)
            return history.reading

        page = getattr(Queries(shop.reader, DIGESTS, opened), what)(Filter())
        assert len(page.rows) == 1


class TestStaying:
    def test_what_is_owed_parked_or_uncertain_stays_until_it_is_decided(self, shop: Shop) -> None:
        shop.tell("e1", PlannedJob(action="mail", order="o1"), created_us=1)
        (held,) = shop.claim("mail")
        shop.tell("e2", PlannedJob(action="mail", order="o1"), created_us=2)
        assert shop.file() == []
        outcome = Outcome(job=held.key, token=held.token, verdict="uncertain", effect_possible=True, duration=0.1)
        shop.ledger.exchange_jobs("jobs/mail", [outcome])
        assert shop.file() == []
        assert shop.open() == {f"uncertain {SOURCE} mail": 1}
        assert shop.control.resolve(f"{SOURCE}:e1:mail", "done").done
        assert shop.file() == [delivery_id(1)]
        assert shop.shelf.deliveries[delivery_id(1)].round == 1
        assert shop.open() == {}

    def test_a_dead_job_that_keeps_its_place_is_filed_and_stays(self, shop: Shop) -> None:
        delivery = shop.tell("e1", PlannedJob(action="pay", once="c1"))
        shop.perform("pay", "dead", effect_possible=True, text="no answer")
        other = shop.tell("e2", PlannedJob(action="pay", once="c1"))
        assert shop.file() == [delivery]
        assert shop.state(f"{SOURCE}:e1:pay") == "dead"
        assert shop.state(f"{SOURCE}:e2:pay") == "parked"
        # Nobody decides. Its retention ends: the place is taken for ever, as if it had been done.
        shop.clock.pass_(31 * 86400)
        shop.ledger.trim()
        assert shop.file() == [other]
        assert shop.shelf.jobs[f"{SOURCE}:e2:pay"].state == "superseded"
        assert shop.shelf.jobs[f"{SOURCE}:e1:pay"].state == "dead"

    def test_once_and_order_places_outlive_filing(self, shop: Shop) -> None:
        once, order = NAMES[0] + "12345678", NAMES[0] + "abcdefgh"
        jobs = PlannedJob(action="pay", once=once), PlannedJob(action="crm", order=order)
        shop.tell("e1", *jobs, created_us=20, keeps_names=True)
        shop.perform("pay")
        shop.perform("crm")
        shop.file()
        # The same customer under another name only, and an older event.
        shop.tell(
            "e2",
            PlannedJob(action="pay", once=NAMES[1] + "12345678"),
            PlannedJob(action="crm", order=NAMES[1] + "abcdefgh"),
            created_us=10,
            customer=NAMES[1:],
            keeps_names=True,
        )
        shop.file()
        assert [shop.shelf.jobs[f"{SOURCE}:e2:{action}"].state for action in ("pay", "crm")] == ["superseded"] * 2

    def test_a_name_learnt_from_an_event_that_led_to_nothing_outlives_its_filing(self, shop: Shop) -> None:
        shop.tell("e1", state="ignored", keeps_names=True)
        shop.file()
        shop.tell("e2", PlannedJob(action="pay", once=NAMES[1] + "12345678"), customer=NAMES[1:], keeps_names=True)
        shop.perform("pay")
        shop.file()
        shop.tell("e3", PlannedJob(action="pay", once=NAMES[0] + "12345678"), customer=NAMES[:1], keeps_names=True)
        assert shop.perform("pay") == 0

    def test_counts_of_what_is_open_are_kept_by_source_and_action(self, shop: Shop) -> None:
        shop.tell("e1", "mail", "crm")
        shop.tell("e2", "mail")
        shop.tell("e3", state="quarantined")
        shop.perform("mail", "dead", text="HTTP 400")
        shop.perform("crm")
        shop.file()
        assert shop.open() == {f"dead {SOURCE} mail": 2, f"quarantined {SOURCE}": 1}


class TestBringingBack:
    def dead(self, shop: Shop) -> FiledDelivery:
        delivery = shop.tell("e1", "mail", "crm")
        shop.perform("mail", "dead", text="HTTP 400")
        shop.perform("crm")
        shop.file()
        return shop.shelf.deliveries[delivery]

    def test_a_dead_job_is_retried_as_a_new_round_and_filed_again(self, shop: Shop) -> None:
        row = self.dead(shop)
        assert shop.bring_back(row) == ["back"]
        assert shop.control.retry(f"{SOURCE}:e1:mail").text == "owed"
        (held,) = shop.claim("mail")
        assert (held.body, held.attempts, held.tries) == (BODY, 1, 0)
        assert shop.claim("crm") == []
        outcome = Outcome(job=held.key, token=held.token, verdict="done", duration=0.1, text="ok")
        shop.ledger.exchange_jobs("jobs/mail", [outcome])
        assert shop.open() == {}
        assert shop.file() == [row.id]
        mail = shop.shelf.jobs[f"{SOURCE}:e1:mail"]
        assert (mail.state, mail.attempts, mail.before, mail.round) == ("done", 2, 1, 2)
        assert [each.error for each in mail.history] == ["HTTP 400", "ok"]
        assert shop.shelf.jobs[f"{SOURCE}:e1:crm"].state == "done"
        assert shop.keys() <= STAYS | {"rounds"}

    def test_what_comes_back_is_what_was_filed(self, shop: Shop) -> None:
        delivery = shop.tell("e1", PlannedJob(action="mail", order="o1", unordered=True), "crm", reason="a note")
        shop.perform("mail", "dead", text="HTTP 400", effect_possible=False)
        shop.perform("crm")
        before = shop.reader.delivery(delivery), shop.reader.jobs_of(shop.reader.delivery(delivery))  # type: ignore[arg-type]
        shop.file()
        assert shop.bring_back(shop.shelf.deliveries[delivery]) == ["back"]
        after = shop.reader.delivery(delivery), shop.reader.jobs_of(shop.reader.delivery(delivery))  # type: ignore[arg-type]
        assert after == before
        assert shop.reader.body(delivery) == BODY
        assert shop.open() == {f"dead {SOURCE} mail": 1}

    def test_repeating_it_brings_back_nothing_twice(self, shop: Shop) -> None:
        row = self.dead(shop)
        assert [shop.bring_back(row) for _ in range(2)] == [["back"], ["here"]]
        shop.control.retry(f"{SOURCE}:e1:mail")
        assert shop.bring_back(row) == ["here"]
        assert shop.state(f"{SOURCE}:e1:mail") == "owed"

    def test_a_row_that_was_read_before_a_newer_round_is_refused(self, shop: Shop) -> None:
        row = self.dead(shop)
        shop.bring_back(row)
        shop.control.retry(f"{SOURCE}:e1:mail")
        shop.perform("mail")
        shop.file()
        # Another operator has read the dead job long ago; it is done by now.
        assert shop.bring_back(row) == ["stale"]
        assert shop.claim("mail") == []
        assert shop.bring_back(shop.shelf.deliveries[row.id]) == ["back"]

    def test_what_nobody_touches_is_filed_again(self, shop: Shop) -> None:
        row = self.dead(shop)
        shop.bring_back(row)
        assert shop.file() == []
        shop.clock.pass_(60)
        assert shop.file() == [row.id]
        assert shop.shelf.jobs[f"{SOURCE}:e1:mail"].state == "dead"
        assert shop.open() == {f"dead {SOURCE} mail": 1}

    def test_a_quarantined_delivery_is_replayed(self, shop: Shop) -> None:
        delivery = shop.tell("e1", state="quarantined")
        shop.file()
        assert shop.bring_back(shop.shelf.deliveries[delivery]) == ["back"]
        assert shop.control.replay(delivery).done
        assert shop.plan("e1", "mail") == "processed"
        assert shop.perform("mail") == 1
        assert shop.file() == [delivery]
        assert shop.shelf.deliveries[delivery].state == "processed"
        assert shop.open() == {}

    def test_a_forgotten_customers_delivery_is_not_brought_back(self, shop: Shop) -> None:
        row = self.dead(shop)
        shop.ledger.forget(NAMES[:1])
        assert shop.bring_back(row) == ["forgotten"]

    def test_it_is_refused_where_the_memory_is_full(self, shop: Shop) -> None:
        row = self.dead(shop)
        shop.client.config_set("maxmemory", 1)
        try:
            with pytest.raises(LedgerFull):
                shop.bring_back(row)
        finally:
            shop.client.config_set("maxmemory", 0)


class TestRetriedMeanwhile:
    def test_a_retry_takes_it_out_of_the_hands_of_its_filer(self, shop: Shop) -> None:
        delivery = shop.tell("e1", "mail")
        shop.perform("mail", "dead", text="HTTP 400")
        shop.wait()
        late = claim_filing(shop.ledger)
        assert shop.control.retry(f"{SOURCE}:e1:mail").done
        shop.shelf.file([each.row for each in late])
        assert let_go(shop.ledger, late).settled == []
        assert shop.perform("mail") == 1
        assert shop.file() == [delivery]
        assert shop.shelf.jobs[f"{SOURCE}:e1:mail"].state == "done"

    def test_a_filer_that_is_later_than_the_next_round_changes_nothing(self, shop: Shop) -> None:
        delivery = shop.tell("e1", "mail")
        shop.perform("mail", "dead", text="HTTP 400")
        shop.wait()
        late = claim_filing(shop.ledger)
        shop.control.retry(f"{SOURCE}:e1:mail")
        shop.perform("mail")
        assert shop.file() == [delivery]
        shop.shelf.file([each.row for each in late])
        assert let_go(shop.ledger, late).settled == []
        assert shop.shelf.jobs[f"{SOURCE}:e1:mail"].state == "done"

    @pytest.mark.parametrize("verb", ["drop", "replay", "redo", "forget"])
    def test_every_verb_that_changes_it_does(self, shop: Shop, verb: str) -> None:
        delivery = shop.tell("e1", "mail", "crm")
        shop.perform("mail", "dead", text="HTTP 400")
        shop.perform("crm")
        shop.wait()
        late = claim_filing(shop.ledger)
        if verb == "drop":
            assert shop.control.drop(f"{SOURCE}:e1:mail").done
        elif verb == "replay":
            assert shop.control.replay(delivery).done
        elif verb == "redo":
            assert shop.control.redo(f"{SOURCE}:e1:crm").done
        else:
            assert shop.ledger.forget([], [(delivery, SOURCE)]).deliveries == 1
        assert let_go(shop.ledger, late).settled == []
        assert (shop.reader.delivery(delivery) is None) == (verb == "forget")
        assert shop.client.zcard("t:held:history") == 0


class TestStandingBack:
    def late_work(self, shop: Shop) -> None:
        shop.tell("e1", state="ignored")
        shop.tell("e2", "mail")
        shop.clock.pass_(2)

    def claimed(self, shop: Shop, *lanes: str) -> int:
        claim = Claim(token=new_token(), n=5)
        return len(exchange_history(shop.ledger, claim=claim, lanes=lanes).claimed)

    def test_late_work_goes_first_and_is_named(self, shop: Shop) -> None:
        self.late_work(shop)
        assert self.claimed(shop, "jobs/mail") == 0
        lane = shop.reader.lane("history")
        assert (lane.cause, lane.reason) == ("late", "work that is late goes first")
        shop.perform("mail")
        shop.clock.pass_(2)
        assert self.claimed(shop, "jobs/mail") == 2

    def test_it_does_not_ring_itself_meanwhile(self, shop: Shop) -> None:
        self.late_work(shop)
        assert exchange_history(shop.ledger, claim=Claim(token=new_token(), n=5), lanes=["jobs/mail"]).bells == []
        assert shop.ledger.due(["history"]).bells == []
        shop.clock.pass_(1)
        assert shop.ledger.due(["history"]).bells == ["history"]

    def test_a_lane_on_hold_does_not_count(self, shop: Shop) -> None:
        self.late_work(shop)
        shop.control.pause("jobs/mail")
        assert self.claimed(shop, "jobs/mail") == 1

    def test_a_lane_that_no_configuration_has_does_not_count(self, shop: Shop) -> None:
        self.late_work(shop)
        assert self.claimed(shop, "jobs/other") == 1

    def test_nothing_goes_first_once_half_of_the_memory_is_used(self, shop: Shop) -> None:
        self.late_work(shop)
        shop.client.config_set("maxmemory", int(shop.client.info("memory")["used_memory"] * 1.5))
        try:
            assert self.claimed(shop, "jobs/mail") == 1
        finally:
            shop.client.config_set("maxmemory", 0)


class TestOutage:
    def test_while_the_history_is_away_single_deliveries_probe_it(self, shop: Shop) -> None:
        for number in range(3):
            shop.tell(f"e{number}", state="ignored")
        shop.wait()

        def fail(held: list[Any]) -> None:
            released = [Released(id=each.id, token=each.token) for each in held]
            exchange_history(shop.ledger, released=released, outage="it does not answer")

        fail(claim_filing(shop.ledger))
        lane = shop.reader.lane("history")
        assert (lane.cause, lane.reason, lane.owed) == ("outage", "it does not answer", 3)
        pauses = []
        for _ in range(8):
            before = shop.reader.lane("history").hold_until_ms
            assert before is not None
            pauses.append((before - shop.clock.now) / 1000)
            assert claim_filing(shop.ledger) == []
            shop.clock.set(before)
            probe = claim_filing(shop.ledger)
            assert len(probe) == 1
            fail(probe)
        assert pauses[0] == 1
        assert pauses[-1] == 60
        assert shop.client.exists("t:expiries:history") == 0
        # It is back.
        shop.clock.pass_(61)
        probe = claim_filing(shop.ledger)
        assert len(let_go(shop.ledger, probe).settled) == 1
        assert shop.reader.lane("history").cause is None
        assert len(claim_filing(shop.ledger)) == 2

    def test_a_database_that_does_not_belong_here_holds_the_lane(self, shop: Shop) -> None:
        shop.tell("e1", state="ignored")
        shop.wait()
        held = claim_filing(shop.ledger)
        released = [Released(id=each.id, token=each.token, wait=600.0) for each in held]
        hold = FilingHold(seconds=60, cause="setting", reason="not this ledger's history")
        exchange_history(shop.ledger, released=released, hold=hold)
        assert shop.reader.lane("history").cause == "setting"
        shop.clock.pass_(61)
        assert claim_filing(shop.ledger) == []
        shop.clock.pass_(600)
        assert len(claim_filing(shop.ledger)) == 1


def test_without_a_history_the_ledger_keeps_what_is_settled(timed: Ledger, clock: Clock, client: redis.Redis) -> None:
    shop = Shop(timed, clock)
    delivery = shop.tell("e1", "mail")
    shop.perform("mail")
    assert shop.file() == []
    assert client.exists("t:due:history") == 0
    assert shop.reader.delivery(delivery) is not None
    clock.pass_(8 * 86400)
    assert timed.trim()[0] == 1
    assert shop.reader.delivery(delivery) is None
