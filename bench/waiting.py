"""The workloads that wait, measured: tune each contender, then take all of them in turn, round after round.

One run: the receiver and the workers start and do a first hundred events. The workers are frozen, N webhooks come in
through the contender's own receiver, and the workers go on. Measured is from there to the last answer of the endpoint.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from .contenders import BY_NAME, Contender, Setting
from .endpoint import Stats
from .endpoint_process import EndpointProcess
from .measure import Figures
from .processes import Process
from .stage import Stage
from .workloads import Workload

#: Events of the warm-up; also what every count is a multiple of, since peers make a bulk call for each hundred.
_HUNDRED = 100

#: Seconds after which a backlog counts as not drained; what was done until then makes the rate.
_LONGEST_SECONDS = 90.0

#: Seconds without a further call after which nothing more is expected.
_SILENCE_SECONDS = 20.0

#: The most events of one run.
_MOST_EVENTS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured: the least events and the seconds of a trial, the seconds of a measured run, rounds."""

    trial: int = 2000
    trial_seconds: float = 3.0
    seconds: float = 10.0
    rounds: int = 3
    quick: bool = False


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came out of one workload, by contender."""

    best: dict[str, Setting] = field(default_factory=dict)
    trials: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "best": {name: asdict(setting) for name, setting in self.best.items()},
            "trials": self.trials,
            "rounds": self.rounds,
            "left_out": self.left_out,
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Outcome:
        """From JSON."""
        best = {name: Setting(**setting) for name, setting in document["best"].items()}
        return cls(best=best, **{name: document[name] for name in ("trials", "rounds", "left_out")})


def compare(
    workload: Workload,
    contenders: Sequence[Contender],
    folder: Path,
    effort: Effort,
    *,
    known: Mapping[str, Setting] | None = None,
) -> Outcome:
    """Measure a workload.

    Args:
        workload: which.
        contenders: whose environments are there.
        folder: for the servers' data and the logs.
        effort: how much.
        known: the best settings of an earlier run; those contenders are not tuned again.
    """
    outcome = Outcome()
    if workload.bulk:
        contenders = [who for who in contenders if who.shape == "action"]
    print(f"\n{workload.name}: {workload.label}", flush=True)
    counts: dict[str, int] = {}
    for who in contenders:
        with _left_out(outcome, who):
            setting, rate = _tune(who, workload, folder, effort, outcome, (known or {}).get(who.name))
            outcome.best[who.name] = setting
            counts[who.name] = _count(rate, effort.trial, effort.seconds)
    for number in range(effort.rounds):
        for who in contenders:
            if who.name in outcome.left_out:
                continue
            with _left_out(outcome, who):
                place = folder / f"{workload.name}-{who.name}-{number}"
                figures = measure(who, outcome.best[who.name], workload, place, count=counts[who.name])
                outcome.rounds.setdefault(who.name, []).append(figures)
                _say(f"round {number + 1}/{effort.rounds}", who, outcome.best[who.name], figures)
    return outcome


class _left_out:  # noqa: N801 - a context manager
    """Leaves a contender out, with the reason, when it fails."""

    def __init__(self, outcome: Outcome, who: Contender) -> None:
        self._outcome, self._who = outcome, who

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if not isinstance(error, ChildProcessError | TimeoutError | OSError):
            return False
        self._outcome.left_out[self._who.name] = f"it failed: {error}"
        self._outcome.rounds.pop(self._who.name, None)
        print(f"{self._who.label} failed and is left out: {error}", file=sys.stderr, flush=True)
        return True


def _tune(
    who: Contender, workload: Workload, folder: Path, effort: Effort, outcome: Outcome, known: Setting | None
) -> tuple[Setting, float]:
    """Try each setting once; returns the best with its jobs a second."""
    rates: dict[Setting, float] = {}
    for setting in [known] if known else who.settings(bulk=workload.bulk, quick=effort.quick):
        place = folder / f"{workload.name}-{who.name}-try{len(rates)}"
        # A program that compiles while it runs is quicker after some seconds than in its first.
        count = _count(max(rates.values(), default=0.0), effort.trial, effort.trial_seconds)
        figures = measure(who, setting, workload, place, count=count)
        rates[setting] = 0.0 if figures["missing"] or figures["doubled"] else figures["rate"]
        _say("trial", who, setting, figures)
    best = max(rates, key=lambda setting: rates[setting])
    outcome.trials[who.name] = [(str(setting), rate) for setting, rate in rates.items()]
    return best, rates[best]


def _count(rate: float, least: int, seconds: float) -> int:
    """How many events keep a contender busy for about the seconds wanted."""
    wanted = min(max(rate * seconds, least), _MOST_EVENTS)
    return max(1, round(wanted / _HUNDRED)) * _HUNDRED


def measure(who: Contender, setting: Setting, workload: Workload, folder: Path, *, count: int) -> Figures:
    """Take one contender through one run.

    Raises:
        ChildProcessError, TimeoutError: a process ended, or did not start.
    """
    with EndpointProcess(workload.spec) as endpoint:
        config = workload.config(endpoint.port) if who.ours else ""
        env = workload.env(endpoint.port) | who.env(setting)
        with Stage(folder, config=config, env=env) as stage:
            stage.start("web", (*who.web, str(stage.port)))
            stage.wait_for_port()
            workers = [stage.start(f"worker{n}", command) for n, command in enumerate(who.workers(setting))]
            _warm_up(stage, endpoint)
            for worker in workers:
                worker.freeze()
            load = stage.load(count=count)
            if load.refused:
                raise ChildProcessError(f"{load.refused} requests were refused")
            return _drain(stage, endpoint, workers, count)


def _warm_up(stage: Stage, endpoint: EndpointProcess) -> None:
    # The receiver's first webhook, of `wait_for_port`, is one of the hundred.
    stage.load(count=_HUNDRED - 1)
    found = endpoint.until(lambda stats: stats.jobs >= _HUNDRED, seconds=90, check=_checking(stage))
    if found.jobs < _HUNDRED:
        raise TimeoutError(f"{found.jobs} of the first {_HUNDRED} events were done in 90 s; see {stage.folder}")
    endpoint.until(lambda stats: not stats.in_flight, seconds=10, check=_checking(stage))
    time.sleep(0.5)  # what the last one leaves to do: acknowledging, settling
    endpoint.reset()


def _drain(stage: Stage, endpoint: EndpointProcess, workers: Sequence[Process], count: int) -> Figures:
    before, idle = stage.cpu(), endpoint.stats()
    began = time.time()
    for worker in workers:
        worker.thaw()
    found = _until_done(stage, endpoint, count)
    used = {name: value - before[name] for name, value in stage.cpu().items()}
    weights = [weight for worker in workers for weight in worker.weights()]
    time.sleep(1)  # time for a call that is one too many
    last = endpoint.stats()
    seconds, from_first = max(found.last - began, 1e-9), max(found.last - found.first, 1e-9)
    jobs = max(found.distinct, 1)
    return {
        "rate": found.distinct / seconds,
        "rate_from_first": found.distinct / from_first,
        "first": found.first - began,
        "seconds": seconds,
        "jobs": found.distinct,
        "calls": found.calls,
        "peak": found.peak,
        "cpu_worker": sum(value for name, value in used.items() if name.startswith("worker")) / jobs * 1000,
        "cpu_server": used["server"] / jobs * 1000,
        "cpu_endpoint": (found.cpu - idle.cpu) / jobs * 1000,
        "endpoint_share": (found.cpu - idle.cpu) / seconds,
        "processes": len(weights),
        "memory": max((weight.rss for weight in weights), default=0),
        "memory_all": sum(weight.pss for weight in weights),
        "missing": count - last.distinct,
        "doubled": last.jobs - last.distinct,
        "unsigned": last.unsigned + last.unknown,
    }


def _until_done(stage: Stage, endpoint: EndpointProcess, count: int) -> Stats:
    """Wait for the last answer, or until nothing comes any more."""
    newest = [0, time.monotonic()]

    def done(stats: Stats) -> bool:
        if stats.calls != newest[0]:
            newest[:] = [stats.calls, time.monotonic()]
        silent = time.monotonic() - newest[1] > _SILENCE_SECONDS
        return (stats.distinct >= count and not stats.in_flight) or silent

    return endpoint.until(done, seconds=_LONGEST_SECONDS, check=_checking(stage))


def _checking(stage: Stage) -> Any:
    def check() -> None:
        for process in stage.processes:
            process.check()

    return check


def _say(what: str, who: Contender, setting: Setting, figures: Figures) -> None:
    print(
        f"  {what:9} {who.label:22} {setting!s:21} {figures['rate']:7,.0f} jobs/s"
        f"  {figures['cpu_worker']:5.2f} ms CPU  {figures['peak']:5,.0f} at once",
        flush=True,
    )
    for text in wrong(figures):
        print(f"            ATTENTION {text}", flush=True)


def wrong(figures: Figures) -> Iterator[str]:
    """What no figure may hide."""
    if figures["missing"] > 0:
        yield f"{figures['missing']:,.0f} events were not done in time"
    if figures["doubled"] > 0:
        yield f"{figures['doubled']:,.0f} calls too many"
    if figures["unsigned"] > 0:
        yield f"{figures['unsigned']:,.0f} calls without their event's id or a right signature"


def middle(rounds: Sequence[Figures], figure: str) -> float:
    """The median over the rounds."""
    return median(one[figure] for one in rounds)


def best_peer(rounds: Mapping[str, Sequence[Figures]], *, shape: str = "") -> str:
    """The peer (of a shape) with the most jobs a second; empty where none was measured."""
    peers = [BY_NAME[name] for name in rounds if name in BY_NAME and not BY_NAME[name].ours]
    names = [who.name for who in peers if not shape or who.shape == shape]
    return max(names, key=lambda name: middle(rounds[name], "rate"), default="")
