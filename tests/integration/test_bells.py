"""Bells: lost, deaf, on queues of their own; nothing that is owed waits for the broker."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest
import redis

from tests.stack import wait_for
from tests.working import Works, once_each
from tiercast.bells import publisher
from tiercast.embedded import EmbeddedServer
from tiercast.settings import load_settings

ONE = {"one": ("Scripted", "")}


def finished(works: Works, name: str = "worker") -> list[tuple[str, int]]:
    """The tasks that a worker's log tells of: their names in monitors, and what each claimed."""
    pattern = r"Task ([\w.:-]+)\[[^]]+\] succeeded in [^:]+: \{.*?'claimed': (\d+)"
    return [(name, int(claimed)) for name, claimed in re.findall(pattern, works.log(name))]


def claimed(works: Works, name: str = "worker") -> Counter[str]:
    """How much was claimed by all tasks, by task; of jobs that were begun without a bell, by `jobs`."""
    counts: Counter[str] = Counter()
    for task, count in finished(works, name):
        counts[task] += count
    pattern = r"'jobs': \{[^}]*'claimed': (\d+)"
    counts["jobs"] = sum(int(count) for count in re.findall(pattern, works.log(name)))
    return counts


def test_a_single_event_needs_one_task_and_many_never_more_than_one_bell_of_a_lane(tmp_path: Path) -> None:
    with Works(tmp_path, ONE) as works:
        # Given 300 deliveries that are due, recorded one by one, and nobody who hears
        for _ in range(30):
            works.feed(*["done"] * 10)
        client = works.client
        assert client.llen("tiercast") == 1

        works.begin()
        most = 0
        deadline = time.monotonic() + 60
        while works.count() != {"done": 300} and time.monotonic() < deadline:
            bells = Counter(lane_of(bell) for bell in client.lrange("tiercast", 0, -1))
            most = max([most, *bells.values()])
        client.close()
        works.wait_until(done=300)
        assert most <= 1
        assert once_each(works.effects("one"))

        # When a single event comes
        wait_for(lambda: works.held() == 0)
        before = len(finished(works))
        works.feed("done")

        # Then the process that read it has performed its job, without another bell
        works.wait_until(done=301)
        wait_for(lambda: len(finished(works)) > before, seconds=10)
        assert [task for task, _ in finished(works)[before:]] == ["process:voucherify"]


def lane_of(bell: bytes | str) -> str:
    """The lane that a message in the broker's queue names."""
    return str(json.loads(bell)["headers"]["argsrepr"])


@pytest.mark.parametrize("how", ["killed", "never there"])
def test_with_the_broker_gone_work_is_done_all_the_same(tmp_path: Path, how: str) -> None:
    broker = EmbeddedServer(tmp_path / "broker", appendonly="no", appendfsync="no")
    with Works(tmp_path, ONE, env={"TIERCAST_BROKER_URL": broker.url}) as works:
        try:
            if how == "killed":
                broker.start()
                works.begin()
                works.feed(*["done"] * 3)
                works.wait_until(done=3)
                broker.kill()
            else:
                works.begin(ready=False)
            works.feed(*["done"] * 20, ring=False)

            works.wait_until("one", seconds=100, done=23 if how == "killed" else 20)

            assert once_each(works.effects("one"))
        finally:
            broker.kill()


def test_when_all_bells_are_lost_the_timer_rings_again(tmp_path: Path) -> None:
    broker = EmbeddedServer(tmp_path / "broker", appendonly="no", appendfsync="no")
    with broker, Works(tmp_path, ONE, env={"TIERCAST_BROKER_URL": broker.url}) as works:
        # Given bells that nobody has heard, in a broker that then loses them
        works.feed(*["done"] * 20)
        client = redis.Redis.from_url(broker.url)
        assert client.llen("tiercast") == 1, "one bell for twenty deliveries"
        client.flushall()
        client.close()

        works.begin()

        works.wait_until(done=20)
        assert once_each(works.effects("one"))
        # A task waits a moment only for what it has begun; the lane's next one counts the rest.
        publisher(load_settings(works.env))("deliveries/voucherify")
        wait_for(lambda: claimed(works)["process:voucherify"] >= 20)
        assert claimed(works)["process:voucherify"] == 20


def test_a_deaf_worker_does_what_is_owed_without_bells(tmp_path: Path) -> None:
    with Works(tmp_path, ONE) as works:
        works.begin()
        # Given a worker that consumes no bells any more
        control = works.start("control", "celery", "-A", "worker", "control", "cancel_consumer", "tiercast")
        assert control.wait(60) == 0, works.log("control")
        wait_for(lambda: "no longer consuming from tiercast" in works.log("control").lower(), seconds=30)

        works.feed(*["done"] * 10)

        works.wait_until(done=10, seconds=90)
        assert claimed(works)["perform:one"] == 0


def test_an_action_with_a_queue_of_its_own_waits_for_its_workers(tmp_path: Path) -> None:
    with Works(tmp_path, {**ONE, "bulky": ("Scripted", 'queue = "slow"')}) as works:
        # Given a worker of the ordinary queue
        works.begin()
        works.feed(*["done"] * 5)
        works.wait_until("one", done=5)
        assert works.count("bulky") == {"owed": 5}

        # When one of the queue "slow" starts, it does them, and it does nothing else
        works.begin("slow", "-c", "1", queues="slow")
        works.wait_until("bulky", done=5)
        works.feed(*["done"] * 5)
        works.wait_until(done=20)

        of_slow = {process.pid for process in works.family("slow")}
        assert {mark.pid for mark in works.effects("bulky")} <= of_slow
        assert not {mark.pid for mark in works.effects("one")} & of_slow


def test_the_timer_waits_for_a_ledger_that_is_away_and_goes_on(tmp_path: Path) -> None:
    with Works(tmp_path, {"one": ("Scripted", "seconds = 1; backoff = 0.1")}) as works:
        # Given jobs under way when the server goes
        works.begin()
        works.feed(*["slow"] * 4)
        wait_for(lambda: len(works.effects("one", "begin")) == 4)
        works.server.stop()
        wait_for(lambda: "timer.ledger_away" in works.log("worker"), seconds=30)
        wait_for(lambda: len(works.effects("one")) == 4, seconds=30)

        # When it is back
        works.server.start()

        # Then what was done meanwhile is settled, and the worker goes on
        works.wait_until(done=4)
        works.feed(*["done"] * 10)
        works.wait_until(done=14, seconds=90)
        assert "timer.ledger_back" in works.log("worker")
        assert once_each(works.effects("one"))
