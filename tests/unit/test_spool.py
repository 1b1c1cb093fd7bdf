"""The spool: synced files that one process owns, a breaker before the ledger, and the mover that empties them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from receiver.commit import Triple
from receiver.spool import Breaker, Mover, SpoolError, SpoolFolder, SpoolFull, SpoolingStore
from receiver.spool.file import SpoolFile
from receiver.store import Recorded, Spooled
from tiercast.errors import LedgerError, LedgerFull, LedgerUnavailable, SettingsError
from tiercast.ids import new_delivery_id, received_ms
from tiercast.ringer import BellRinger

ROOT = Path(__file__).parents[2]


@dataclass
class Bells:
    bells: Sequence[str] = ("deliveries/shop",)


@dataclass
class FakeLedger:
    """A ledger in memory, which knows deliveries by their id and fails as it is told."""

    error: Exception | None = None
    lost_reply: bool = False
    full: set[str] = field(default_factory=set)
    room: int = 10**6
    held: dict[str, tuple[str, bytes, int | None]] = field(default_factory=dict)
    calls: int = 0
    repeated: int = 0

    def record(self, deliveries: Sequence[Triple], *, due_ms: Sequence[int] | None = None) -> Recorded:
        self.calls += 1
        if self.error is not None:
            raise self.error
        if {source for source, _, _ in deliveries} & self.full or len(self.held) + len(deliveries) > self.room:
            raise LedgerFull("full")
        for n, (source, delivery, body) in enumerate(deliveries):
            self.repeated += delivery in self.held
            self.held.setdefault(delivery, (source, body, due_ms[n] if due_ms else None))
        if self.lost_reply:
            raise LedgerUnavailable("the answer was lost")
        return Bells()

    def ping(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[SpoolFolder]:
    opened = SpoolFolder(tmp_path / "spool", max_bytes=2**24)
    yield opened
    opened.close()


@pytest.fixture
def breaker() -> Breaker:
    return Breaker()


@pytest.fixture
def store(ledger: FakeLedger, folder: SpoolFolder, breaker: Breaker) -> SpoolingStore:
    return SpoolingStore(ledger, folder, breaker)


@pytest.fixture
def rung() -> list[str]:
    return []


@pytest.fixture
def mover(ledger: FakeLedger, folder: SpoolFolder, breaker: Breaker, rung: list[str]) -> Iterator[Mover]:
    bells = BellRinger(rung.append)
    yield Mover(ledger, folder, breaker, bells)
    bells.close()


def triples(count: int, *, source: str = "shop", size: int = 100) -> list[Triple]:
    return [(source, new_delivery_id(), os.urandom(size)) for _ in range(count)]


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


# --- files


def test_file_gives_back_what_it_got_in_order_and_forgets_what_was_moved(tmp_path: Path) -> None:
    file = SpoolFile.create(tmp_path / "a.db")
    sent = [*triples(2), ("shop", new_delivery_id(), b"\x00\xff"), ("shop", new_delivery_id(), b"")]
    file.append(sent[:3])
    file.append(sent[3:])

    waiting = file.oldest(10, most_bytes=10**6)

    assert [one.triple for one in waiting] == sent
    assert [one.received for one in waiting] == [received_ms(delivery) for _, delivery, _ in sent]
    file.delete(waiting[:3])
    assert [one.triple for one in file.oldest(10, most_bytes=10**6)] == sent[3:]
    assert file.count == 1
    file.close()


def test_batches_are_of_one_source_and_bounded(tmp_path: Path) -> None:
    file = SpoolFile.create(tmp_path / "a.db")
    mixed = [*triples(1, size=600), *triples(2, source="other"), *triples(3, size=600)]
    file.append(mixed)

    assert [one.id for one in file.oldest(10, most_bytes=1500)] == [mixed[0][1], mixed[3][1]]
    assert [one.id for one in file.oldest(10, most_bytes=1)] == [mixed[0][1]]
    assert [one.source for one in file.oldest(10, most_bytes=10**6, without={"shop"})] == ["other"] * 2
    assert file.oldest(10, most_bytes=1, without={"shop", "other"}) == []
    file.delete(file.oldest(10, most_bytes=10**6))
    file.delete(file.oldest(10, most_bytes=10**6))
    file.close()


def test_files_are_for_their_owner_only_and_an_empty_one_leaves_nothing(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path / "deep" / "spool", max_bytes=2**24)
    folder.append(triples(3))

    modes = {path.name.partition(".")[2]: stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()}
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert modes == {"db": 0o600, "db-wal": 0o600, "db-shm": 0o600, "lock": 0o600}

    folder.files[-1].delete(folder.files[-1].oldest(10, most_bytes=10**6))
    folder.close()
    assert list(folder.path.iterdir()) == []


def test_every_append_is_synced(tmp_path: Path) -> None:
    file = SpoolFile.create(tmp_path / "a.db")
    try:
        assert file._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert file._db.execute("PRAGMA synchronous").fetchone() == (2,)
    finally:
        file.close()


def test_what_has_left_the_spool_is_not_in_its_files_any_more(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path, max_bytes=2**24)
    mark = b"ada@example.com"
    folder.append([("shop", new_delivery_id(), mark * 50) for _ in range(20)])
    assert any(mark in path.read_bytes() for path in tmp_path.iterdir())

    folder.files[-1].delete(folder.files[-1].oldest(100, most_bytes=10**7))

    assert not [path.name for path in tmp_path.iterdir() if mark in path.read_bytes()]
    folder.close()


def test_full_disk_refuses_the_whole_batch_and_passes(tmp_path: Path) -> None:
    # Given a file that may not grow (SQLite reports that as it reports a full disk)
    file = SpoolFile.create(tmp_path / "a.db")
    first = triples(3)
    file.append(first)
    file._db.execute("PRAGMA max_page_count = 5")

    with pytest.raises(SpoolFull, match="TIERCAST_SPOOL_DIR"):
        file.append(triples(2, size=50_000))
    assert file.count == 3

    # When there is room again, then it works on, and nothing of the refused is there
    file._db.execute("PRAGMA max_page_count = 100000")
    more = triples(2, size=50_000)
    file.append(more)
    waiting = file.oldest(10, most_bytes=10**7)
    assert [one.triple for one in waiting] == first + more
    file.delete(waiting)
    file.close()


def test_rows_that_another_process_deletes_are_no_longer_counted(tmp_path: Path) -> None:
    file = SpoolFile.create(tmp_path / "a.db")
    file.append(triples(3))
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as other, other:
        other.execute("DELETE FROM deliveries")

    assert file.oldest(10, most_bytes=10**6) == []
    assert file.count == 0
    file.close()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_deleted_is_passed_over_and_goes_when_there_is_room(tmp_path: Path) -> None:
    # Given deliveries of two sources, in a file that takes no more writes
    file = SpoolFile.create(tmp_path / "a.db")
    first, other, last = triples(2), triples(1, source="other"), triples(1)
    file.append([*first, *other, *last])
    file._db.execute("PRAGMA query_only = ON")

    # When they are moved one after the other, then each is handed out once
    seen = []
    while batch := file.oldest(2, most_bytes=10**6):
        seen += [one.triple for one in batch]
        assert not file.delete(batch)
    assert seen == [*first, *other, *last]
    assert (file.count, file.is_spent) == (0, True)

    # And when it takes writes again, then what comes is handed out, and all goes
    file._db.execute("PRAGMA query_only = OFF")
    more = triples(1)
    file.append(more)
    assert (file.count, file.is_spent) == (1, False)
    assert [one.triple for one in file.oldest(9, most_bytes=10**6)] == more
    assert file.delete(file.oldest(9, most_bytes=10**6))
    assert file._one("SELECT count(*) FROM deliveries") == 0
    file.close()
    assert list(tmp_path.iterdir()) == []


def test_what_comes_after_is_not_taken_for_moved_though_rows_were_deleted(tmp_path: Path) -> None:
    # Given rows that were moved but not deleted, then deleted by `tiercast forget`
    file = SpoolFile.create(tmp_path / "a.db")
    file.append(triples(3))
    file._db.execute("PRAGMA query_only = ON")
    file.delete(file.oldest(9, most_bytes=10**6))
    file._db.execute("PRAGMA query_only = OFF")
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as other, other:
        other.execute("DELETE FROM deliveries")

    more = triples(1)
    file.append(more)

    assert [one.triple for one in file.oldest(9, most_bytes=10**6)] == more
    file.delete(file.oldest(9, most_bytes=10**6))
    file.close()


# --- the folder


def test_folder_that_cannot_be_used_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")

    for path in (taken, taken / "below"):
        with pytest.raises(SettingsError, match="TIERCAST_SPOOL_DIR"):
            SpoolFolder(path, max_bytes=2**24)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(mode)
    with pytest.raises(SettingsError, match=r"TIERCAST_SPOOL_DIR.*chmod 700"):
        SpoolFolder(tmp_path / "spool", max_bytes=2**24)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    os.chown(tmp_path / "spool", 65534, 65534)
    with pytest.raises(SettingsError, match=r"TIERCAST_SPOOL_DIR.*belongs to user 65534"):
        SpoolFolder(tmp_path / "spool", max_bytes=2**24)


def test_a_folder_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o755)
    SpoolFolder(tmp_path / "spool", max_bytes=2**24).close()
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_limit_counts_the_files_of_all_processes_and_frees_as_they_empty(tmp_path: Path) -> None:
    one = SpoolFolder(tmp_path, max_bytes=400_000)
    other = SpoolFolder(tmp_path, max_bytes=400_000)
    one.append(triples(25, size=10_000))
    one.files[-1]._db.execute("PRAGMA wal_checkpoint")
    other._looked = float("-inf")

    with pytest.raises(SpoolFull, match="TIERCAST_SPOOL_MAX"):
        other.append(triples(20, size=10_000))
    with pytest.raises(SpoolFull, match="TIERCAST_SPOOL_MAX"):
        one.append(triples(20, size=10_000))

    one.files[-1].delete(one.files[-1].oldest(100, most_bytes=10**7))
    one.append(triples(20, size=10_000))
    for folder in (one, other):
        folder.files[-1].delete(folder.files[-1].oldest(100, most_bytes=10**7))
        folder.close()


def test_files_of_the_living_are_left_alone_and_those_of_the_dead_are_adopted(
    tmp_path: Path, ledger: FakeLedger
) -> None:
    # Given a process that spools three deliveries and lives
    code = (
        "import sys; from pathlib import Path\n"
        "from receiver.spool import SpoolFolder; from tiercast.ids import new_delivery_id\n"
        "folder = SpoolFolder(Path(sys.argv[1]), max_bytes=2**24)\n"
        "folder.append([('shop', new_delivery_id(), b'%d' % n) for n in range(3)])\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    folder = SpoolFolder(tmp_path, max_bytes=2**24)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        folder.adopt()
        assert folder.count == 0

        # When it is killed
        process.kill()
        process.wait()
        folder.adopt()

        # Then its deliveries are ours, and its file goes when they are moved
        assert folder.count == 3
        Mover(ledger, folder, Breaker(), BellRinger(lambda lane: None)).round()
        assert sorted(body for _, body, _ in ledger.held.values()) == [b"0", b"1", b"2"]
        folder.adopt()
        assert [path for path in tmp_path.glob("*.db")] == [folder.files[-1].path]
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        folder.close()
    assert list(tmp_path.iterdir()) == []


def test_unreadable_file_is_told_once_and_holds_up_no_other(tmp_path: Path, ledger: FakeLedger) -> None:
    (tmp_path / "00.db").write_bytes(b"not a database" * 100)
    newer = sqlite3.connect(tmp_path / "01.db")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    left = SpoolFolder(tmp_path, max_bytes=2**24)
    left.append(triples(2))
    left.close()
    folder = SpoolFolder(tmp_path, max_bytes=2**24)

    with capture_logs() as logs:
        folder.adopt()
        folder.adopt()
        Mover(ledger, folder, Breaker(), BellRinger(lambda lane: None)).round()

    assert [line["file"] for line in logs if line["event"] == "spool.unreadable"] == ["00.db", "01.db"]
    assert len(ledger.held) == 2
    folder.close()
    assert (tmp_path / "00.db").exists()


def test_file_that_could_not_be_opened_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = SpoolFolder(tmp_path, max_bytes=2**24)
    left.append(triples(2))
    left.close()
    folder = SpoolFolder(tmp_path, max_bytes=2**24)

    # Given a disk without room for what SQLite needs to open a file
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(SpoolFile, "__init__", no_room)
        folder.adopt()
        folder.adopt()
        assert folder.count == 0
    assert [line["event"] for line in logs] == ["spool.unreadable"]

    # When there is room
    folder.adopt()

    assert folder.count == 2
    folder.close()


def no_room(*_: object, **__: object) -> None:
    raise SpoolFull("the disk of the spool is full (TIERCAST_SPOOL_DIR)")


def test_folder_on_a_full_disk_is_opened_and_takes_deliveries_once_there_is_room(
    tmp_path: Path, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(SpoolFile, "__init__", no_room)
        with capture_logs() as logs:
            folder = SpoolFolder(tmp_path, max_bytes=2**24)
        store = SpoolingStore(ledger, folder, Breaker())
        assert [line["event"] for line in logs] == ["spool.disk_full"]
        assert list(tmp_path.iterdir()) == []

        # With the ledger there, it stores; without, it says that it cannot
        store.record(triples(1))
        store.ping()
        ledger.error = LedgerUnavailable("away")
        with pytest.raises(SpoolFull):
            store.record(triples(1))
        with pytest.raises(SpoolFull):
            store.ping()

    assert isinstance(store.record(triples(1)), Spooled)
    store.ping()
    assert folder.count == 1
    folder.close()


def test_after_a_refused_append_a_ping_tries_whether_there_is_room(tmp_path: Path, ledger: FakeLedger) -> None:
    folder = SpoolFolder(tmp_path, max_bytes=2**24)
    store = SpoolingStore(ledger, folder, Breaker())
    ledger.error = LedgerUnavailable("away")
    database = folder.files[-1]._db
    database.execute("PRAGMA query_only = ON")
    store.ping()
    with pytest.raises(SpoolError):
        store.record(triples(1))

    with pytest.raises(SpoolError):
        store.ping()

    database.execute("PRAGMA query_only = OFF")
    store.ping()
    folder.close()


def test_what_a_crash_left_of_a_file_that_is_gone_is_removed(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path, max_bytes=2**24)
    for end in ("lock", "db-wal", "db-shm"):
        (tmp_path / f"gone.{end}").write_bytes(b"ada@example.com")

    folder.adopt()

    assert not list(tmp_path.glob("gone*"))
    folder.close()


# --- the store


def test_ledger_that_fails_is_not_asked_again_until_the_mover_saw_it_answer(
    store: SpoolingStore, ledger: FakeLedger, mover: Mover, folder: SpoolFolder, rung: list[str]
) -> None:
    sent = triples(4)
    with capture_logs() as logs:
        # Given a ledger that is away
        ledger.error = LedgerUnavailable("away")
        outcomes = [store.record([one]) for one in sent[:3]]

        # Then it was asked once, and all are spooled
        assert ledger.calls == 1
        assert all(isinstance(outcome, Spooled) for outcome in outcomes)
        mover.round()
        assert folder.count == 3

        # When it is back, then the mover finds out, and new ones go straight to it
        ledger.error = None
        mover.round()
        assert not isinstance(store.record(sent[3:]), Spooled)

    assert [(delivery, body) for delivery, (_, body, _) in ledger.held.items()] == [one[1:] for one in sent]
    assert [due for _, _, due in ledger.held.values()] == [*(received_ms(one[1]) for one in sent[:3]), None]
    assert folder.count == 0
    until(lambda: rung == ["deliveries/shop"])
    assert [line["event"] for line in logs] == [
        "ledger.away", "spool.opened", "deliveries.moved", "ledger.back", "spool.closed",
    ]  # fmt: skip


def test_write_whose_answer_was_lost_is_not_doubled(store: SpoolingStore, ledger: FakeLedger, mover: Mover) -> None:
    ledger.lost_reply = True
    sent = triples(3)
    assert isinstance(store.record(sent), Spooled)
    assert len(ledger.held) == 3

    ledger.lost_reply = False
    mover.round()

    assert ledger.repeated == 3
    assert list(ledger.held) == [delivery for _, delivery, _ in sent]


def test_crash_between_the_ledgers_confirmation_and_the_deletion_doubles_nothing(
    store: SpoolingStore, ledger: FakeLedger, mover: Mover, folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.error = LedgerUnavailable("away")
    store.record(triples(5))
    ledger.error = None

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SpoolFile, "delete", crash)
        with pytest.raises(KeyboardInterrupt):
            mover.round()
    assert (len(ledger.held), folder.count) == (5, 5)

    mover.round()
    assert (len(ledger.held), ledger.repeated, folder.count) == (5, 5, 0)


def test_full_ledger_is_asked_each_time_and_a_full_source_holds_up_no_other(
    store: SpoolingStore, ledger: FakeLedger, mover: Mover, folder: SpoolFolder, breaker: Breaker
) -> None:
    # Given one source whose lane is full
    ledger.full = {"shop"}
    assert isinstance(store.record(triples(2)), Spooled)
    assert isinstance(store.record([*triples(1), *triples(1, source="other")]), Spooled)
    assert not breaker.reason
    assert not isinstance(store.record(triples(1, source="other")), Spooled)

    # When the mover goes round, then what can go goes
    mover.round()
    assert folder.count == 3
    assert {source for source, _, _ in ledger.held.values()} == {"other"}

    ledger.full = set()
    mover.round()
    assert (folder.count, len(ledger.held)) == (0, 5)


def test_room_for_less_than_what_waits_is_used(
    store: SpoolingStore, ledger: FakeLedger, mover: Mover, folder: SpoolFolder, breaker: Breaker
) -> None:
    # Given ten that wait, and room for three
    ledger.error = LedgerUnavailable("away")
    sent = triples(10)
    store.record(sent)
    ledger.error, ledger.room = None, 3

    mover.round()

    assert list(ledger.held) == [delivery for _, delivery, _ in sent[:3]]
    ledger.room = 100
    mover.round()
    assert (len(ledger.held), folder.count) == (10, 0)


def test_full_spool_means_stored_nowhere(tmp_path: Path, ledger: FakeLedger) -> None:
    folder = SpoolFolder(tmp_path, max_bytes=200_000)
    store = SpoolingStore(ledger, folder, Breaker())
    ledger.error = LedgerUnavailable("away")
    store.record(triples(1))
    note = store.ping()
    assert note is not None
    assert "1 deliveries wait in the spool" in note

    with pytest.raises(LedgerError, match="TIERCAST_SPOOL_MAX"):
        [store.record(triples(1, size=20_000)) for _ in range(20)]

    with pytest.raises(SpoolFull):
        folder.check(20_000)
    folder.files[-1].delete(folder.files[-1].oldest(100, most_bytes=10**7))
    folder.close()


def test_breaker_that_opened_for_something_that_could_not_be_spooled_closes_again(
    tmp_path: Path, ledger: FakeLedger
) -> None:
    folder, breaker = SpoolFolder(tmp_path, max_bytes=100), Breaker()
    ledger.error = LedgerUnavailable("away")
    with pytest.raises(SpoolFull):
        SpoolingStore(ledger, folder, breaker).record(triples(1))
    mover = Mover(ledger, folder, breaker, BellRinger(lambda lane: None))
    mover.round()
    assert breaker.reason == "away"

    ledger.error = None
    mover.round()

    assert not breaker.reason
    folder.close()


def test_what_a_full_disk_keeps_is_moved_once_and_goes_with_its_file(
    store: SpoolingStore, ledger: FakeLedger, mover: Mover, folder: SpoolFolder
) -> None:
    # Given deliveries in a file that takes no more writes
    ledger.error = LedgerUnavailable("away")
    store.record(triples(10))
    file = folder.files[-1]
    file._db.execute("PRAGMA query_only = ON")
    ledger.error = None

    # When they are moved
    with capture_logs() as logs:
        mover.round()
        mover.round()
    assert (len(ledger.held), ledger.repeated, folder.count) == (10, 0, 0)
    assert "spool.not_emptied" in [line["event"] for line in logs]

    # Then the file goes, which makes room, and the next are spooled in another
    folder.adopt()
    assert list(folder.path.iterdir()) == []
    ledger.error = LedgerUnavailable("away")
    store.record(triples(1))
    ledger.error = None
    mover.round()
    mover.round()
    assert (len(ledger.held), ledger.repeated, folder.count) == (11, 0, 0)


def test_mover_runs_by_itself_and_stops(store: SpoolingStore, ledger: FakeLedger, mover: Mover) -> None:
    ledger.error = LedgerUnavailable("away")
    store.record(triples(10))
    mover.start()
    ledger.error = None

    until(lambda: len(ledger.held) == 10)
    mover.stop()
    assert not mover._thread.is_alive()


def test_file_that_fails_is_told_and_the_others_are_moved(
    store: SpoolingStore, ledger: FakeLedger, mover: Mover, tmp_path: Path, folder: SpoolFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ledger.error = LedgerUnavailable("away")
    left = SpoolFolder(folder.path, max_bytes=2**24)
    left.append(triples(1))
    left.close()
    folder.adopt()
    store.record(triples(2))
    ledger.error = None
    bad = folder.files[0]

    def fail(*_: object, **__: object) -> None:
        raise SpoolError("the spool fails (SQLITE_IOERR)")

    monkeypatch.setattr(bad, "oldest", fail)
    with capture_logs() as logs:
        mover.round()

    assert len(ledger.held) == 2
    assert [line["reason"] for line in logs if line["event"] == "spool.stuck"] == ["the spool fails (SQLITE_IOERR)"]
