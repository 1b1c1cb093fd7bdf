"""Who takes part in the workloads that wait, and the settings that each is tried with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .environments import Environment, node_folder, python
from .participants import OWN_WEB, OWN_WORKER

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a contender is run.

    Args:
        processes: how many worker programs (for prefork: how many processes in one).
        connections: how many jobs each process does at once.
        shape: `event`: one task for an event, which performs its action; `action`: a task for the event, which
            enqueues a task for its action. Empty where there is nothing to choose.
    """

    processes: int = 0
    connections: int = 0
    shape: str = ""

    def __str__(self) -> str:
        if not self.processes:
            return "defaults"
        each = f" of {self.connections}" if self.connections > 1 else ""
        return f"{self.processes} processes{each}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One set-up. `sizes` are the (processes, connections) that it is tried with, the middle one in quick runs.

    `shape` is that of its settings. With a task for each action, an action is retried alone, as ours are. With one task
    for an event, a retry repeats all that the event leads to; that is less work, and right for an only action.
    """

    name: str
    label: str
    environment: Environment
    web: Command
    workers: Callable[[Setting], Sequence[Command]]
    sizes: tuple[tuple[int, int], ...] = ()
    shape: str = "action"
    ours: bool = False

    def settings(self, *, bulk: bool, quick: bool) -> list[Setting]:
        """The settings to try. In bulk there is no choice of shape."""
        if not self.sizes:
            return [Setting()]
        sizes = (self.sizes[len(self.sizes) // 2],) if quick else self.sizes
        return [Setting(processes=p, connections=c, shape="" if bulk else self.shape) for p, c in sizes]

    def env(self, setting: Setting) -> dict[str, str]:
        """The variables that say how to run."""
        return {
            "BENCH_PROCESSES": str(setting.processes),
            "BENCH_CONNECTIONS": str(setting.connections),
            "BENCH_SHAPE": setting.shape,
        }


_CELERY = (python("flask"), "-m", "celery", "-A", "bench.peers.waiting_celery:celery", "worker")
_QUIET = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat")
_FLASK = (python("flask"), "-m", "bench.peers.serve", "bench.peers.waiting_celery:app")


def _prefork(setting: Setting) -> list[Command]:
    return [(*_CELERY, "--pool", "prefork", "--concurrency", str(setting.processes), *_QUIET)]


def _gevent(setting: Setting) -> list[Command]:
    options = ("--pool", "gevent", "--concurrency", str(setting.connections))
    return [(*_CELERY, "-n", f"green{number}@%h", *options, *_QUIET) for number in range(setting.processes)]


def _bullmq(_: Setting) -> list[Command]:
    return [("node", str(node_folder() / "waiting.js"))]


def _own(_: Setting) -> list[Command]:
    return [OWN_WORKER]


_GREEN_SIZES = ((2, 100), (2, 300), (2, 1000))
_NODE_SIZES = ((2, 100), (2, 300), (3, 300), (2, 1000))
_NODE_WEB = ("node", str(node_folder() / "web.js"))

ALL = (
    Contender(
        name="celery-prefork",
        label="Celery, prefork",
        environment="flask",
        web=_FLASK,
        workers=_prefork,
        sizes=((32, 1), (64, 1), (128, 1)),
    ),
    Contender(
        name="celery-gevent",
        label="Celery, gevent",
        environment="flask",
        web=_FLASK,
        workers=_gevent,
        sizes=_GREEN_SIZES,
    ),
    Contender(
        name="celery-gevent-event",
        label="gevent, task an event",
        environment="flask",
        web=_FLASK,
        workers=_gevent,
        sizes=_GREEN_SIZES,
        shape="event",
    ),
    Contender(name="bullmq", label="BullMQ", environment="node", web=_NODE_WEB, workers=_bullmq, sizes=_NODE_SIZES),
    Contender(
        name="bullmq-event",
        label="BullMQ, job an event",
        environment="node",
        web=_NODE_WEB,
        workers=_bullmq,
        sizes=_NODE_SIZES,
        shape="event",
    ),
    Contender(name="tiercast", label="Tiercast", environment="own", web=OWN_WEB, workers=_own, ours=True),
)

BY_NAME = {one.name: one for one in ALL}
