"""Poison: a job that kills or hangs whatever performs it ends by itself and takes no neighbour along."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.stack import wait_for
from tests.working import Works, is_gone, once_each
from tiercast.ledger import new_token
from tiercast.ledger.model import Claim

LEASE = {"TIERCAST_LEASE": "2"}


@pytest.mark.parametrize("kind", ["Scripted", "Bulk", "Async"])
def test_a_job_that_kills_its_process_ends_dead_and_the_other_99_are_done(tmp_path: Path, kind: str) -> None:
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

        # A neighbour was beside it three times at the most: in the pool, twice, and in isolation, with 14 others
        lost = Counter({id: [outcome for outcome, _ in works.history(id, "one")].count("lost") for id in ids})
        assert lost.pop(ids[42]) == len({mark.pid for mark in works.effects("one", "begin")}) == 5
        assert max(lost.values()) <= 3
        assert sum(count == 3 for count in lost.values()) <= 15
        # and none was performed again that had been settled
        again = [key for key, count in Counter(mark.key for mark in works.effects("one")).items() if count > 1]
        assert {key.split(":")[1] for key in again} <= {id for id, count in lost.items() if count}
        assert works.held() == 0


def test_deliveries_of_a_worker_that_was_killed_are_read_when_their_lease_ends(tmp_path: Path) -> None:
    with Works(tmp_path, {"one": ("Scripted", "")}, env=LEASE) as works:
        works.feed(*["done"] * 10, ring=False)
        with works.opened() as (ledger, _):
            assert len(ledger.exchange_deliveries("voucherify", claim=Claim(token=new_token(), n=4)).claimed) == 4

        works.begin()

        works.wait_until(done=10)
        assert once_each(works.effects("one"))


def test_jobs_that_never_end_cost_their_process_at_most_and_the_others_are_done(tmp_path: Path) -> None:
    # Given plain and async jobs that ignore a time-out of a second, among others
    lines = "timeout = 1; backoff = 0.01"
    actions = {"plain": ("Scripted", lines), "async": ("Async", lines), "bulk": ("AsyncBulk", lines)}
    with Works(tmp_path, actions, env=LEASE) as works:
        works.begin("worker", "-c", "1")
        (pool,) = works.family()[0].children()

        # When an async call hangs, it is cancelled, and its process lives on
        works.feed("hang", *["done"] * 20, ring=True)
        wait_for(lambda: works.effects("async", "cancelled") and works.effects("bulk", "cancelled"))
        for action in actions:
            wait_for(lambda action=action: works.count(action)["done"] == 20)  # type: ignore[misc]
            assert {mark.pid for mark in works.effects(action)} == {pool.pid}
        works.feed(*["done"] * 5)
        for action in actions:
            wait_for(lambda action=action: works.count(action)["done"] == 25)  # type: ignore[misc]
            assert {mark.pid for mark in works.effects(action)} == {pool.pid}
            assert once_each(works.effects(action))


@pytest.mark.parametrize(("kind", "behaviour"), [("Scripted", "stuck"), ("Async", "block"), ("Async", "swallow")])
def test_a_job_that_cannot_be_ended_costs_its_process_and_nothing_else(
    tmp_path: Path, kind: str, behaviour: str
) -> None:
    actions = {"one": (kind, "timeout = 1; backoff = 0.01"), "other": ("Scripted", 'behaviour = "done"')}
    with Works(tmp_path, actions, env=LEASE) as works:
        works.begin()
        works.feed(*["done"] * 20, behaviour)

        # Then the others are done, and the process it hangs in is replaced
        wait_for(lambda: works.effects("one", "begin"))
        stuck = works.effects("one", "begin")[0].pid
        wait_for(lambda: not psutil.pid_exists(stuck), seconds=40)
        works.wait_until("other", done=21)
        works.feed(*["done"] * 5)
        wait_for(lambda: works.count("one")["done"] == 25 and works.count("other")["done"] == 26, seconds=60)
        assert once_each(works.effects("other"))
        assert stuck not in {mark.pid for mark in works.effects("other")[-5:]}


def test_a_process_for_isolated_jobs_ends_when_its_worker_is_killed(tmp_path: Path) -> None:
    # Given a job that has lost two leases and hangs in a process of its own
    actions = {"one": ("Scripted", "timeout = 60")}
    with Works(tmp_path, actions, env=LEASE) as works:
        works.begin("worker", "-c", "1")
        pool = {process.pid for process in works.family()}
        with works.opened() as (ledger, _):
            ledger.operate("pause", lane="jobs/one", reason="a test")
            works.feed("hang")
            works.wait_until(owed=1)
            (job,) = works.jobs()
            ledger.client.hset(ledger.key("expiries:jobs/one"), job.key, "2")
            ledger.operate("resume", lane="jobs/one")
        isolated = wait_for(lambda: works.effects("one", "begin"), seconds=60)[0].pid
        family = works.family()
        assert isolated not in pool
        assert isolated in [process.pid for process in family]

        # When the worker's main process alone is killed
        os.kill(works.processes["worker"].pid, signal.SIGKILL)

        # Then none of the others is left
        wait_for(lambda: all(is_gone(process) for process in family), seconds=30)
