"""Worker processes over actions whose kinds are the tests' own; events are put into the ledger without a receiver."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from tests.kinds import Mark, marks
from tests.stack import JOINED, Stack, wait_for
from tiercast.bells import publisher
from tiercast.ids import new_delivery_id
from tiercast.ledger import keys
from tiercast.ledger.reading import Filter
from tiercast.samples import envelope, sample_data
from tiercast.settings import load_settings

_ROOT = Path(__file__).parents[1]


class Works(Stack):
    """Workers of some actions; each event's customer is called what its jobs are to do.

    Args:
        actions: their kinds (of tests/kinds.py) and further lines of the configuration file.
        env: more variables of the processes.
    """

    def __init__(self, folder: Path, actions: Mapping[str, tuple[str, str]], *, env: Mapping[str, str] | None = None):
        config = ['[sources.voucherify]\nsecrets = ["env:TIERCAST_WEBHOOK_SECRETS"]']
        for name, (kind, lines) in actions.items():
            config.append(f'[actions.{name}]\nkind = "tests.kinds:{kind}"\neffects = "{folder}/{name}"')
            config.append("" if "behaviour" in lines else 'behaviour = "{{ event.customer.name }}"')
            config.append("\n".join(line.strip() for line in lines.split(";")))
        config.append(f'[[rules]]\non = "*"\ndo = {json.dumps(list(actions))}')
        super().__init__(folder, "\n".join(config), env={"PYTHONPATH": str(_ROOT), **(env or {})})

    def begin(self, name: str = "worker", *more: str, queues: str = "tiercast", ready: bool = True) -> None:
        """Start a worker with more arguments, and wait until it hears bells."""
        arguments = ["--without-mingle", "--without-gossip", "--loglevel", "INFO", "-Q", queues]
        if "-c" not in more:
            arguments += ["-c", "2"]
        self.start(name, "celery", "-A", "worker", "worker", "--hostname", f"{name}@test", *arguments, *more)
        if ready:
            wait_for(lambda: " ready." in self._log_of_running(name), seconds=90)

    def feed(self, *behaviours: str, ring: bool = True) -> list[str]:
        """Store an event for each behaviour, as a receiver does; returns the event ids."""
        rows, ids = [], []
        for behaviour in behaviours:
            event = envelope(JOINED, sample_data(name=behaviour))
            ids.append(event["event"]["id"])
            rows.append(("voucherify", new_delivery_id(), json.dumps(event).encode()))
        with self.opened() as (ledger, _):
            bells = ledger.record(rows).bells
        if ring:
            for lane in bells:
                publisher(load_settings(self.env))(lane)
        return ids

    def effects(self, action: str, what: str = "effect") -> list[Mark]:
        """What an action's kind has written down."""
        return marks(self.folder / action, what)

    def count(self, action: str | None = None) -> Counter[str]:
        """How many jobs there are in each state."""
        with self.opened() as (_, reader):
            return Counter(str(job.state) for job in reader.jobs(Filter(action=action)))

    def wait_until(self, action: str | None = None, *, seconds: float = 60.0, **states: int) -> None:
        """Wait until there are exactly so many jobs in each state."""
        self.wait_for_states(states, action, seconds)

    def wait_for_states(self, states: Mapping[str, int], action: str | None = None, seconds: float = 60.0) -> None:
        """Wait until there are exactly so many jobs in each state; fail with what there is, and the worker's log."""
        seen: Counter[str] = Counter()

        def reached() -> bool:
            seen.clear()
            seen.update(self.count(action))
            return seen == states

        try:
            wait_for(reached, seconds=seconds, every=0.1)
        except AssertionError:
            raise AssertionError(f"{dict(seen)}, not {dict(states)}\n{self.log('worker')[-3000:]}") from None

    def history(self, event: str, action: str) -> list[tuple[str, str | None]]:
        """Outcome and error of each attempt of a job."""
        with self.opened() as (_, reader):
            found = reader.job(keys.job_key("voucherify", event, action))
        assert found is not None
        return [(attempt.outcome, attempt.error) for attempt in found.history]

    def held(self) -> int:
        """How many members are under a lease, in all lanes."""
        with self.opened() as (_, reader):
            return sum(lane.held for lane in reader.lanes())

    def family(self, name: str = "worker") -> list[psutil.Process]:
        """A worker's processes: its own, those of its pool, and the one of isolated members."""
        main = psutil.Process(self.processes[name].pid)
        return [main, *main.children(recursive=True)]

    def __exit__(self, *exc: object) -> None:
        families: Iterator[psutil.Process] = (p for name in self.processes for p in _alive(self, name))
        members = list(families)
        super().__exit__(*exc)
        for process in members:
            if process.is_running():
                process.send_signal(signal.SIGKILL)


def _alive(works: Works, name: str) -> list[psutil.Process]:
    try:
        return works.family(name)
    except psutil.NoSuchProcess:
        return []


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def once_each(found: list[Mark]) -> bool:
    """Whether no key has been written down twice."""
    return len({mark.key for mark in found}) == len(found)
