"""The processes of one scenario, and the ways to disturb them. Every process is ended by its own id."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psutil

from tests.stack import Stack, wait_for
from tiercast.embedded import EmbeddedServer, free_port
from tiercast.errors import LedgerError
from tiercast.history.address import HistoryAddress
from tiercast.ledger.client import connect

from .sink import Sink

CONFIG = """
[sources.voucherify]
secrets = ["env:TIERCAST_WEBHOOK_SECRETS"]

[actions.quick]
kind = "tests.chaos.kinds:Effect"
sink = "{sink}"
backoff = 0.2

[actions.bulk]
kind = "tests.chaos.kinds:BulkEffect"
sink = "{sink}"
concurrency = 2
batch = 50
backoff = 0.2

[actions.slow]
kind = "tests.chaos.kinds:Effect"
sink = "{sink}"
seconds = {slow}
timeout = 20
backoff = 0.2

[actions.paid]
kind = "tests.chaos.kinds:PaidEffect"
sink = "{sink}"
backoff = 0.2

[[rules]]
on = "customer.loyalty.tier.joined"
do = ["quick", "bulk"]

[[rules]]
on = "customer.loyalty.tier.upgraded"
do = ["quick", "slow", "paid"]
"""

#: What the rules above ask for, by the last word of the event's type.
ACTIONS = {"joined": ("quick", "bulk"), "upgraded": ("quick", "slow", "paid")}

#: The most jobs that can be held at once: what the actions' `concurrency` and `batch` add up to.
CAPACITY = 16 + 2 * 50 + 16 + 16

#: Put on its path, this sets a process's clock ahead.
_SHIFTED = Path(__file__).parent / "shifted"


class Arena(Stack):
    """The stack with a ledger that syncs always, several receivers and workers, and a sink.

    Args:
        lease: seconds; short, so that a run is. With the default of 30 s everything waits six times as long.
        slow: seconds that the slow action takes.
        broker: whether the broker is a server of its own.
        more: what is added to the configuration file; `{sink}` is the sink's address.
        env: more variables of the processes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lease: float = 5.0,
        slow: float = 0.3,
        broker: bool = False,
        more: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.sink = Sink(folder / "sink")
        self.config = (CONFIG + more).format(sink=self.sink.url, slow=slow)
        variables = {"TIERCAST_LEASE": str(lease), "TIERCAST_DURABILITY": "fsync", **(env or {})}
        self.broker = EmbeddedServer(folder / "broker", appendonly="no", appendfsync="no") if broker else None
        if self.broker:
            variables["TIERCAST_BROKER_URL"] = self.broker.url
        super().__init__(folder, self.config, env=variables)
        self.server = EmbeddedServer(folder / "ledger")  # append-only file, synced always
        self.lease = lease
        self.webs: dict[str, int] = {}
        self.workers: list[str] = []
        self._numbers = itertools.count(1)

    # --- start

    def __enter__(self) -> Self:
        self.sink.__enter__()
        if self.broker:
            self.broker.start()
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self.broker:
            self.broker.kill()
        self.sink.__exit__()

    def ports(self) -> list[int]:
        """Where receivers are meant to listen, whether they do just now or not."""
        return list(self.webs.values())

    def add_web(self, *, port: int | None = None) -> str:
        """Start a receiver and wait until it can store."""
        name = f"web-{next(self._numbers)}"
        self.port = port or free_port()
        self.start_web(name)
        self.webs[name] = self.port
        return name

    def add_worker(self, *, ahead: float = 0.0, concurrency: int = 2) -> str:
        """Start a worker with so many processes, its clock so many seconds ahead, and wait until it hears bells."""
        name = f"worker-{next(self._numbers)}"
        shifted = {"PYTHONPATH": str(_SHIFTED), "CLOCK_AHEAD": str(ahead)} if ahead else None
        self.start_worker(name, concurrency=concurrency, env=shifted)
        self.workers.append(name)
        return name

    # --- disturb

    def replace_web(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End a receiver and start another on its port."""
        self.stop(name, how)
        port = self.webs.pop(name)
        self.webs[name + "-gone"] = port  # the sender goes on trying it
        self.add_web(port=port)
        del self.webs[name + "-gone"]

    def restart_web(self, name: str) -> None:
        """Kill a receiver and start another on its port, whether it can store or not."""
        self.stop(name, signal.SIGKILL)
        again = f"web-{next(self._numbers)}"
        self.port = self.webs[again] = self.webs.pop(name)
        self.start(again, "receiver", "--port", str(self.port), "--workers", "1")

    def kill_worker(self, name: str) -> int:
        """Kill a worker with all its processes. Returns how many jobs were held at that instant."""
        self.freeze(name)
        held = self.held()
        self.workers.remove(name)
        self.stop(name, signal.SIGKILL)
        return held

    def kill_child(self, name: str) -> int:
        """Kill one process of a worker's pool. Returns how many jobs were held at that instant."""
        children = [child for child in psutil.Process(self.processes[name].pid).children() if _is_pool(child)]
        if not children:
            return 0
        victim = children[0]
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.suspend()
            held = self.held()
            victim.kill()
            return held
        return 0

    def freeze(self, name: str) -> None:
        """Stop a process and its children where they stand."""
        os.killpg(self.processes[name].pid, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let them go on."""
        os.killpg(self.processes[name].pid, signal.SIGCONT)

    # --- look

    @property
    def raw(self) -> Any:
        """A client of the ledger for looking; close it."""
        return connect(self.env["TIERCAST_REDIS_URL"], timeout=5)

    def held(self) -> int:
        """How many jobs are held by any process just now."""
        return len(self.held_jobs())

    def held_jobs(self) -> list[str]:
        """The keys of the jobs that any process holds just now."""
        with contextlib.closing(self.raw) as client:
            lanes = [name for name in client.smembers("tc:lanes") if name.startswith(b"jobs/")]
            return [job.decode() for name in lanes for job in client.zrange(b"tc:held:" + name, 0, -1)]

    def owes(self, lane: str) -> int:
        """How much one lane owes."""
        with contextlib.closing(self.raw) as client:
            return sum(int(client.zcard(f"tc:{key}:{lane}")) for key in ("due", "held"))

    def keys(self, pattern: str) -> list[str]:
        """The ledger's keys that match a pattern."""
        with contextlib.closing(self.raw) as client:
            return [key.decode() for key in client.scan_iter(pattern, count=5000)]

    @property
    def history_address(self) -> HistoryAddress:
        """Where its workers file; only where the environment says so."""
        return HistoryAddress.read(self.env["TIERCAST_HISTORY_URL"])

    def is_empty(self) -> bool:
        """Whether no lane owes anything; False while the ledger does not say."""
        try:
            return self.owed() == 0
        except LedgerError:
            return False

    def wait_until_drained(self, seconds: float) -> None:
        """Wait until no lane owes anything."""
        wait_for(self.is_empty, seconds=seconds, every=0.1)


def pause(seconds: float) -> None:
    """Let time pass while something is disturbed: here the time is the point."""
    time.sleep(seconds)


def _is_pool(process: psutil.Process) -> bool:
    """Whether it is a process of the pool, and not the one that runs isolated members."""
    with contextlib.suppress(psutil.Error):
        return "worker.isolation.runner" not in process.cmdline()
    return False
