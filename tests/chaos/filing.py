"""The scenarios of filing: filers, database and ledger are killed, and the history is what was settled."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa

from tests.histories import address_of, postgresql, sql
from tiercast.history.rows import FiledDelivery
from tiercast.history.store import History

from .arena import CAPACITY, Arena, pause
from .audit import Row
from .scenario import CannotBeShown, Scenario
from .sender import Sender

#: Seconds that are waited for a filer that can be killed in the act.
_PATIENCE = 3.0

#: Seconds that the database takes no writes.
_AWAY = 3.0


class KillFiler(Scenario):
    """Kill who files in the act, take the database away, kill the ledger: the history is what was settled."""

    name = "kill-filer"

    def __init__(self) -> None:
        self._killed = 0

    def variables(self, folder: Path) -> dict[str, str]:
        return {"TIERCAST_HISTORY_URL": f"sqlite:///{folder}/history.db"}

    def disturb(self, arena: Arena, sender: Sender) -> int:
        held = 0
        for share in (0.1, 0.25, 0.4, 0.6, 0.8):
            sender.wait(share)
            held += self._kill_in_the_act(arena)
            if share == 0.4:
                held += arena.kill_worker(arena.workers[0])
                arena.add_worker()
            if share == 0.25:
                self.take_database_away(arena)
            if share == 0.6:
                arena.server.kill()
                pause(1)
                arena.server.start()
                held += CAPACITY
        return held

    def _kill_in_the_act(self, arena: Arena) -> int:
        """Kill all processes of the pools while something is claimed to be filed; others take their place."""
        deadline = time.monotonic() + _PATIENCE
        with contextlib.closing(arena.raw) as client:
            while time.monotonic() < deadline:
                if client.exists("tc:held:history"):
                    self._killed += 1
                    break
        return sum(arena.kill_child(name) for name in arena.workers for _ in range(2))

    def take_database_away(self, arena: Arena) -> None:
        """Let nobody write for some seconds."""
        path = arena.history_address.path
        assert path is not None
        with sqlite3.connect(path, isolation_level=None, timeout=10) as connection:
            connection.execute("BEGIN IMMEDIATE")
            pause(_AWAY)
            connection.execute("ROLLBACK")

    def check(self, arena: Arena, sender: Sender) -> list[str]:
        with History(arena.history_address) as history:
            rows = {row.id: row for a in sender.accepted if (row := history.reading.delivery(a.delivery))}
        wrong = [text for a in sender.accepted for text in _faults(a.delivery, a.event, rows)]
        keys = [job.key for row in rows.values() for job in row.jobs]
        if len(keys) != len(set(keys)):
            wrong.append("a job is in the history twice")
        if left := arena.keys("tc:[bdj]:*"):
            wrong.append(f"{len(left)} keys of what was filed are left in the ledger")
        if not self._killed:
            wrong.append("no filer was killed in the act: the scenario shows nothing")
        return wrong[:5]

    def notes(self) -> list[str]:
        return [f"{self._killed} filers killed in the act"]


def _faults(delivery: str, event: str, rows: Mapping[str, FiledDelivery]) -> Iterator[str]:
    """What is not as it was settled."""
    row = rows.get(delivery)
    if row is None:
        yield f"{delivery} is not in the history"
        return
    if row.body is None or event.encode() not in row.body:
        yield f"{delivery}: another body"
    if row.state == "processed" and [job.action for job in row.jobs] != list(row.names):
        yield f"{delivery}: other jobs than {row.names}"
    for job in row.jobs:
        # Of an attempt whose worker was killed nothing is known; but it counts, and is on record as lost.
        if job.state != "done" or len(job.history) != job.attempts:
            yield f"{job.key}: {job.state} after {job.attempts} attempts, {len(job.history)} on record"


class KillFilerPostgresql(KillFiler):
    """The same on PostgreSQL, whose connections are cut and whose tables are locked."""

    name = "kill-filer-postgresql"

    def run(self, folder: Path, *, events: int, rate: float) -> Row:
        if postgresql() is None:
            raise CannotBeShown("no PostgreSQL on 127.0.0.1:5432; name one with TIERCAST_TEST_POSTGRESQL")
        with address_of("postgresql", folder) as self._address:
            return super().run(folder, events=events, rate=rate)

    def variables(self, folder: Path) -> dict[str, str]:
        return {"TIERCAST_HISTORY_URL": self._address.url.replace("postgresql+psycopg", "postgresql")}

    def take_database_away(self, arena: Arena) -> None:
        """Cut all connections again and again, and let nobody write."""
        with sql(arena.history_address) as connection:
            connection.execute(sa.text("LOCK TABLE delivery IN EXCLUSIVE MODE"))
            for _ in range(round(_AWAY / 0.5)):
                connection.execute(
                    sa.text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = 'tiercast' AND pid <> pg_backend_pid()"
                    )
                )
                pause(0.5)
