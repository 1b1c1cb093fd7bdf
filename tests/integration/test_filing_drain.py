"""A filer on a real ledger and a real history: what happens when something fails between two lines."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import Clock
from tests.filing import file_all
from tests.integration.test_filing import ACTOR, DIGESTS, Shop, delivery_id
from tests.stack import JOINED, wait_for
from tiercast.control.changes import Control
from tiercast.errors import HistoryRefused, HistoryUnavailable, LedgerUnavailable
from tiercast.history.address import HistoryAddress
from tiercast.history.rows import FiledDelivery
from tiercast.history.store import History
from tiercast.ledger import Ledger
from tiercast.ledger.filing import start_filing
from tiercast.ledger.model import JobState
from tiercast.ledger.reading import Filter, Reader
from tiercast.samples import envelope, sample_data
from worker.filing.archive import Archive
from worker.filing.drain import FilingDrain
from worker.threads import Threads


class Desk:
    """A filer's drain, and its history."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop = shop
        self.address = HistoryAddress.read(f"sqlite:///{folder / 'history.db'}")
        self.archive = Archive(self.address, shop.ledger)
        self.rung: list[str] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.threads = Threads("filing")

    def open(self) -> Any:
        """What the drain files into: the history, with something before and after each transaction."""
        history = self.archive.open()

        def file(deliveries: Sequence[FiledDelivery]) -> object:
            self.before()
            filed = history.file(deliveries)
            self.after()
            return filed

        return SimpleNamespace(file=file, trim=history.trim)

    def due(self, lanes: Any, *, draining: str = "") -> None:
        self.rung.extend(lanes)

    def drain(self, **more: Any) -> FilingDrain:
        options: dict[str, Any] = {"keep_days": 10_000, "late_first": ["jobs/mail"], **more}
        return FilingDrain(self.shop.ledger, self.open, self, self.threads, **options)

    def run(self, drain: FilingDrain | None = None) -> dict[str, int]:
        """Drain once; returns the counts."""
        drain = drain or self.drain()
        drain.start(heard=True)
        assert drain.wait(20)
        return dict(drain.take_counts())

    def rows(self, *deliveries: str) -> list[FiledDelivery]:
        with History(self.address) as history:
            return [row for each in deliveries if (row := history.reading.delivery(each))]


@pytest.fixture
def desk(timed: Ledger, clock: Clock, tmp_path: Path) -> Iterator[Desk]:
    start_filing(timed)
    made = Desk(Shop(timed, clock), tmp_path)
    yield made
    made.archive.close()


def settled(shop: Shop, count: int) -> list[str]:
    """So many events with a job each, done."""
    deliveries = [shop.tell(f"e{number}", "mail") for number in range(count)]
    shop.perform("mail", text="sent")
    shop.wait()
    return deliveries


def left(desk: Desk, deliveries: Sequence[str]) -> list[str]:
    return [delivery for delivery in deliveries if desk.shop.reader.delivery(delivery) is not None]


class TestFiling:
    def test_what_is_settled_is_in_the_history_and_no_more_in_the_ledger(self, desk: Desk) -> None:
        deliveries = settled(desk.shop, 3)
        assert desk.run() == {"claimed": 3, "filed": 3}
        assert left(desk, deliveries) == []
        rows = desk.rows(*deliveries)
        assert sorted(row.id for row in rows) == deliveries
        assert [[job.state for job in row.jobs] for row in rows] == [["done"]] * 3

    def test_a_row_tells_campaign_and_tier_of_its_event(self, desk: Desk) -> None:
        shop = desk.shop
        body = json.dumps(envelope(JOINED, sample_data(), event_id="ev1")).encode()
        shop.ledger.record([("voucherify", delivery_id(1), body)])
        shop.plan("ev1", "mail", type=JOINED)
        shop.perform("mail")
        shop.wait()
        desk.run()
        (row,) = desk.rows(delivery_id(1))
        assert (row.body, row.campaign is None, row.tier is None) == (body, False, False)
        assert row.tier is not None
        assert row.tier.name

    def test_many_are_filed_in_batches(self, desk: Desk) -> None:
        for start in range(1, 1101, 100):
            desk.shop.ledger.record([("voucherify", delivery_id(n), b"{}") for n in range(start, start + 100)])
        for _ in range(1100):
            desk.shop.plan("e", state="test")
        desk.shop.wait()
        batches: list[int] = []
        desk.after = lambda: batches.append(1)
        assert desk.run() == {"claimed": 1100, "filed": 1100}
        assert len(batches) == 3

    def test_what_has_outlived_its_retention_leaves_the_history(self, desk: Desk) -> None:
        # The ledger's clock of this test is weeks behind.
        deliveries = settled(desk.shop, 3)
        desk.run()
        assert len(desk.rows(*deliveries)) == 3
        desk.run(desk.drain(keep_days=1))
        assert desk.rows(*deliveries) == []


