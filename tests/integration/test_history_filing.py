"""Filing into the history: what is written is written once, as it was, whatever is repeated or comes late."""

from __future__ import annotations

import stat
import threading
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.histories import BEGIN_MS, a_delivery, a_job, address_of, delivery_id, sql
from tiercast.errors import HistoryRefused, HistoryUnavailable
from tiercast.history import tables, terms
from tiercast.history.address import HistoryAddress
from tiercast.history.filtering import HistoryFilter
from tiercast.history.rows import FiledAttempt, FiledDelivery, Named
from tiercast.history.store import History
from tiercast.history.tables import REVISION, metadata


def recount(address: HistoryAddress) -> tuple[Counter[int], Counter[int]]:
    """How many rows each class of deliveries and of jobs really has."""
    with sql(address) as connection:
        return tuple(  # type: ignore[return-value]
            Counter(dict(connection.execute(sa.select(table.c["class"], sa.func.count()).group_by("class")).all()))
            for table in (tables.delivery, tables.job)
        )


def kept_counts(address: HistoryAddress) -> tuple[Counter[int], Counter[int]]:
    with sql(address) as connection:
        return tuple(  # type: ignore[return-value]
            Counter(dict(connection.execute(sa.select(table.c.id, table.c.rows).where(table.c.rows != 0)).all()))
            for table in (tables.delivery_class, tables.job_class)
        )


def test_what_is_filed_is_read_again_as_it_was(history: History) -> None:
    failed = tuple(
        FiledAttempt(number=n, started_ms=BEGIN_MS + n, duration_ms=5, outcome="later", error=f"=answered {n}")
        for n in range(1, 4)
    )
    jobs = (
        a_job(
            1, "crm-tier", text="deal 17", once="o" * 24, order="p" * 24, place="1790000000000000 x", operation="op1"
        ),
        a_job(
            1,
            "welcome",
            state="dead",
            attempts=3,
            before=1,
            text="=answered 3",
            maybe_ms=BEGIN_MS + 7,
            failing_ms=BEGIN_MS,
            unordered=True,
            history=failed,
        ),
        a_job(1, "points", state="skipped", text="option to is empty", planned=False, attempts=0, history=()),
        a_job(1, "crm-tier", again=2, round=1),
    )
    filed = a_delivery(
        1,
        *jobs,
        rules='[["-","two","event.tier"]]',
        reason="a note",
        operation="op2",
        round=2,
        at="1726-09-21T14:13:20Z",
    )
    unread = a_delivery(
        2,
        state="quarantined",
        reason="the body is no JSON",
        body=b"\xff\x00 no JSON",
        event_id=None,
        type=None,
        at=None,
        created_us=0,
        form="",
        project=None,
        customer=(),
        campaign=None,
        tier=None,
    )
    copy = a_delivery(3, state="duplicate", first=filed.id, tier=Named(None, "Silver leaf"), body=None)

    assert history.file([filed, unread, copy]).new == 3

    assert history.reading.delivery(filed.id) == filed
    assert history.reading.delivery(unread.id) == unread
    assert history.reading.delivery(copy.id) == copy
    assert history.reading.delivery(delivery_id(4)) is None
    for job in jobs:
        found = history.reading.job(job.key)
        assert found
        assert found.job == job
        assert found.delivery.body == filed.body


def test_bodies_come_back_byte_for_byte(history: History, shared_bodies: list[bytes]) -> None:
    bodies = [*shared_bodies, b"", b"\x00", b"\x01", bytes(range(256)) * 300]
    history.file([a_delivery(n, body=body) for n, body in enumerate(bodies)])
    found = history.reading.by_id(delivery_id(n) for n in range(len(bodies)))
    assert [each.body for each in found] == bodies


@pytest.fixture
def shared_bodies() -> list[bytes]:
    """The fixtures' bodies."""
    return [path.read_bytes() for path in sorted((Path(__file__).parents[1] / "fixtures").glob("*.json"))]


def test_filing_again_changes_nothing(history: History, history_at: HistoryAddress) -> None:
    batch = [a_delivery(n, a_job(n), a_job(n, "crm", state="dead", text=f"answered 404 for {n}")) for n in range(30)]
    first = history.file(batch)
    before = history.reading.by_id((each.id for each in batch), jobs=True)

    again = history.file([*batch, *batch[:5]])

    assert (first.new, again.new) == (30, 0)
    assert history.reading.by_id((each.id for each in batch), jobs=True) == before
    assert kept_counts(history_at) == recount(history_at)
    assert history.reading.count_jobs(HistoryFilter(state="dead")).number == 30


