"""One process of the worker: builds its parts, starts them and stops them. The only module that knows them all."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable

import structlog

from tiercast.bells import lanes_of, publisher, queue_of
from tiercast.config import load_config
from tiercast.config.model import ActionSpec, Config
from tiercast.ledger import Digests, Ledger, keys, open_ledger, prepare
from tiercast.ledger.filed import Filed
from tiercast.ledger.filing import start_filing
from tiercast.ledger.model import Claim, Exchange, HeldJob, Outcome
from tiercast.ringer import BellRinger
from tiercast.settings import Settings, load_settings

from .drains import Drain
from .execution.drain import JobsDrain, learn_name
from .execution.executor import Executor
from .execution.leases import LeaseTable
from .execution.outbox import Outbox
from .filing.archive import Archive
from .filing.drain import FilingDrain
from .intake.drain import DeliveriesDrain
from .operations.drain import OperationsDrain
from .supervision.heartbeat import Heartbeat, overdue_after
from .supervision.loop import EventLoop
from .supervision.shutdown import CANCEL_SECONDS, shut_down
from .threads import Threads

log = structlog.get_logger()

#: Seconds that a task waits for its lane, so that what is quickly done stands in its result.
REPORT_SECONDS = 0.05


class WorkerProcess:
    """What one process needs to work on lanes. Made once, after the fork; safe to use from several threads.

    Args:
        settings: of the environment.
        config: the configuration, loaded.
        queues: the Celery queues that this worker consumes; only lanes of these are drained here without a bell.
        isolated: claim only members whose lease has expired at least twice.
    """

    def __init__(
        self, settings: Settings, config: Config, *, queues: frozenset[str] | None = None, isolated: bool = False
    ) -> None:
        self.settings = settings
        self.config = config
        self.ledger: Ledger = open_ledger(settings, role="worker")
        self.digests: Digests = prepare(self.ledger, settings)
        self.ringer = BellRinger(publisher(settings, lambda lane: queue_of(config, lane)))
        self.loop = EventLoop()
        self._threads = Threads("drain")
        self._archive: Archive | None = None
        self._drains_here = frozenset(
            lane for lane in lanes_of(config) if not isolated and (queues is None or queue_of(config, lane) in queues)
        )
        self.intakes: dict[str, DeliveriesDrain] = {}
        self.actions: dict[str, JobsDrain] = {}
        for source in config.sources:
            lane = keys.deliveries_lane(source)
            self.intakes[lane] = DeliveriesDrain(
                lane, self.ledger, config, self.digests, self, self._threads, isolated=isolated
            )
        for spec in config.actions.values():
            drain = self._jobs_drain(spec, isolated=isolated)
            self.actions[drain.lane] = drain
        self.filing = self._filing_drain(isolated=isolated) if settings.files else None
        self.operations = OperationsDrain(
            self.ledger,
            self.digests,
            self,
            self._threads,
            filed=self._read_archive if settings.files else None,
            isolated=isolated,
        )
        self.heartbeat = Heartbeat(self.ledger, list(self.actions.values()), list(self.intakes.values()), self._threads)

    def _filing_drain(self, *, isolated: bool) -> FilingDrain:
        start_filing(self.ledger)
        self._archive = Archive(self.settings.history, self.ledger)
        return FilingDrain(
            self.ledger,
            self._archive.open,
            self,
            self._threads,
            keep_days=self.settings.keep_history_days,
            late_first=lanes_of(self.config),
            isolated=isolated,
        )

    def _read_archive(self) -> Filed:
        """Reads of the history that this process files into."""
        assert self._archive is not None  # noqa: S101 - for the type
        return self._archive.open().reading

    def _jobs_drain(self, spec: ActionSpec, *, isolated: bool) -> JobsDrain:
        lane, learn = keys.jobs_lane(spec.name), learn_name(spec)

        def settle(outcomes: list[Outcome], claim: Claim | None) -> Exchange[HeldJob]:
            return self.ledger.exchange_jobs(lane, outcomes, claim, learn=learn)

        outbox = Outbox(settle, lambda outcome: drain.count(**{outcome.verdict: 1}))
        leases = LeaseTable(self.ledger.lease, overdue_after(spec))
        executor = Executor(spec, spec.make(), leases, outbox, self.loop.loop)
        drain = JobsDrain(lane, self.ledger, executor, outbox, self, self._threads, isolated=isolated)
        return drain

    # --- lanes

    def knows(self, lane: str) -> bool:
        """Whether the configuration has that source or action, or the lane is always there."""
        if lane == keys.HISTORY:
            return self.filing is not None
        return lane in self.intakes or lane in self.actions or lane == self.operations.lane

    def drain_of(self, lane: str) -> Drain:
        """The drain of a lane that the configuration knows."""
        if lane == keys.HISTORY and self.filing is not None:
            return self.filing
        if lane == self.operations.lane:
            return self.operations
        return self.intakes.get(lane) or self.actions[lane]

    def due(self, lanes: Iterable[str], *, draining: str = "") -> None:
        """Lanes have become due: drain those of actions here, where their queue is served, and ring for others.

        A bell for the lane that the caller is `draining` calls for help, so it is rung.
        """
        ring = []
        for lane in lanes:
            drain = self.actions.get(lane) if lane in self._drains_here and lane != draining else None
            if drain is not None and (drain.is_running or drain.executor.capacity()):
                drain.start(heard=True)
            elif self.knows(lane):
                ring.append(lane)
        self.ringer.ring(ring)

    def hear(self, lane: str) -> dict[str, int | dict[str, int]]:
        """A bell named this lane: have it drained. Returns counts, for monitors.

        The lane is drained in the background, so that this process can hear the next bell. What is done within a moment
        is counted: `claimed`, and how many ended in which state; `jobs` holds the same of the jobs that deliveries of
        this lane led to. The rest is counted by the lane's next bell.
        """
        drain = self.drain_of(lane)
        was_running = drain.is_running
        drain.start(heard=True)
        deadline = time.monotonic() + REPORT_SECONDS
        if not was_running:
            drain.wait(REPORT_SECONDS)
        counts: dict[str, int | dict[str, int]] = {"claimed": 0, **drain.take_counts()}
        if lane in self.intakes:
            jobs = self._counts_of_jobs(deadline if not was_running else 0.0)
            if jobs:
                counts["jobs"] = jobs
        return counts

    def _counts_of_jobs(self, deadline: float) -> dict[str, int]:
        """What has become of the jobs of all actions, since this was last asked; those under way are waited for."""
        counts: Counter[str] = Counter()
        for drain in self.actions.values():
            drain.wait(max(0.0, deadline - time.monotonic()))
            counts.update(drain.take_counts())
        return dict(counts)

    # --- begin and end

    def start(self) -> None:
        """Start the event loop and the heartbeat."""
        self.loop.start()
        self.heartbeat.start()

    def stop(self, grace: float, *, patient: bool = False) -> None:
        """Give back what has not begun, give what runs `grace` seconds, settle, and close all connections.

        Args:
            patient: give what runs as long as it may take by its time-out.
        """
        self.heartbeat.stop()
        if patient:
            grace = max(grace, longest_attempt(self.config) + CANCEL_SECONDS)
        others: list[Drain] = [*self.intakes.values(), self.operations]
        if self.filing is not None:
            others.append(self.filing)
        shut_down(list(self.actions.values()), others, self.loop, self.ringer, self.ledger, grace=grace)
        self.heartbeat.end()
        if self._archive is not None:
            self._archive.close()


#: Settings and configuration, as they were read together.
Loaded = tuple[Settings, Config]

_lock = threading.Lock()
_process: WorkerProcess | None = None
_loaded: Loaded | None = None
_queues: frozenset[str] | None = None


def load() -> Loaded:
    """Settings and configuration, read once; a forked process inherits them.

    Raises:
        ConfigError, SettingsError: as they say.
    """
    global _loaded
    if _loaded is None:
        settings = load_settings()
        _loaded = settings, load_config(settings)
    return _loaded


def read() -> Loaded:
    """Read settings and configuration anew, and check that the ledger goes with them. Changes nothing here.

    Raises:
        ConfigError, SettingsError, LedgerError: as they say.
    """
    settings = load_settings()
    config = load_config(settings)
    ledger = open_ledger(settings, role="operator")
    try:
        prepare(ledger, settings)
    finally:
        ledger.close()
    return settings, config


def use(loaded: Loaded) -> Loaded:
    """Have what is started from now on use these settings and this configuration; returns those before."""
    global _loaded
    before = load()
    _loaded = loaded
    return before


def longest_attempt(config: Config) -> float:
    """Seconds that an attempt may take at the most, of whatever action, until it is given up."""
    return max((overdue_after(spec) for spec in config.actions.values()), default=0.0)


def serve_queues(queues: Iterable[str]) -> None:
    """Note which Celery queues this worker consumes; before it forks its pool."""
    global _queues
    _queues = frozenset(queues)


def process() -> WorkerProcess:
    """The worker process that this is, made and started at its first use."""
    global _process
    with _lock:
        if _process is None:
            _process = WorkerProcess(*load(), queues=_queues)
            _process.start()
        return _process


def stop(grace: float, *, patient: bool = False) -> None:
    """Stop what `process` started, if anything; see `WorkerProcess.stop`."""
    with _lock:
        if _process is not None:
            _process.stop(grace, patient=patient)
