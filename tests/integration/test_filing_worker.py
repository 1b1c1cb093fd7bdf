"""A whole Tiercast that files: receiver, worker with its timer, ledger and database."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack import Stack, wait_for
from tiercast.history.address import HistoryAddress
from tiercast.history.rows import FiledDelivery
from tiercast.history.store import History

CONFIG = '[actions.say]\nkind = "log"\nmessage = "hello"\n\n[[rules]]\non = "*"\ndo = ["say"]\n'


class Filing(Stack):
    """A stack with an SQLite history."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "data" / "history.db"
        super().__init__(folder, CONFIG, env={"TIERCAST_HISTORY_URL": f"sqlite:///{self.path}", "TIERCAST_LEASE": "3"})

    def filed(self, *deliveries: str) -> list[FiledDelivery]:
        if not self.path.exists():
            return []
        with History(HistoryAddress.read(f"sqlite:///{self.path}")) as history:
            return [row for delivery in deliveries if (row := history.reading.delivery(delivery))]

    def left(self) -> int:
        """Deliveries that the ledger still holds."""
        client: Any = self.client
        return sum(1 for _ in client.scan_iter("tc:[db]:*"))

    def lane(self) -> dict[str, str]:
        client: Any = self.client
        return {name.decode(): value.decode() for name, value in client.hgetall("tc:lane:history").items()}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Filing]:
    with Filing(tmp_path) as running:
        yield running


def test_what_is_settled_is_in_the_database_soon_and_no_more_in_the_ledger(stack: Filing) -> None:
    stack.start_web()
    stack.start_worker()
    deliveries = [stack.send() for _ in range(5)]
    began = time.monotonic()
    wait_for(lambda: len(stack.filed(*deliveries)) == 5)
    wait_for(lambda: stack.left() == 0)
    assert time.monotonic() - began < 10
    assert {job.state for row in stack.filed(*deliveries) for job in row.jobs} == {"done"}
    assert stack.path.stat().st_mode & 0o077 == 0
    # A copy is still recognised.
    (event,) = {row.event_id for row in stack.filed(deliveries[0])}
    copy = stack.send(event_id=event)
    wait_for(lambda: stack.filed(copy))
    assert (stack.filed(copy)[0].state, stack.filed(copy)[0].first) == ("duplicate", deliveries[0])


def test_nothing_is_lost_or_doubled_when_its_filers_are_killed_again_and_again(stack: Filing) -> None:
    stack.start_web()
    deliveries: list[str] = []
    for round in range(4):
        name = f"worker{round}"
        stack.start_worker(name)
        deliveries += [stack.send() for _ in range(15)]
        # Killed while it files.
        wait_for(lambda: stack.client.exists("tc:held:history") or stack.left() == 0, every=0.001)
        os.killpg(stack.processes[name].pid, signal.SIGKILL)
        stack.processes.pop(name).wait()
    stack.start_worker()
    wait_for(lambda: stack.left() == 0, seconds=60)
    rows = stack.filed(*deliveries)
    assert len(rows) == len(deliveries)
    assert all([job.state for job in row.jobs] == ["done"] for row in rows)
    with sqlite3.connect(stack.path) as connection:
        assert connection.execute("select count(*) from delivery").fetchone() == (len(deliveries),)


def test_while_the_database_is_away_all_else_goes_on_and_the_lane_says_why(stack: Filing) -> None:
    stack.start_web()
    stack.path.parent.mkdir()
    stack.path.parent.chmod(0o700)
    blocked = stack.path.parent / "elsewhere"
    stack.change_env(TIERCAST_HISTORY_URL=f"sqlite:///{blocked}/history.db")
    blocked.write_text("a file where a folder should be")
    stack.start_worker()
    assert "history.away" in stack.log("worker")
    delivery = stack.send()
    assert [job.state for job in stack.settled(delivery).values()] == ["done"]
    wait_for(lambda: stack.lane().get("cause") == "outage")
    assert stack.ready(stack.port)
    assert "outage" in stack.cli("lanes", "list", "--json")
    blocked.unlink()
    stack.path = blocked / "history.db"
    wait_for(lambda: stack.left() == 0, seconds=40)
    assert len(stack.filed(delivery)) == 1


def test_a_second_host_with_a_file_of_its_own_is_refused(stack: Filing) -> None:
    stack.start_worker()
    stack.change_env(TIERCAST_HISTORY_URL=f"sqlite:///{stack.folder}/other.db")
    process = stack.start("other", "celery", "-A", "worker", "worker", "--concurrency", "1")
    assert process.wait(60) == 1
    assert "name one PostgreSQL for all" in stack.log("other")
    # Where that is what is wanted, the ledger takes it for its own.
    stack.stop("worker")
    assert "other.db" in stack.cli("history", "adopt", "--yes")
    stack.start_worker("another")


def test_a_worker_without_the_setting_says_so_where_others_file(stack: Filing) -> None:
    stack.start_worker()
    stack.change_env(TIERCAST_HISTORY_URL="")
    stack.start_worker("other")
    assert "history.not_named" in stack.log("other")
