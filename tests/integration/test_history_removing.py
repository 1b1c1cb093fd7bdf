"""Removing from the history: retention in small steps, and forgetting without a trace."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.histories import BEGIN_MS, a_delivery, a_job, address_of, delivery_id, sql
from tiercast.history import removing, tables
from tiercast.history.address import HistoryAddress
from tiercast.history.filtering import HistoryFilter
from tiercast.history.reading import Count
from tiercast.history.rows import FiledDelivery
from tiercast.history.store import History

DAY_MS = 86_400_000


def aged(number: int, days: float, **more: object) -> FiledDelivery:
    """A delivery that arrived and was settled so many days ago, with two jobs."""
    ms = round(time.time() * 1000 - days * DAY_MS)
    jobs = (a_job(number), a_job(number, "crm", state="dead", text="answered 404"))
    return a_delivery(number, *jobs, **{"id": delivery_id(number, ms), "settled_ms": ms} | more)


def rows_of(address: HistoryAddress) -> dict[str, int]:
    with sql(address) as connection:
        return {
            table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in (tables.delivery, tables.job, tables.attempt, tables.customer, tables.customer_name)
        }


# --- retention


def test_what_outlived_its_retention_goes_with_all_that_is_its(history: History, history_at: HistoryAddress) -> None:
    history.file([aged(n, days=90.5) for n in range(250)] + [aged(n, days=89.5) for n in range(250, 260)])

    trimmed = history.trim(90, seconds=60)

    assert (trimmed.removed, trimmed.more) == (250, False)
    assert rows_of(history_at) == {"delivery": 10, "job": 20, "attempt": 20, "customer": 10, "customer_name": 20}
    assert history.reading.count_deliveries(HistoryFilter()) == Count(10)
    assert history.reading.counts_by_state() == ({"processed": 10}, {"done": 10, "dead": 10})
    assert history.trim(90, seconds=60).removed == 0
    status = history.status()
    assert (status.filed_day, status.removed_day) == (260, 250)


def test_trimming_stops_when_its_time_is_over_and_goes_on_next_time(history: History) -> None:
    history.file([aged(n, days=100) for n in range(3 * removing.STEP)])
    assert history.trim(90, seconds=0) == removing.Trimmed(removing.STEP, more=True)
    assert history.trim(90, seconds=60) == removing.Trimmed(2 * removing.STEP, more=False)


def test_what_was_retried_lately_stays(history: History) -> None:
    now_ms = round(time.time() * 1000)
    history.file([aged(n, days=100, settled_ms=now_ms) for n in range(removing.STEP + 5)] + [aged(900, days=100)])
    assert history.trim(90, seconds=60) == removing.Trimmed(1, more=False)


def test_filing_goes_on_while_something_is_trimmed(history_at: HistoryAddress) -> None:
    with History(history_at) as one, History(history_at) as other:
        one.file([aged(n, days=100) for n in range(1000)])
        thread = threading.Thread(target=lambda: one.trim(90, seconds=60))
        thread.start()
        for n in range(1000, 1200, 20):
            # the customers of these are those of the ones that go
            other.file([aged(k, days=1) for k in range(n, n + 20)])
        thread.join()
        assert other.reading.count_deliveries(HistoryFilter()) == Count(200)
        assert len(list(other.reading.of_customer({f"{3:015}i"}))) == 20
    assert rows_of(history_at)["customer"] == 10


# --- forgetting


NAMES = ("ada-id-digest", "ada-mail-digest")
SECRET = "ada.lovelace@analytical.example"


def ada(number: int, **more: object) -> FiledDelivery:
    body = b'{"customer": {"email": "%s"}, "n": %d, "random": "%s"}' % (SECRET.encode(), number, bytes(range(48, 120)))
    failed = a_job(number, state="dead", text=f"refused: {SECRET}")
    return a_delivery(number, failed, a_job(number, "crm"), **{"body": body, "customer": NAMES} | more)


def test_everything_of_a_forgotten_customer_goes(history: History, history_at: HistoryAddress) -> None:
    others = [a_delivery(n, a_job(n)) for n in range(20)]
    mention = a_delivery(30, body=f'{{"note": "asked {SECRET}"}}'.encode())
    history.file([*others, mention, *(ada(n) for n in range(100, 350)), ada(400, customer=NAMES[1:])])
    before = history.reading.by_id((each.id for each in others), jobs=True)

    erased = history.removing.forget(NAMES[:1], deliveries=[delivery_id(400)], bodies=[mention.id])

    assert (erased.deliveries, erased.jobs, erased.bodies) == (251, 502, 1)
    assert erased.complete
    assert history.reading.by_id((each.id for each in others), jobs=True) == before
    kept = history.reading.delivery(mention.id)
    assert kept
    assert kept.body is None
    assert history.reading.counts_by_state()[0] == {"processed": 21}
    assert list(history.reading.of_customer(NAMES)) == []
    found = [where for where, texts in history.removing.all_texts() if any(SECRET.encode() in text for text in texts)]
    assert found == []
    with sql(history_at) as connection:
        names = connection.scalars(sa.select(tables.customer.c.names)).all()
        assert not [text for text in names if NAMES[0] in text]


def test_the_search_sees_every_text(history: History) -> None:
    history.file([ada(n) for n in range(1200)])
    hits = Counter(
        where.partition(" ")[0]
        for where, texts in history.removing.all_texts()
        if any(SECRET.encode() in text for text in texts)
    )
    # An attempt's error is stored once, with its job.
    assert hits == {"delivery": 1200, "job": 1200}
    assert [body for _, _, body in history.removing.all_bodies()] == [ada(n).body for n in range(1200)]
    assert sum(where.startswith("attempt ") for where, _ in history.removing.all_texts()) == 2400


def test_no_file_of_sqlite_holds_what_was_forgotten(tmp_path: Path) -> None:
    # Given bodies that are stored as they are, since they cannot be compressed, and errors
    def incompressible(number: int) -> FiledDelivery:
        return ada(number, body=SECRET.encode() + b"\xff", event_id=f"evcus_{SECRET}_{number}")

    with address_of("sqlite", tmp_path) as address, History(address) as history:
        for start in range(0, 600, 50):
            history.file([incompressible(n) for n in range(start, start + 50)])
            history.file([a_delivery(n, a_job(n)) for n in range(start + 1000, start + 1050)])
        raw = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert raw.count(SECRET.encode()) > 600

        assert history.removing.forget(NAMES).complete

        # Then, while it is open and after it was closed
        assert SECRET.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert SECRET.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_nothing_of_a_forgotten_customer_is_filed_any_more(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiercast.history.filing._FEW", 2)
    history.removing.forget({*NAMES, "another"})
    filed = history.file([a_delivery(1), ada(2), ada(3, customer=NAMES[1:])])
    assert filed.new == 1
    assert filed.forgotten == {delivery_id(2), delivery_id(3)}
    assert history.reading.count_deliveries(HistoryFilter()) == Count(1)


def test_an_email_that_somebody_else_has_by_now_keeps_nothing_from_being_filed(history: History) -> None:
    shared = ("bob-id-digest", NAMES[1])
    history.file([a_delivery(1, customer=shared)])
    now_us = round(time.time() * 1_000_000)
    history.removing.forget(NAMES)
    late = a_delivery(2, customer=shared, created_us=now_us - 60_000_000)
    new = a_delivery(3, customer=shared, created_us=now_us + 60_000_000)
    assert history.file([late, new]).forgotten == {late.id}
    # Bob's own delivery of before is left; its body was named by the caller if it mentions them.
    assert history.reading.delivery(delivery_id(1))
    assert history.reading.delivery(new.id)


def test_who_was_forgotten_since_a_backup_is_forgotten_again(history: History) -> None:
    history.file([ada(1), a_delivery(2)])
    erased = history.removing.forget_again(dict.fromkeys((*NAMES, "another"), BEGIN_MS))
    assert erased
    assert erased.deliveries == 1
    assert history.removing.forgotten() == {*NAMES, "another"}
    assert history.removing.forget_again(dict.fromkeys(NAMES, BEGIN_MS)) is None


def test_filing_and_forgetting_at_once_leave_nothing(history_at: HistoryAddress) -> None:
    with History(history_at) as one, History(history_at) as other:
        one.file([ada(n) for n in range(50)])

        def file() -> None:
            for n in range(50, 400, 10):
                other.file([ada(k) for k in range(n, n + 10)])

        thread = threading.Thread(target=file)
        thread.start()
        one.removing.forget(NAMES)
        thread.join()
        assert one.reading.count_deliveries(HistoryFilter()) == Count(0)
        assert one.reading.count_jobs(HistoryFilter()) == Count(0)


def test_a_reader_that_stays_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing, "_CHECKPOINT_SECONDS", 0.1)
    with address_of("sqlite", tmp_path) as address, History(address) as history:
        history.file([ada(1)])
        with sql(address) as reader:
            reader.exec_driver_sql("BEGIN")
            assert reader.scalar(sa.select(sa.func.count()).select_from(tables.delivery)) == 1
            erased = history.removing.forget(NAMES)
            assert not erased.complete
            assert "kept reading" in (erased.why_not or "")
            reader.rollback()
        assert history.removing.scrub() is None


def test_status_tells_size_growth_and_reach(history: History) -> None:
    empty = history.status()
    assert (empty.deliveries, empty.oldest_ms, empty.bytes_each) == (0, None, None)
    history.bind("ledger-1")
    history.file([a_delivery(n, a_job(n)) for n in range(50)])
    status = history.status()
    assert (status.deliveries, status.jobs, status.filed_day, status.removed_day) == (50, 50, 50, 0)
    assert (status.oldest_ms, status.newest_ms) == (BEGIN_MS, BEGIN_MS + 49_000)
    assert status.ledger == "ledger-1"
    assert status.bytes > 10_000
    assert status.bytes_each
    assert status.classes == 2
