"""Outcomes that await settling: none is lost while the ledger is away, none makes the ledger refuse its neighbours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from tests.stack import wait_for
from tiercast.errors import LedgerError, LedgerUnavailable
from tiercast.ledger.model import Claim, Exchange, HeldJob, Hold, Outcome
from worker.execution.outbox import ENOUGH_OUTCOMES, LINGER_SECONDS, Outbox

#: Seconds that no wait of a test should take.
LONG_SECONDS = 20.0


def outcome(name: str, text: str | None = None, *, hold: Hold | None = None) -> Outcome:
    return Outcome(job=name, token="tok", verdict="done", text=text, hold=hold)


class FakeLedger:
    """Settles what is not refused. `refuses` says of one outcome whether the ledger refuses the script for it."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], Claim | None]] = []
        self.settled: list[str] = []
        self.away = 0
        self.refuses: Callable[[Outcome], bool] = lambda _: False
        self.refuses_claims = False
        self.not_ours: set[str] = set()

    def jobs(self, outcomes: list[Outcome], claim: Claim | None) -> Exchange[HeldJob]:
        self.calls.append(([each.job for each in outcomes], claim))
        if self.away:
            self.away -= 1
            raise LedgerUnavailable("away")
        if any(self.refuses(each) for each in outcomes) or (claim and self.refuses_claims):
            raise LedgerError("refused")
        mine = [each.job for each in outcomes if each.job not in self.not_ours]
        self.settled += mine
        return Exchange([(job, "done", "") for job in mine], [], [], False)


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def noted() -> list[str]:
    return []


@pytest.fixture
def outbox(ledger: FakeLedger, noted: list[str]) -> Outbox:
    return Outbox(ledger.jobs, lambda settled: noted.append(settled.job))


def test_outcomes_are_settled_and_the_next_jobs_claimed_in_one_exchange(
    outbox: Outbox, ledger: FakeLedger, noted: list[str]
) -> None:
    outbox.put(outcome("a"))
    outbox.put(outcome("b"))
    claim = Claim(token="t", n=5)

    assert outbox.exchange(claim) is not None

    assert ledger.calls == [(["a", "b"], claim)]
    assert noted == ["a", "b"]
    assert (len(outbox), outbox.age) == (0, 0.0)


def test_there_is_no_exchange_about_nothing(outbox: Outbox, ledger: FakeLedger) -> None:
    assert outbox.exchange(None) is None
    assert ledger.calls == []


def test_outcomes_are_kept_in_their_order_while_the_ledger_is_away(
    outbox: Outbox, ledger: FakeLedger, noted: list[str]
) -> None:
    ledger.away = 2
    for name in "abc":
        outbox.put(outcome(name))
        if name != "c":
            with pytest.raises(LedgerUnavailable):
                outbox.exchange(None)
    assert len(outbox) == 3

    outbox.exchange(None)

    assert ledger.settled == noted == ["a", "b", "c"]


def test_an_outcome_that_the_ledger_refuses_takes_no_neighbour_along(
    outbox: Outbox, ledger: FakeLedger, noted: list[str]
) -> None:
    # Given one whose text the ledger cannot take
    ledger.refuses = lambda each: each.text == "bad"
    for name in "abc":
        outbox.put(outcome(name, "bad" if name == "b" else "good"))

    # Then it is settled without its text, and the neighbours as they are
    with pytest.raises(LedgerError):
        outbox.exchange(None)
    assert ledger.settled == noted == ["a", "b", "c"]
    assert len(outbox) == 0


def test_a_reason_of_a_hold_that_the_ledger_refuses_does_not_keep_a_job_from_settling(
    outbox: Outbox, ledger: FakeLedger
) -> None:
    ledger.refuses = lambda each: each.hold is not None
    outbox.put(outcome("a", hold=Hold(seconds=300.0, cause="setting", reason="bad")))
    with pytest.raises(LedgerError):
        outbox.exchange(None)
    assert ledger.settled == ["a"]


def test_an_outcome_that_is_refused_in_any_form_is_dropped_and_its_neighbours_settle(
    outbox: Outbox, ledger: FakeLedger, noted: list[str]
) -> None:
    ledger.refuses = lambda each: each.job == "b"
    for name in "abc":
        outbox.put(outcome(name))
    with pytest.raises(LedgerError):
        outbox.exchange(None)
    assert noted == ["a", "c"]
    assert len(outbox) == 0


