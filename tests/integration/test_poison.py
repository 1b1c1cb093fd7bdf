"""Poison: a job that kills or hangs whatever performs it ends by itself and takes no neighbour along."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.stack import wait_for
from tests.working import Works, is_gone, once_each
from tiercast.ledger import Ledger, new_token
from tiercast.ledger.model import Claim

LEASE = {"TIERCAST_LEASE": "2"}

#: Leases so long that three seconds before its end one counts as lost.
_LONG_LEASE = {"TIERCAST_LEASE": "24"}


@pytest.mark.parametrize("kind", ["Scripted", "Bulk"])
def test_a_job_that_kills_its_process_ends_dead_and_the_other_99_are_done_once(tmp_path: Path, kind: str) -> None:
    # A neighbour is in the same process when it is killed: it is performed again under the same key, for its lease
    # was lost. So what is counted are jobs that were done again though their success was on record.
    with Works(tmp_path, {"one": (kind, "backoff = 0.01")}, env=LEASE) as works:
        behaviours = ["done"] * 100
        behaviours[42] = "kill"
        ids = works.feed(*behaviours, ring=False)

        works.begin()
        works.wait_until(done=99, dead=1, seconds=100)

        history = works.history(ids[42], "one")
        assert [outcome for outcome, _ in history] == ["lost"] * 5
        assert [mark.key for mark in works.effects("one", "begin")] == [f"voucherify:{ids[42]}:one"] * 5
        (dead,) = works.jobs(state="dead")
        assert "poison" in (dead.text or "")

        # After its first death it was alone each time: no neighbour lost a second lease
        lost = Counter({id: [outcome for outcome, _ in works.history(id, "one")].count("lost") for id in ids})
        assert lost.pop(ids[42]) == len({mark.pid for mark in works.effects("one", "begin")}) == 5
        assert max(lost.values()) <= 1
        # and none was performed again that had been settled
        again = [key for key, count in Counter(mark.key for mark in works.effects("one")).items() if count > 1]
        assert {key.split(":")[1] for key in again} <= {id for id, count in lost.items() if count}
        assert works.held() == 0


def test_a_delivery_that_killed_its_process_is_read_alone_and_the_others_go_on(tmp_path: Path) -> None:
    # Given deliveries that another worker held when it was killed
    with Works(tmp_path, {"one": ("Scripted", "")}, env=LEASE) as works:
        works.feed(*["done"] * 10, ring=False)
        with works.opened() as (ledger, _):
            assert len(ledger.deliveries("voucherify", claim=Claim(token=new_token(), n=4)).lent) == 4

        works.begin()

        works.wait_until(done=10)
        assert once_each(works.effects("one"))
        assert {"suspects.aside", "suspects.expected"} & set(re.findall(r"suspects[.]\w+", works.log("worker")))


def test_a_process_is_ready_when_a_lease_ends_that_nobody_renews(tmp_path: Path) -> None:
    with Works(tmp_path, {"one": ("Scripted", "")}, env=_LONG_LEASE) as works, works.opened() as (ledger, _):
        works.begin()
        # Given a delivery that somebody held who was lost
        _hold(works, ledger)

        # Then a process is started for it before its lease ends, and reads it
        wait_for(lambda: "suspects.expected" in works.log("worker"), seconds=30)
        works.wait_until(done=1)
        assert once_each(works.effects("one"))
        assert works.log("worker").count("suspects.") == 1, "it was there in time: no other was started"


def test_a_process_that_was_ready_in_vain_goes_home(tmp_path: Path) -> None:
    with Works(tmp_path, {"one": ("Scripted", "")}, env=_LONG_LEASE) as works, works.opened() as (ledger, _):
        works.begin()
        # Given a process that waits for the end of a lease, with the one that it has forked
        before = len(works.family())
        held = _hold(works, ledger)
        wait_for(lambda: len(works.family()) >= before + 2, seconds=30)

        # When the lease is renewed after all
        ledger.lease = 24
        assert ledger.renew("deliveries/voucherify", [held]) == [True]

        # Then they end, and have taken nothing
        wait_for(lambda: len(works.family()) == before, seconds=15)
        assert ledger.renew("deliveries/voucherify", [held]) == [True]


def test_a_job_that_never_returns_costs_its_process_and_nothing_else(tmp_path: Path) -> None:
    # Given a job that ignores its time-out of a second, among others
    with Works(tmp_path, {"one": ("Scripted", "timeout = 1; backoff = 0.01")}, env=LEASE) as works:
        works.begin()
        works.feed("stuck", *["done"] * 20)

        # Then the others are done, and the process it hangs in is replaced
        works.wait_until(done=20, owed=1)
        (stuck,) = {mark.pid for mark in works.effects("one", "begin")}
        wait_for(lambda: not psutil.pid_exists(stuck), seconds=30)
        assert "job.overdue" in works.log("worker")
        works.feed(*["done"] * 5)
        works.wait_until(done=25, owed=1)
        assert once_each(works.effects("one"))


def test_a_process_aside_ends_when_its_worker_is_killed(tmp_path: Path) -> None:
    # Given a job whose lease ended before, which hangs in a process aside
    actions = {"one": ("Scripted", "timeout = 60")}
    with Works(tmp_path, actions, env=LEASE) as works:
        works.begin("worker", "-c", "1")
        with works.opened() as (ledger, _):
            ledger.operate("pause", lane="jobs/one", reason="a test")
            works.feed("hang")
            works.wait_until(owed=1)
            ledger.operate("resume", lane="jobs/one")
            while not ledger.jobs("jobs/one", claim=Claim(token=new_token(), n=1)).lent:
                assert not works.effects("one", "begin"), "the worker was quicker"
        aside = wait_for(lambda: works.effects("one", "begin"), seconds=60)[0].pid
        family = works.family()
        assert aside in [process.pid for process in family]
        assert len(family) >= 3, "main, one of the pool, one aside at least"

        # When the worker's main process alone is killed
        os.kill(works.processes["worker"].pid, signal.SIGKILL)

        # Then none of the others is left
        wait_for(lambda: all(is_gone(process) for process in family), seconds=30)


def _hold(works: Works, ledger: Ledger) -> tuple[str, str]:
    """Have a delivery held for five seconds; returns its id and the token."""
    ledger.lease = 5
    works.feed("done", ring=False)
    (held,) = ledger.deliveries("voucherify", claim=Claim(token=new_token(), n=1)).lent
    return held.id, held.token
