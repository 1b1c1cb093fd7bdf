"""The worker's pools: prefork, threads and solo do the main job, and stop warmly."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.stack import wait_for
from tests.working import Works, is_gone, once_each
from worker.celery import refuse_to_start

ACTIONS = {
    "one": ("Scripted", "backoff = 0.01"),
    "bulk": ("Bulk", "backoff = 0.01"),
    "async": ("Async", "backoff = 0.01"),
}


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools_do_the_main_job_and_stop_warmly(tmp_path: Path, pool: str) -> None:
    with Works(tmp_path, ACTIONS) as works:
        works.begin("worker", "-P", pool, "-c", "2")
        works.feed(*["done"] * 30, *["second-time"] * 5, "permanent")
        works.wait_until(done=105, dead=3)
        assert once_each(works.effects("one"))

        # With jobs in flight
        works.feed(*["slow"] * 40)
        wait_for(lambda: len(works.effects("one", "begin")) > 3 and works.effects("async", "begin"))
        family = works.family()
        assert works.stop("worker") == 0
        assert works.held() == 0
        wait_for(lambda: all(is_gone(process) for process in family))

        # Then another does the rest
        works.begin("second", "-P", pool, "-c", "2")
        works.wait_until(done=225, dead=3)
        for action in ACTIONS:
            assert once_each(works.effects(action))


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_pools_that_replace_threads_are_refused_with_the_reason(pool: str) -> None:
    # As Celery's signal `worker_init` brings them; neither need be installed.
    pool_cls = type("TaskPool", (), {"__module__": f"celery.concurrency.{pool}"})
    with pytest.raises(SystemExit) as refused:
        refuse_to_start(sender=SimpleNamespace(pool_cls=pool_cls))
    message = str(refused.value)
    assert pool in message
    assert "--pool prefork" in message
    assert "event loop" in message


def test_a_warm_stop_of_prefork_leaves_nothing_held_and_nothing_done_twice(tmp_path: Path) -> None:
    # Given jobs in flight: quick ones, some that take half a second, and hundreds of async calls, some of which hang
    actions = {
        **ACTIONS,
        "long": ("Scripted", 'behaviour = "slow"; seconds = 0.5'),
        "crowd": ("Async", 'behaviour = "slow"; seconds = 1; concurrency = 400'),
        "hanging": ("Async", 'behaviour = "hang"; concurrency = 400; timeout = 300'),
    }
    with Works(tmp_path, actions) as works:
        works.begin()
        works.feed(*["slow"] * 300)
        wait_for(lambda: len(works.effects("crowd", "begin")) >= 200 and len(works.effects("hanging", "begin")) >= 200)
        family = works.family()

        # When
        assert works.stop("worker", signal.SIGTERM) == 0

        # Then what began has ended and is settled, the rest is released, and no process is left
        assert works.held() == 0
        wait_for(lambda: all(is_gone(process) for process in family))
        for action in ("long", "crowd"):
            assert len(works.effects(action, "begin")) == len(works.effects(action)) == works.count(action)["done"]
        assert len(works.effects("hanging", "cancelled")) == len(works.effects("hanging", "begin"))
        assert works.count("hanging") == {"owed": 300}
        assert works.owed() > 300, "or nothing else was in flight"


def test_jobs_that_take_long_use_all_processes(tmp_path: Path) -> None:
    # Given an action whose plain calls each take a thread, and three processes
    with Works(tmp_path, {"long": ("Scripted", "timeout = 60; concurrency = 48")}) as works:
        works.begin("worker", "-c", "3")

        # When there are as many calls, none of which ends
        works.feed(*["hang"] * 48)

        # Then all are made at once
        wait_for(lambda: len(works.effects("long", "begin")) == 48)


def test_with_half_the_actions_hanging_the_others_go_on(tmp_path: Path) -> None:
    # Given ten actions at default settings, half of whose calls hang until their time-out, in threads and on the loop
    quick = {
        f"quick{number}": (kind, 'behaviour = "done"')
        for number, kind in enumerate(["Scripted", "Bulk", "Async", "AsyncBulk", "Async"])
    }
    hanging = {
        f"hangs{number}": (kind, 'behaviour = "hang"; timeout = 60')
        for number, kind in enumerate(["Scripted", "Bulk", "Async", "AsyncBulk", "Async"])
    }
    with Works(tmp_path, {**hanging, **quick}) as works:
        works.begin()
        before = {process.pid for process in works.family()}

        # When
        works.feed(*["any"] * 60)

        # Then the others are done while the first of those that hang still do, and no process was replaced
        for name in quick:
            works.wait_until(name, done=60)
            assert len(works.effects(name)) == 60
        assert all(works.effects(name, "begin") for name in hanging)
        for name in hanging:
            assert works.effects(name, "end") == works.effects(name, "cancelled") == []
            assert works.count(name) == {"owed": 60}
        assert {process.pid for process in works.family()} == before
