"""The worker's pools: prefork, threads and solo do the main job, and stop warmly."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.stack import wait_for
from tests.working import Works, is_gone, once_each

ACTIONS = {"one": ("Scripted", "backoff = 0.01"), "bulk": ("Bulk", "backoff = 0.01")}


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools_do_the_main_job_and_stop_warmly(tmp_path: Path, pool: str) -> None:
    with Works(tmp_path, ACTIONS) as works:
        works.begin("worker", "-P", pool, "-c", "2")
        works.feed(*["done"] * 30, *["second-time"] * 5, "permanent")
        works.wait_until(done=70, dead=2)
        assert once_each(works.effects("one"))

        # With jobs in flight
        works.feed(*["slow"] * 40)
        wait_for(lambda: len(works.effects("one", "begin")) > 3)
        family = works.family()
        assert works.stop("worker") == 0
        assert works.held() == 0
        wait_for(lambda: all(is_gone(process) for process in family))

        # Then another does the rest
        works.begin("second", "-P", pool, "-c", "2")
        works.wait_until(done=150, dead=2)
        assert once_each(works.effects("one"))
        assert once_each(works.effects("bulk"))


def test_a_warm_stop_of_prefork_leaves_nothing_held_and_nothing_done_twice(tmp_path: Path) -> None:
    # Given jobs in flight, quick ones and some that take half a second
    with Works(tmp_path, {**ACTIONS, "long": ("Scripted", 'behaviour = "slow"; seconds = 0.5')}) as works:
        works.begin()
        works.feed(*["slow"] * 60)
        wait_for(lambda: len(works.effects("one")) > 3 and works.effects("long", "begin"))
        family = works.family()

        # When
        assert works.stop("worker", signal.SIGTERM) == 0

        # Then what began was ended and settled, the rest handed back, and no process is left
        assert works.held() == 0
        assert len(works.effects("long", "begin")) == len(works.effects("long")) == works.count("long")["done"]
        wait_for(lambda: all(is_gone(process) for process in family))
        assert works.owed() > 0, "or nothing was in flight"
        works.begin("second")
        works.wait_until(done=180)
        for action in ("one", "bulk", "long"):
            assert once_each(works.effects(action))
            assert len(works.effects(action)) == 60


def test_jobs_that_take_long_use_the_threads_of_all_processes(tmp_path: Path) -> None:
    # Given an action that may make 48 calls at once, and three processes, each with 16 threads for it
    with Works(tmp_path, {"long": ("Scripted", "timeout = 60; concurrency = 48")}) as works:
        works.begin("worker", "-c", "3")

        # When there are as many calls, none of which ends
        works.feed(*["hang"] * 48)

        # Then all are made at once
        wait_for(lambda: len(works.effects("long", "begin")) == 48)
        assert len({mark.pid for mark in works.effects("long", "begin")}) == 3


def test_with_half_the_actions_hanging_the_others_go_on(tmp_path: Path) -> None:
    # Given six actions at default settings, three of whose calls hang until their time-out
    quick = {f"quick{number}": ("Scripted", 'behaviour = "done"') for number in range(3)}
    hanging = {f"hangs{number}": ("Scripted", 'behaviour = "hang"; timeout = 60') for number in range(3)}
    with Works(tmp_path, {**hanging, **quick}) as works:
        works.begin()

        # When
        works.feed(*["any"] * 60)

        # Then the others are done while the first of those that hang still do
        for name in quick:
            works.wait_until(name, done=60)
            assert len(works.effects(name)) == 60
        assert sum(len(works.effects(name, "begin")) for name in hanging) >= 3
        assert [works.effects(name, "end") for name in hanging] == [[], [], []]
        for name in hanging:
            assert works.count(name) == {"owed": 60}
