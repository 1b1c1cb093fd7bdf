"""Operations with real workers, which are killed meanwhile."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import psutil

from tests.dead_jobs import make_dead
from tests.stack import wait_for
from tests.working import Works, once_each
from tiercast.ledger import keys
from tiercast.ledger.reading import Filter
from tiercast.operations.model import Operation
from tiercast.operations.requests import Operations


class World(Works):
    """Workers of one action `mail`, whose jobs succeed when they are performed."""

    def __init__(self, folder: Path, *, lease: str = "2") -> None:
        super().__init__(folder, {"mail": ("Scripted", "")}, env={"TIERCAST_LEASE": lease})

    def dead(self, count: int) -> set[str]:
        """So many dead jobs, without any worker; returns their keys."""
        with self.opened() as (ledger, _):
            return make_dead(ledger, "mail", count)

    def operation(self) -> Operation:
        """The newest one."""
        with self.opened() as (ledger, reader):
            return next(Operations(ledger, reader).all())

    def wait_until_seen(self, count: int) -> None:
        """Wait until so many members of the operation have had their turn."""
        wait_for(lambda: self.operation().seen >= count, seconds=90)

    def became(self) -> Counter[str]:
        """What became of its members."""
        with self.opened() as (ledger, reader):
            operations = Operations(ledger, reader)
            return operations.became(next(operations.all())).by_state

    def kill(self, name: str) -> None:
        """Kill a worker with all of its processes, and start another in its place."""
        family = self.family(name)
        for process in family:
            process.kill()
        self.processes[name].wait(10)
        psutil.wait_procs(family[1:], timeout=10)
        self.begin(name)


def test_each_is_retried_once_though_workers_are_killed(tmp_path: Path) -> None:
    # Given 700 dead jobs and an operation over them, whose rate leaves time to kill
    with World(tmp_path) as world:
        names = world.dead(700)
        assert len(names) == 700
        world.begin()
        world.cli("jobs", "retry", "--state", "dead", "--rate", "120", "--no-try-first", "--background")

        # When the worker is killed three times while it runs
        for share in (100, 250, 400):
            world.wait_until_seen(share)
            world.kill("worker")

        # Then it ends with exact tallies
        wait_for(lambda: world.operation().state.final, seconds=90)
        done = world.operation()
        assert (str(done.state), done.expected, done.seen, done.done, done.refused) == ("done", 700, 700, 700, 0)

        # and each job was retried once
        world.wait_until("mail", done=700, seconds=120)
        with world.opened() as (_, reader):
            jobs = list(reader.jobs(Filter(action="mail")))
        assert {job.key for job in jobs} == names
        assert all(job.operation == done.id for job in jobs)
        assert all(job.attempts - job.tries == 1 for job in jobs)
        assert world.became() == {"done": 700}


def test_cancel_leaves_the_rest_as_it_was(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.dead(400)
        world.begin()
        world.cli("jobs", "retry", "--state", "dead", "--rate", "50", "--no-try-first", "--background")
        world.wait_until_seen(50)
        world.cli("operations", "cancel", world.operation().id)
        cancelled = world.operation()
        assert str(cancelled.state) == "cancelled"
        world.wait_until("mail", done=cancelled.done, dead=400 - cancelled.done, seconds=60)
        assert world.operation().done == cancelled.done < 400
        assert once_each(world.effects("mail"))


def test_a_command_follows_to_the_end_and_the_first_five_are_tried(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.dead(150)
        world.begin()
        began = time.monotonic()
        document = json.loads(world.cli("jobs", "retry", "--state", "dead", "--rate", "200", "--json"))
        assert (document["chosen"], document["done"], document["state"]) == (150, 150, "done")
        assert time.monotonic() - began < 60
        assert len(world.operation().tried or ()) == 5
        world.wait_until("mail", done=150)
        (entry,) = json.loads(world.cli("audit", "--json"))["audit"]
        assert (entry["count"], entry["result"]) == (150, "done")
        (lane,) = [
            each
            for each in json.loads(world.cli("lanes", "list", "--json"))["lanes"]
            if each["name"] == keys.OPERATIONS
        ]
        assert (lane["owed"], lane["reason"]) == (0, None)
