"""One action in a process: what it claims, how it shares work out, hands back, renews, closes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kinds import Bulk, Scripted, marks
from tests.stack import wait_for
from tests.unit.test_attempts import held
from tiercast.actions import Action
from tiercast.config.model import ActionSpec, Limit
from tiercast.config.templates import Options
from tiercast.ledger import Ledger
from tiercast.ledger.model import Claim, HeldJob
from worker import desk as desk_module
from worker.desk import Desk
from worker.pace import Pace

LEASE = 30.0


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects"


Make = Callable[..., Desk]


@pytest.fixture
def make(effects: Path, ledger: Ledger) -> Make:
    def make(cls: type[Action] = Scripted, *, seconds: float = 0.05, **changes: Any) -> Desk:
        found = {"effects": str(effects), "behaviour": "{{ event.customer.name }}", "seconds": seconds}
        options = Options(cls.Options(), found)
        return Desk(ActionSpec(name="act", kind=cls.kind, cls=cls, options=options, **changes), ledger)

    return make


def start(desk: Desk, *jobs: HeldJob, age: float = 0.0, per_call: int = 1) -> None:
    desk.start(jobs, time.monotonic() - age, per_call=per_call)


def several(behaviour: str, count: int, **changes: Any) -> list[HeldJob]:
    return [held(behaviour, number, **changes) for number in range(count)]


def verdicts(desk: Desk, count: int) -> dict[str, str]:
    """Wait for so many verdicts, and take them."""
    found: dict[str, str] = {}

    def more() -> bool:
        with desk.taking() as taken:
            found.update({v.outcome.job.split(":")[1]: v.outcome.verdict for v in taken})
        return len(found) >= count

    wait_for(more, seconds=20, every=0.01)
    return found


def size(claim: Claim | None) -> int:
    return claim.n if claim else 0


# --- claiming


def test_before_it_knows_better_each_thread_takes_one(make: Make) -> None:
    assert size(make(concurrency=3).claim("t")) == 3
    assert size(make(concurrency=100).claim("t")) == desk_module.THREADS
    assert size(make(Bulk, concurrency=2, batch=100).claim("t")) == 20
    assert size(make(Bulk, concurrency=2, batch=4).claim("t")) == 8


@pytest.mark.parametrize(("mean", "expected"), [(0.001, 50), (0.1, 10), (0.5, 2), (5.0, 1)])
def test_it_claims_what_it_should_get_done_within_a_second(make: Make, mean: float, expected: int) -> None:
    desk = make(concurrency=1)
    desk._pace.learn(mean)

    assert size(desk.claim("t")) == expected
    assert desk.is_quick() == (mean < 0.1)


def test_it_learns_from_what_it_performs(make: Make) -> None:
    desk = make(concurrency=2)
    start(desk, *several("done", 20))
    verdicts(desk, 20)

    assert size(desk.claim("t")) > 2


def test_a_claim_names_what_all_workers_may_hold_and_the_limits(make: Make) -> None:
    desk = make(Bulk, concurrency=3, batch=5, limits=(Limit(name="crm", calls=19, seconds=10.0),))

    claim = desk.claim("tok")

    assert claim is not None
    assert (claim.token, claim.cap, claim.per_call) == ("tok", 15, 5)
    assert claim.limits == (("crm", round(10 / 19 / 0.95 * 1e6)),)


def test_with_all_threads_busy_it_claims_nothing(make: Make) -> None:
    desk = make(concurrency=2, seconds=0.5)
    start(desk, *several("slow", 2))

    assert desk.claim("t") is None
    assert not desk.is_idle()
    verdicts(desk, 2)
    wait_for(lambda: desk.claim("t"), seconds=5)
    assert desk.is_idle()


# --- performing


def test_each_job_is_performed_once_and_gets_one_verdict(make: Make, effects: Path) -> None:
    desk = make(concurrency=4)
    start(desk, *several("done", 50))

    assert set(verdicts(desk, 50).values()) == {"done"}
    assert Counter(mark.key for mark in marks(effects)) == {f"voucherify:ev{n}:act": 1 for n in range(50)}


@pytest.mark.parametrize(("batch", "calls"), [(100, 1), (10, 3)])
def test_a_bulk_call_takes_at_most_a_batch(make: Make, effects: Path, batch: int, calls: int) -> None:
    desk = make(Bulk, concurrency=1, batch=batch)
    desk._pace.learn(0.001)
    start(desk, *several("done", 30))

    assert set(verdicts(desk, 30).values()) == {"done"}
    assert len(marks(effects, "call")) == calls


def test_under_a_limit_each_bulk_call_has_the_jobs_that_its_start_was_reserved_for(make: Make, effects: Path) -> None:
    desk = make(Bulk, concurrency=4, batch=100, limits=(Limit(name="crm", calls=1, seconds=1.0),))
    desk._pace.learn(0.2)
    claim = desk.claim("t")
    assert claim is not None
    assert claim.per_call == 5, "as many as a thread takes on"

    start(desk, *several("done", 12), per_call=claim.per_call)

    verdicts(desk, 12)
    assert len(marks(effects, "call")) == 3


def test_a_job_starts_no_earlier_than_its_rate_allows(make: Make) -> None:
    desk = make()
    began = time.monotonic()
    start(desk, held("done", delay=0.4))

    verdicts(desk, 1)
    assert time.monotonic() - began >= 0.4


def test_with_too_little_left_of_its_lease_no_job_begins(make: Make, effects: Path) -> None:
    desk = make()
    start(desk, held("done", 1), age=LEASE - 1)
    start(desk, held("done", 2), age=LEASE - 20)

    assert verdicts(desk, 2) == {"ev1": "back", "ev2": "done"}
    assert len(marks(effects)) == 1


# --- handing back


@pytest.fixture
def stuck(make: Make, effects: Path) -> Iterator[Desk]:
    """A desk of one thread whose first job hangs for a second, with two behind it."""
    desk = make(concurrency=1, timeout=1.0)
    start(desk, held("hang", 1), held("done", 2), held("done", 3))
    wait_for(lambda: marks(effects, "begin"), seconds=10, every=0.01)
    yield desk
    wait_for(desk.is_idle if not desk._verdicts else lambda: not desk._running, seconds=10)


def test_what_waits_behind_a_stuck_job_is_handed_back(stuck: Desk, effects: Path) -> None:
    stuck.hand_back_waiting(older=60.0)
    assert stuck._verdicts == [], "not yet"

    def is_handed_back() -> bool:
        stuck.hand_back_waiting(older=0.2)
        return bool(stuck._verdicts)

    wait_for(is_handed_back, seconds=10, every=0.01)
    assert verdicts(stuck, 3) == {"ev1": "later", "ev2": "back", "ev3": "back"}
    assert marks(effects) == []


def test_closing_hands_back_what_has_not_begun_and_begins_nothing_more(stuck: Desk, effects: Path) -> None:
    stuck.close()
    assert stuck.running() == 1
    # A drain that had claimed just before
    start(stuck, held("done", 4))

    assert verdicts(stuck, 4) == {"ev1": "later", "ev2": "back", "ev3": "back", "ev4": "back"}
    assert stuck.claim("t") is None
    assert marks(effects) == []


def test_a_lost_lease_is_not_begun_and_not_settled(stuck: Desk, effects: Path) -> None:
    keys = [key for key, _ in stuck.held()]
    assert keys == [f"voucherify:ev{n}:act" for n in (1, 2, 3)]

    stuck.renewed(dict.fromkeys(keys, False), time.monotonic())

    # What runs cannot be called back: it will end, and its settling change nothing.
    assert verdicts(stuck, 1) == {"ev1": "later"}
    wait_for(stuck.is_idle, seconds=10)
    assert marks(effects) == []


def test_a_lease_that_was_renewed_lasts(make: Make, effects: Path) -> None:
    desk = make(concurrency=1, timeout=1.0)
    start(desk, held("hang", 1), held("done", 2), age=LEASE - 4)
    wait_for(lambda: marks(effects, "begin"), seconds=10, every=0.01)

    desk.renewed({"voucherify:ev2:act": True}, time.monotonic())

    assert verdicts(desk, 2) == {"ev1": "later", "ev2": "done"}


def test_a_vendor_that_refuses_everyone_is_not_called_for_those_that_wait(make: Make, effects: Path) -> None:
    desk = make(concurrency=1)
    desk._pace.learn(0.001)
    start(desk, held("everyone", 1), *[held("done", number) for number in range(2, 10)])

    found = verdicts(desk, 9)
    assert found.pop("ev1") == "later"
    assert set(found.values()) == {"back"}
    assert marks(effects) == []


def test_where_no_thread_can_be_started_jobs_are_handed_back(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = make()

    def refuse(task: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(desk._pool, "run", refuse)
    start(desk, *several("done", 3))

    assert set(verdicts(desk, 3).values()) == {"back"}


# --- settling


def test_verdicts_whose_settling_failed_come_first_the_next_time(make: Make) -> None:
    desk = make(concurrency=1)
    start(desk, held("done", 1))
    desk.wait(10)

    def fail() -> None:
        with desk.taking() as taken:
            assert [v.outcome.job for v in taken] == ["voucherify:ev1:act"]
            assert not desk.is_idle(), "they are under way"
            assert desk.is_settling()
            start(desk, held("permanent", 2))
            desk.wait(10)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()

    with desk.taking() as taken:
        assert [v.outcome.verdict for v in taken] == ["done", "dead"]
        assert not desk.is_idle()
    assert desk.is_idle()
    assert not desk.is_settling()


def test_waiting_ends_with_the_last_job(make: Make) -> None:
    desk = make(concurrency=1, seconds=0.2)
    assert desk.wait(10) is False, "nothing runs"
    start(desk, held("slow"))
    assert desk.wait(10) is True


# --- jobs that cannot be ended


def test_a_job_past_its_time_out_and_grace_is_overdue_and_not_renewed(
    make: Make, effects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "grace_of", lambda spec: 0.1)
    desk = make(concurrency=2, timeout=0.2, seconds=1.0)
    start(desk, held("slow", 1))
    wait_for(lambda: marks(effects, "begin"), seconds=10, every=0.01)
    assert desk.overdue() == []
    assert [key for key, _ in desk.held()] == ["voucherify:ev1:act"]

    wait_for(desk.overdue, seconds=10, every=0.01)

    assert desk.held() == []
    assert desk.running() == 0
    assert verdicts(desk, 1) == {"ev1": "done"}


def test_a_bell_is_passed_on_now_and_then_and_not_by_a_process_that_ends(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make()
    assert [desk.may_pass_on() for _ in range(3)] == [True, False, False]

    now = time.monotonic()
    monkeypatch.setattr("worker.desk.time.monotonic", lambda: now + 5)
    assert desk.may_pass_on()
    monkeypatch.setattr("worker.desk.time.monotonic", lambda: now + 10)
    desk.close()
    assert not desk.may_pass_on()


# --- pace


def test_threads_are_as_many_as_keep_one_at_the_processor() -> None:
    # Given jobs that wait for nine tenths of their time, and such that compute
    waiting, computing = Pace(None), Pace(None)
    waiting.learn(0.1, 0.01)
    computing.learn(0.001, 0.001)

    assert (waiting.threads(3), waiting.threads(100)) == (3, 20)
    assert (computing.threads(3), computing.threads(100)) == (2, 2)


def test_taking_turns_does_not_make_a_job_look_slow() -> None:
    # Given 16 threads with jobs of a millisecond's work each, so that each takes 16 to come round
    pace = Pace(None)
    for _ in range(30):
        pace.learn(0.016, 0.001, beside=15)

    assert pace.threads(200) == 2
    assert pace.portion() == 50
    assert pace.is_quick(50)