def test_a_refused_claim_costs_no_outcome(outbox: Outbox, ledger: FakeLedger, noted: list[str]) -> None:
    ledger.refuses_claims = True
    outbox.put(outcome("a", "good"))
    with pytest.raises(LedgerError):
        outbox.exchange(Claim(token="t", n=1))
    assert noted == ["a"]


def test_the_ledger_going_away_while_outcomes_are_settled_one_by_one_loses_none(
    outbox: Outbox, ledger: FakeLedger, noted: list[str]
) -> None:
    # Given a refusal of three, after which the ledger goes away at the second
    def refuse(each: Outcome) -> bool:
        if len(ledger.calls) == 3:
            ledger.away = 0
            raise LedgerUnavailable("away")
        return len(ledger.calls) == 1

    ledger.refuses = refuse
    for name in "abc":
        outbox.put(outcome(name, "text"))
    with pytest.raises(LedgerUnavailable):
        outbox.exchange(None)
    assert noted == ["a"]
    assert len(outbox) == 2

    outbox.exchange(None)

    assert noted == ["a", "b", "c"]


def test_a_job_whose_lease_was_lost_counts_as_nothing(outbox: Outbox, ledger: FakeLedger, noted: list[str]) -> None:
    ledger.not_ours = {"b"}
    for name in "abc":
        outbox.put(outcome(name))
    outbox.exchange(None)
    assert noted == ["a", "c"]
    assert len(outbox) == 0


# --- waiting


def waits(outbox: Outbox, *, is_idle: bool = False) -> threading.Thread:
    """Wait in another thread; it ends when the wait does."""
    thread = threading.Thread(target=outbox.wait, args=(lambda: is_idle, LONG_SECONDS), daemon=True)
    thread.start()
    return thread


def ends(thread: threading.Thread) -> float:
    """Seconds until a wait has ended."""
    began = time.monotonic()
    thread.join(LONG_SECONDS / 2)
    assert not thread.is_alive()
    return time.monotonic() - began


def test_a_first_outcome_lingers_for_others(outbox: Outbox) -> None:
    outbox.put(outcome("a"))
    began = time.monotonic()
    ends(waits(outbox))
    assert time.monotonic() - began >= LINGER_SECONDS * 0.9


def test_an_outcome_ends_a_wait_that_began_before_it(outbox: Outbox) -> None:
    thread = waits(outbox)
    outbox.put(outcome("a"))
    ends(thread)


def test_enough_outcomes_are_not_waited_upon(outbox: Outbox) -> None:
    for number in range(ENOUGH_OUTCOMES):
        outbox.put(outcome(str(number)))
    began = time.monotonic()
    outbox.wait(lambda: False, LONG_SECONDS)
    assert time.monotonic() - began < LONG_SECONDS / 2


def test_nothing_is_waited_for_where_nothing_is_under_way(outbox: Outbox) -> None:
    began = time.monotonic()
    outbox.wait(lambda: True, LONG_SECONDS)
    assert time.monotonic() - began < LONG_SECONDS / 2


@pytest.mark.parametrize("before", [True, False], ids=["woken before", "woken meanwhile"])
def test_waking_ends_one_wait(outbox: Outbox, before: bool) -> None:
    if before:
        outbox.wake()
    thread = waits(outbox)
    if not before:
        outbox.wake()
    ends(thread)

    # and not the next
    began = time.monotonic()
    outbox.wait(lambda: False, 0.1)
    assert time.monotonic() - began >= 0.09


def test_exchanges_of_two_threads_come_one_after_the_other(noted: list[str]) -> None:
    running: list[int] = []
    most: list[int] = []

    def slowly(outcomes: list[Outcome], _claim: Claim | None) -> Exchange[HeldJob]:
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()
        return Exchange([(each.job, "done", "") for each in outcomes], [], [], False)

    outbox = Outbox(slowly, lambda settled: noted.append(settled.job))

    def put_and_exchange(name: str) -> None:
        outbox.put(outcome(name))
        outbox.exchange(None)

    threads = [threading.Thread(target=put_and_exchange, args=(str(number),)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    wait_for(lambda: len(noted) == 10)
    assert set(most) == {1}
    assert sorted(noted) == sorted(str(number) for number in range(10))