class TestKilled:
    def test_between_commit_and_letting_go(self, desk: Desk) -> None:
        deliveries = settled(desk.shop, 3)

        def die() -> None:
            raise LedgerUnavailable("killed")

        desk.after = die
        drain = desk.drain()
        drain.start(heard=True)
        assert drain.wait(20)
        assert left(desk, deliveries) == deliveries
        assert sorted(row.id for row in desk.rows(*deliveries)) == deliveries
        desk.after = lambda: None
        desk.shop.clock.pass_(700)
        assert desk.run()["filed"] == 3
        assert left(desk, deliveries) == []
        assert len(desk.rows(*deliveries)) == 3

    def test_two_filers_at_once(self, desk: Desk) -> None:
        deliveries = settled(desk.shop, 40)
        barrier = threading.Barrier(2, timeout=10)
        counts: list[dict[str, int]] = []

        def race() -> None:
            drain = desk.drain()
            barrier.wait()
            counts.append(desk.run(drain))

        racers = [threading.Thread(target=race) for _ in range(2)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(30)
        assert sum(count.get("filed", 0) for count in counts) == 40
        assert left(desk, deliveries) == []
        assert len(desk.rows(*deliveries)) == 40

    def test_one_that_is_later_than_its_lease_and_than_a_retry(self, desk: Desk) -> None:
        shop = desk.shop
        delivery = shop.tell("e1", "mail")
        shop.perform("mail", "dead", text="HTTP 400")
        shop.wait()
        key = "voucherify:e1:mail"

        def meanwhile() -> None:
            """The filer stands still before its transaction; the job is retried, done, and filed by another."""
            desk.before = lambda: None
            shop.control.retry(key)
            shop.perform("mail", text="sent")
            shop.wait()
            assert desk.run()["filed"] == 1

        desk.before = meanwhile
        assert desk.run().get("filed", 0) == 0
        (row,) = desk.rows(delivery)
        assert [(job.state, job.text, job.attempts) for job in row.jobs] == [("done", "sent", 2)]
        assert left(desk, [delivery]) == []

    def test_while_the_job_is_retried_it_stays_in_the_ledger(self, desk: Desk) -> None:
        shop = desk.shop
        delivery = shop.tell("e1", "mail")
        shop.perform("mail", "dead", text="HTTP 400")
        shop.wait()

        def retry() -> None:
            shop.control.retry("voucherify:e1:mail")

        desk.before = retry
        assert desk.run().get("filed", 0) == 0
        assert shop.state("voucherify:e1:mail") == "owed"
        desk.before = lambda: None
        shop.perform("mail", text="sent")
        shop.wait()
        assert desk.run()["filed"] == 1
        (row,) = desk.rows(delivery)
        assert [job.state for job in row.jobs] == ["done"]


class TestAway:
    def test_the_history_is_away_and_comes_back(self, desk: Desk) -> None:
        deliveries = settled(desk.shop, 3)

        def away() -> None:
            raise HistoryUnavailable("it does not answer")

        desk.before = away
        assert desk.run() == {"claimed": 3}
        assert left(desk, deliveries) == deliveries
        assert desk.shop.reader.lane("history").cause == "outage"
        assert desk.run() == {}
        desk.shop.clock.pass_(1.1)
        assert desk.run() == {"claimed": 1}
        # Nothing else notices: the copy of an event, the next event.
        assert desk.shop.tell("e9", "mail")
        desk.before = lambda: None
        desk.shop.clock.pass_(5)
        desk.shop.perform("mail")
        desk.shop.wait()
        assert desk.run()["filed"] == 4
        assert desk.shop.reader.lane("history").cause is None

    def test_it_is_away_from_the_start(self, desk: Desk, tmp_path: Path) -> None:
        settled(desk.shop, 1)
        desk.archive = Archive(HistoryAddress.read(f"sqlite:///{tmp_path}/a-file/history.db"), desk.shop.ledger)
        (tmp_path / "a-file").write_text("")
        assert desk.run() == {"claimed": 1}
        assert desk.shop.reader.lane("history").cause == "outage"

    def test_the_ledger_is_away_when_it_is_to_let_go(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        deliveries = settled(desk.shop, 2)
        ledger, refused = desk.shop.ledger, [3]
        run = ledger.run

        def flaky(name: str, args: list[Any], **more: Any) -> Any:
            if name == "filing" and b'"filed"' in args[0].encode() and refused[0]:
                refused[0] -= 1
                raise LedgerUnavailable("away")
            return run(name, args, **more)

        monkeypatch.setattr(ledger, "run", flaky)
        assert desk.run()["filed"] == 2
        assert (refused, left(desk, deliveries)) == ([0], [])

    def test_a_delivery_that_the_database_refuses_holds_up_no_other(self, desk: Desk) -> None:
        deliveries = settled(desk.shop, 5)
        poison = deliveries[2]
        history = desk.archive.open()

        def picky(rows: Sequence[FiledDelivery]) -> object:
            if any(row.id == poison for row in rows):
                raise HistoryRefused("no such value")
            return history.file(rows)

        desk.open = lambda: SimpleNamespace(file=picky, trim=history.trim)  # type: ignore[method-assign]
        assert desk.run()["filed"] == 4
        assert left(desk, deliveries) == [poison]
        assert desk.shop.reader.lane("history").cause is None

    def test_a_database_that_takes_nothing_holds_the_lane_with_its_reason(self, desk: Desk) -> None:
        deliveries = settled(desk.shop, 9)

        def wrong(_: Sequence[FiledDelivery]) -> object:
            raise HistoryRefused("its tables are missing: run tiercast history migrate")

        history = desk.archive.open()
        desk.open = lambda: SimpleNamespace(file=wrong, trim=history.trim)  # type: ignore[method-assign]
        assert desk.run() == {"claimed": 9}
        lane = desk.shop.reader.lane("history")
        assert (lane.cause, lane.reason) == ("setting", "its tables are missing: run tiercast history migrate")
        assert left(desk, deliveries) == deliveries


class TestBelonging:
    def test_a_file_of_another_host_is_refused_with_the_remedy(self, desk: Desk, tmp_path: Path) -> None:
        settled(desk.shop, 1)
        desk.archive.open()
        other = Archive(HistoryAddress.read(f"sqlite:///{tmp_path}/other.db"), desk.shop.ledger)
        with pytest.raises(HistoryRefused, match="postgresql://"):
            other.open()
        desk.archive = other
        assert desk.run() == {"claimed": 1}
        lane = desk.shop.reader.lane("history")
        assert lane.cause == "setting"
        assert "TIERCAST_HISTORY_URL" in (lane.reason or "")

    def test_a_history_of_another_ledger_is_refused(self, desk: Desk) -> None:
        desk.archive.open()
        other = Ledger(desk.shop.ledger.client, prefix="other")
        with pytest.raises(HistoryRefused, match="another ledger"):
            Archive(desk.address, other).open()

    def test_the_same_pair_is_opened_again_and_again(self, desk: Desk) -> None:
        desk.archive.open()
        again = Archive(desk.address, desk.shop.ledger)
        again.open()
        again.close()


def test_a_filed_delivery_comes_back_from_the_database_as_it_was(desk: Desk) -> None:
    shop = desk.shop
    delivery = shop.tell("e1", "mail", "crm", project="proj_1", reason="a note")
    shop.perform("mail", "dead", text="HTTP 400", effect_possible=True)
    shop.perform("crm", text="ok")
    shop.wait()
    info = shop.reader.delivery(delivery)
    assert info is not None
    before = info, shop.reader.jobs_of(info), shop.reader.body(delivery)
    desk.run()
    assert shop.reader.delivery(delivery) is None
    assert shop.bring_back(*desk.rows(delivery)) == ["back"]
    info = shop.reader.delivery(delivery)
    assert info is not None
    assert (info, shop.reader.jobs_of(info), shop.reader.body(delivery)) == before
    assert shop.control.retry("voucherify:e1:mail").done
    shop.perform("mail", text="sent")
    shop.wait()
    desk.run()
    (row,) = desk.rows(delivery)
    assert {job.action: job.state for job in row.jobs} == {"mail": "done", "crm": "done"}
    assert wait_for(lambda: file_all(shop.ledger, shop.shelf) == [])


class TestListing:
    def test_listings_show_what_is_filed_beside_what_is_not_newest_first(self, desk: Desk) -> None:
        shop = desk.shop
        filed = [shop.tell(f"e{number}", "mail") for number in range(3)]
        shop.perform("mail", "dead", text="HTTP 400")
        quarantined = shop.tell("e9", state="quarantined")
        shop.wait()
        desk.run()
        shop.clock.pass_(1)
        here = shop.tell("e10", "mail")
        reader = Reader(shop.ledger, DIGESTS, lambda: desk.archive.open().reading)
        newest_first = [here, quarantined, *reversed(filed)]

        assert [info.id for info in reader.deliveries(Filter())] == newest_first
        assert [info.id for info in reader.deliveries(Filter(limit=2))] == newest_first[:2]
        assert [info.id for info in reader.deliveries(Filter(customer="id@example.com"))] == [here, *reversed(filed)]
        assert [job.delivery for job in reader.jobs(Filter(state="dead"))] == filed[::-1]
        assert [job.delivery for job in reader.jobs(Filter(action="mail"))] == [here, *reversed(filed)]
        assert reader.jobs_like("e1:mail", 5) == ["voucherify:e1:mail"]
        assert reader.deliveries_like(filed[0], 5) == [filed[0]]
        assert (reader.count_jobs()["dead"], reader.count_deliveries()["quarantined"]) == (3, 1)
        assert reader.count_by_action(JobState.DEAD, 100) == {"mail": 3}

        # What was brought back is listed once, as the ledger has it.
        operator = Control(shop.ledger, ACTOR, filed=lambda: desk.archive.open().reading)
        assert operator.retry("voucherify:e0:mail").text == "owed"
        assert [info.id for info in reader.deliveries(Filter())] == newest_first
        assert [job.delivery for job in reader.jobs(Filter(state="dead"))] == [filed[2], filed[1]]
        assert reader.count_jobs()["dead"] == 2

    def test_every_verb_finds_what_was_filed(self, desk: Desk) -> None:
        shop = desk.shop
        delivery = shop.tell("e1", "mail", "crm", "web")
        shop.perform("mail", "dead", text="HTTP 400")
        shop.perform("web", "dead", text="HTTP 400")
        shop.perform("crm")
        shop.wait()
        desk.run()
        operator = Control(shop.ledger, ACTOR, filed=lambda: desk.archive.open().reading)
        assert not operator.retry("voucherify:e1:crm").done
        assert operator.drop("voucherify:e1:mail").done
        shop.wait()
        desk.run()
        assert operator.redo("voucherify:e1:crm").done
        assert operator.retry("voucherify:e1:web").done
        assert operator.replay(delivery).done
        assert shop.plan("e1", "mail", "crm", "web", "more") == "processed"
        assert [shop.perform(action) for action in ("mail", "crm", "web", "more")] == [0, 1, 1, 1]
        shop.wait()
        desk.run()
        (row,) = desk.rows(delivery)
        states = {job.key.removeprefix("voucherify:e1:"): job.state for job in row.jobs}
        assert states == {"mail": "skipped", "crm": "done", "crm:r2": "done", "web": "done", "more": "done"}
        assert not operator.retry("voucherify:e2:mail").done
        assert operator.retry("voucherify:e2:mail").text == "there is no such job"