def test_a_row_is_written_only_where_its_round_is_not_older(history: History, history_at: HistoryAddress) -> None:
    # Given a delivery whose dead job was retried and is done now
    one, other = a_job(1, "welcome", state="dead", text="no answer"), a_job(1, "crm")
    history.file([a_delivery(1, one, other)])
    tries = tuple(
        FiledAttempt(number=n, started_ms=BEGIN_MS + n, duration_ms=3, outcome="done" if n == 2 else "dead", error=None)
        for n in (1, 2)
    )
    retried = a_job(1, "welcome", round=1, attempts=2, history=tries[1:])
    names = ("welcome", "crm")
    history.file([a_delivery(1, retried, round=1, names=names)])

    # When a filer comes late with what was before
    history.file([a_delivery(1, one, other, reason="late")])

    found = history.reading.delivery(delivery_id(1))
    assert found
    assert (found.round, found.reason) == (1, None)
    states = {job.action: (job.state, job.round, job.attempts) for job in found.jobs}
    assert states == {"welcome": ("done", 1, 2), "crm": ("done", 0, 1)}
    assert [attempt.number for attempt in found.jobs[0].history] == [1, 2]
    assert kept_counts(history_at) == recount(history_at)
    assert history.reading.count_jobs(HistoryFilter(state="dead")).number == 0


def test_the_first_and_the_last_twenty_attempts_stay_on_record(history: History) -> None:
    def tried(*numbers: int) -> tuple[FiledAttempt, ...]:
        return tuple(
            FiledAttempt(number=n, started_ms=n, duration_ms=1, outcome="later", error="away") for n in numbers
        )

    history.file([a_delivery(1, a_job(1, state="dead", text="away", attempts=15, history=tried(*range(1, 16))))])
    history.file(
        [a_delivery(1, a_job(1, state="dead", text="away", attempts=40, round=1, history=tried(*range(16, 41))))]
    )

    found = history.reading.job("voucherify:evcus_0001:welcome")
    assert found
    assert found.job.attempts == 40
    assert [attempt.number for attempt in found.job.history] == [1, *range(21, 41)]


def test_two_filers_of_the_same_write_it_once(history_at: HistoryAddress) -> None:
    batches = [
        [a_delivery(n, a_job(n), a_job(n, "crm", state="dead", text="x")) for n in range(i, i + 100)]
        for i in range(0, 400, 50)
    ]
    with History(history_at) as one, History(history_at) as other:
        totals: list[int] = []

        def file(history: History, order: list[list[FiledDelivery]]) -> None:
            totals.extend(history.file(batch).new for batch in order)

        threads = [
            threading.Thread(target=file, args=(one, batches)),
            threading.Thread(target=file, args=(other, batches[::-1])),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sum(totals) == 450
    assert kept_counts(history_at) == recount(history_at)


def test_terms_beyond_their_number_count_as_others(
    history: History, history_at: HistoryAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "MAX_TERMS", 3)
    words = ("one", "two", "three", "four", "five")
    history.file([a_delivery(n, a_job(n, state="dead", text=f"refused: {word}")) for n, word in enumerate(words)])

    groups = history.reading.error_groups(HistoryFilter())
    assert [group.count for group in groups] == [2, 1, 1, 1]
    assert groups[0].pattern == terms.OTHERS
    assert kept_counts(history_at) == recount(history_at)


# --- opening


def test_the_tables_are_those_that_are_documented(history: History, history_at: HistoryAddress) -> None:
    with sql(history_at) as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == REVISION
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_opening_at_the_same_time_makes_the_tables_once(history_at: HistoryAddress) -> None:
    opened: list[History] = []
    threads = [threading.Thread(target=lambda: opened.append(History(history_at))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [history.migrated for history in opened].count(True) == 1
    assert len({history.identity() for history in opened}) == 1
    for history in opened:
        history.close()


def test_tables_of_a_later_version_are_refused(history: History, history_at: HistoryAddress) -> None:
    with sql(history_at) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.commit()
    with pytest.raises(HistoryRefused, match=r"revision 9999, which a later Tiercast made.*TIERCAST_HISTORY_URL"):
        History(history_at)


def test_a_history_belongs_to_one_ledger(history: History) -> None:
    own, ledger = history.identity()
    assert ledger is None
    assert history.bind("ledger-1") == own
    assert history.bind("ledger-1") == own
    assert history.identity() == (own, "ledger-1")

    with pytest.raises(HistoryRefused, match=r"belongs to another ledger.*TIERCAST_HISTORY_URL"):
        history.bind("ledger-2")

    history.adopt("ledger-2")
    assert history.bind("ledger-2") == own


def test_files_of_a_history_are_our_own(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "history.db"
    path.parent.mkdir()
    path.touch(mode=0o644)
    with address_of("sqlite", path.parent) as address, History(address) as history:
        history.file([a_delivery()])
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == ["history.db", "history.db-shm", "history.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_database_that_is_away_says_so() -> None:
    away = HistoryAddress.read("postgresql://tiercast:hunter-two@127.0.0.1:1/tiercast")
    with pytest.raises(HistoryUnavailable, match=r"127\.0\.0\.1:1/tiercast does not answer") as caught:
        History(away)
    assert "hunter-two" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "history.db").write_bytes(b"no database, but long enough to be read as one" * 100)
    with address_of("sqlite", tmp_path) as address, pytest.raises(HistoryRefused, match="not a database"):
        History(address)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    address = HistoryAddress.read(f"sqlite:///{tmp_path}/file/history.db")
    with pytest.raises(HistoryUnavailable, match=r"does not answer.*TIERCAST_HISTORY_URL"):
        History(address)
