"""The phases that each participant goes through, and the figures that come out.

1. Filling: the workers are up and warm, but frozen; N webhooks come in. Acks a second, latency, bytes an owed event.
2. Draining: the workers go on; the receiver has nothing to do. Actions a second from a backlog.
3. Through: N webhooks come in while the workers work. Actions a second from the first request, CPU an event.
4. Open loop: webhooks at a fixed rate while the workers work. Latency from when each was due.
5. Idle: single webhooks, far apart. Delay from sending one to the start of its actions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .effects import ACTIONS, STAMPED
from .load import Load
from .participants import Participant
from .processes import Process
from .stage import Stage

#: The figures of one participant in one round, by name.
Figures = dict[str, float]

#: Webhooks that warm everything up before anything is measured.
_WARM_UP = 200

#: Seconds after which a backlog counts as not drained; what was done until then makes the rate.
_LONGEST = 240.0

#: Webhooks a second of the idle phase: far apart for all, and in step with nobody's polling.
_IDLE_RATE = 9.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much is measured. `open_rate` is webhooks a second, `open_seconds` how long, `idle` how many webhooks."""

    events: int = 5000
    connections: int = 32
    open_rate: float = 500.0
    open_seconds: float = 6.0
    idle: int = 100


def measure(who: Participant, folder: Path, options: Options, *, appendfsync: str) -> Figures:
    """Take one participant through all phases that it can go through.

    Raises:
        ChildProcessError, TimeoutError: a process ended, or did not start.
    """
    env = {"TIERCAST_DURABILITY": "fsync" if appendfsync == "always" else "written"}
    with Stage(folder, appendfsync=appendfsync, config=who.config(), env=env) as stage:
        stage.start("web", (*who.web, str(stage.port)))
        stage.wait_for_port()
        worker = stage.start("worker", who.worker) if who.worker else None
        _warm_up(stage, worker)
        figures: Figures = {}
        for phase in _phases(who, stage, worker, options):
            figures |= phase
        return figures


def _phases(who: Participant, stage: Stage, worker: Process | None, options: Options) -> Iterator[Figures]:
    yield _fill(stage, worker, options)
    if worker is not None:
        yield _drain(stage, worker, options.events)
        yield _through(stage, options)
    if not who.bulk:
        yield _open(stage, options)
    if worker is not None and not who.bulk:
        yield _idle(stage, options)


def _warm_up(stage: Stage, worker: Process | None) -> None:
    stage.load(count=_WARM_UP)
    if worker is not None:
        wanted = _WARM_UP * len(ACTIONS)
        stage.must(lambda: stage.effects() >= wanted, seconds=90, what="the first actions are done")
        time.sleep(0.3)  # what the last one leaves to do: acknowledging, settling
        stage.reset()


def _fill(stage: Stage, worker: Process | None, options: Options) -> Figures:
    if worker is not None:
        worker.freeze()
    before = stage.memory()
    load = _sent(stage.load(count=options.events, connections=options.connections))
    return {
        "acks": load.acks / load.seconds,
        **_latencies("ack", load.latencies),
        "load_cpu": load.cpu / load.seconds,
        "bytes": (stage.memory() - before) / options.events,
    }


def _drain(stage: Stage, worker: Process, events: int) -> Figures:
    began = time.monotonic()
    worker.thaw()
    wanted = events * len(ACTIONS)
    stage.until(lambda: stage.effects() >= wanted, seconds=_LONGEST)
    seconds, done = time.monotonic() - began, stage.effects()
    _rest(stage, wanted)
    stage.reset()
    return {"drained": done / seconds, "drained_missing": max(0, wanted - done)}


def _through(stage: Stage, options: Options) -> Figures:
    wanted = options.events * len(ACTIONS)
    before = stage.cpu()
    finish = stage.loading(count=options.events, connections=options.connections)
    stage.until(lambda: stage.effects() >= wanted, seconds=_LONGEST, every=0.01)
    ended, done = time.time(), stage.effects()
    load = _sent(finish())
    used = {name: (after - before[name]) / options.events * 1000 for name, after in stage.cpu().items()}
    _rest(stage, wanted)
    extra = stage.effects() - wanted
    stage.reset()
    return {
        "through": done / (ended - load.began),
        "through_missing": max(0, wanted - done),
        "extra": max(0, extra),
        "cpu": sum(used.values()),
        **{f"cpu_{name}": value for name, value in used.items()},
    }


def _open(stage: Stage, options: Options) -> Figures:
    count = round(options.open_rate * options.open_seconds)
    load = _sent(stage.load(count=count, rate=options.open_rate, connections=options.connections * 2))
    if len(stage.processes) > 1:
        stage.until(lambda: stage.effects() >= count * len(ACTIONS), seconds=_LONGEST)
        stage.reset()
    return _latencies("open", load.latencies)


def _idle(stage: Stage, options: Options) -> Figures:
    time.sleep(1)
    load = _sent(stage.load(count=options.idle, rate=_IDLE_RATE, connections=1, prefix=f"{STAMPED}_"))
    wanted = options.idle * len(ACTIONS)
    stage.until(lambda: sum(map(len, stage.stamps().values())) >= wanted, seconds=30)
    delays = [at - load.sent[event] for event, stamps in stage.stamps().items() for _, at in stamps]
    stage.reset()
    return _latencies("idle", delays)


def _rest(stage: Stage, wanted: int) -> None:
    """Give what was missed in time a chance to end, so that it does not burden the next phase."""
    if not stage.until(lambda: stage.effects() >= wanted, seconds=_LONGEST, every=0.1):
        raise TimeoutError(f"{wanted - stage.effects()} of {wanted} actions never happened")
    time.sleep(0.3)


def _sent(load: Load) -> Load:
    if load.refused:
        raise ChildProcessError(f"{load.refused} requests were refused")
    return load


def _latencies(name: str, seconds: Sequence[float]) -> Figures:
    """Quantiles in milliseconds."""
    parts = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    return {f"{name}_{part}": quantile(seconds, share) * 1000 for part, share in parts.items()}


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` of all do not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
