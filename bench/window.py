"""Whether the worker finds what a vendor bears, and what it holds meanwhile: `make bench-window`.

1. slow: the vendor serves 50 calls at once, each in 100 ms, and queues what is above: latency grows with the queue.
2. refusing: the vendor takes 20 calls a second and answers 429, without a time, above; no rate is configured.
3. memory: 100,000 jobs at an endpoint that takes 300 ms: memory and open descriptors of each process over time.

One `webhook` action at default settings, the worker as in the Procfile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .endpoint import Spec, Stats
from .endpoint_process import EndpointProcess
from .environments import HOME, ROOT, prepare
from .machine import describe
from .participants import OWN_WEB, OWN_WORKER
from .processes import Process, Weight, end_cleanly
from .report import machine_table, table, write_between
from .stage import Stage
from .workloads import BY_NAME

_WORKLOAD = BY_NAME["http-300ms"]

#: The least share of what the vendor bears, after half a minute.
_LEAST_SHARE = 0.85

#: The most that memory may grow by in the second half of the jobs, and the descriptors that may be left in a process.
_MOST_GROWTH, _MOST_LEFT = 0.10, 8

#: Seconds after the last job until descriptors are counted: idle connections are closed by then.
_SETTLE_SECONDS = 20.0

#: The most dead jobs that are counted.
_MOST_DEAD = 1000

_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A vendor with a limit; `bears` is how many calls a second it can answer."""

    name: str
    label: str
    spec: Spec
    bears: float


_SECRET = _WORKLOAD.spec.secret

VENDORS = (
    Vendor(
        name="slow",
        label="serves 50 calls at once, in 100 ms each, and slows beyond",
        spec=Spec(delay=0.1, capacity=50, secret=_SECRET),
        bears=500.0,
    ),
    Vendor(
        name="refusing",
        label="answers 429 above 20 calls a second, without a time",
        spec=Spec(delay=0.05, rate=20, secret=_SECRET),
        bears=20.0,
    ),
)


@dataclass(slots=True, kw_only=True)
class Course:
    """What happened at a vendor: calls answered and refused in each second, calls that it held, and what was dead."""

    bears: float
    learning: int
    answered: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    dead: int = 0

    @property
    def share(self) -> float:
        """Calls answered after the time for learning, as a share of what the vendor bears."""
        rest = self.answered[self.learning :]
        return sum(rest) / len(rest) / self.bears if rest else 0.0

    @property
    def kept(self) -> bool:
        """Whether the bar is met: throughput, and no job dead."""
        return self.share >= _LEAST_SHARE and not self.dead


@dataclass(slots=True, kw_only=True)
class Look:
    """One look at the worker: seconds since the first call, jobs done, calls in flight, what each process holds."""

    seconds: float
    done: int
    in_flight: int
    weights: list[Weight]


@dataclass(slots=True, kw_only=True)
class Holding:
    """What the worker's processes held over many jobs, `before` the first and `after` the last."""

    jobs: int
    before: list[Weight]
    looks: list[Look]
    after: list[Weight]
    doubled: int
    dead: int

    @property
    def growth(self) -> float:
        """By what share the processes' memory together grew over the second half of the jobs."""
        half = next((look for look in self.looks if look.done >= self.jobs / 2), self.looks[-1])
        return _total(self.looks[-1].weights) / _total(half.weights) - 1

    @property
    def left(self) -> int:
        """The most descriptors that a process has more than it had before."""
        had = {weight.pid: weight.descriptors for weight in self.before}
        return max((weight.descriptors - had.get(weight.pid, 0) for weight in self.after), default=0)

    @property
    def kept(self) -> bool:
        """Whether memory stayed flat, no descriptor was left, and every job was done once."""
        done = self.looks[-1].done >= self.jobs and not self.doubled and not self.dead
        return done and self.growth <= _MOST_GROWTH and self.left <= _MOST_LEFT


@contextlib.contextmanager
def _working(spec: Spec, folder: Path) -> Iterator[tuple[EndpointProcess, Stage, Process]]:
    """An endpoint, a receiver and a worker that has done its first job."""
    with EndpointProcess(spec) as endpoint:
        config, env = _WORKLOAD.config(endpoint.port), _WORKLOAD.env(endpoint.port)
        with Stage(folder, config=config, env=env) as stage:
            stage.start("web", (*OWN_WEB, str(stage.port)))
            stage.wait_for_port()  # its webhook is the first job
            worker = stage.start("worker", OWN_WORKER)
            found = endpoint.until(lambda stats: bool(stats.last), seconds=_START_SECONDS, check=worker.check)
            if not found.last:
                raise TimeoutError(f"the worker made no call in {_START_SECONDS:.0f} s; see {folder}")
            time.sleep(2)
            yield endpoint, stage, worker


def watch(vendor: Vendor, folder: Path, *, seconds: int, learning: int) -> Course:
    """Run the worker against a vendor for some seconds; the first of them are for learning."""
    course = Course(bears=vendor.bears, learning=learning)
    with _working(vendor.spec, folder) as (endpoint, stage, worker):
        endpoint.reset()
        stage.load(count=round(vendor.bears * (seconds + 10) * 1.2))
        found = endpoint.until(lambda stats: bool(stats.first), seconds=_START_SECONDS, check=worker.check)
        while (now := time.time() - found.first) < seconds + 0.5:
            worker.check()
            course.held.append(endpoint.stats().in_flight)
            time.sleep(1 - now % 1)
        found = endpoint.stats()
        course.answered = (found.answered + [0] * seconds)[:seconds]
        course.refused = (found.refused + [0] * seconds)[:seconds]
        course.dead = _dead(stage)
    return course


def hold(jobs: int, folder: Path, *, longest: float, every: float, settle: float) -> Holding:
    """Do many jobs, and look at the worker's processes meanwhile."""
    with _working(_WORKLOAD.spec, folder) as (endpoint, stage, worker):
        endpoint.reset()
        before = worker.weights()
        finish = stage.loading(count=jobs)
        looks: list[Look] = []
        deadline = time.monotonic() + longest
        while not looks or ((looks[-1].done < jobs or looks[-1].in_flight) and time.monotonic() < deadline):
            found = endpoint.until(_reaches(jobs), seconds=every, check=worker.check)
            looks.append(_look(found, worker))
            print(f"  {_line(looks[-1])}", flush=True)
        finish()
        time.sleep(settle)
        found = endpoint.stats()
        return Holding(
            jobs=jobs,
            before=before,
            looks=looks,
            after=worker.weights(),
            doubled=found.jobs - found.distinct,
            dead=_dead(stage),
        )


def _reaches(jobs: int) -> Callable[[Stats], bool]:
    return lambda stats: stats.distinct >= jobs and not stats.in_flight


def _look(found: Stats, worker: Process) -> Look:
    seconds = time.time() - found.first if found.first else 0.0
    return Look(seconds=seconds, done=found.distinct, in_flight=found.in_flight, weights=worker.weights())


def _dead(stage: Stage) -> int:
    return len(stage.tiercast("jobs", "list", "--state", "dead", "--limit", str(_MOST_DEAD))["jobs"])


def _total(weights: Sequence[Weight]) -> int:
    return sum(weight.pss for weight in weights) or 1


def _line(look: Look) -> str:
    memory = " + ".join(f"{weight.rss / 1e6:.0f}" for weight in look.weights)
    descriptors = " + ".join(str(weight.descriptors) for weight in look.weights)
    return (
        f"{look.seconds:5.0f} s  {look.done:7,} done  {look.in_flight:5,} in flight  {memory} MB"
        f"  {descriptors} descriptors"
    )


def vendor_text(vendor: Vendor, course: Course, *, step: int) -> str:
    """The course over time, and whether the bar is met."""
    rows = []
    for start in range(0, len(course.answered), step):
        answered, refused = course.answered[start : start + step], course.refused[start : start + step]
        held = course.held[start : start + step] or [0]
        rows.append(
            (
                f"{start} to {start + len(answered)}",
                f"{sum(answered) / len(answered):,.1f}",
                f"{sum(refused) / len(refused):,.1f}",
                f"{max(held):,}",
            )
        )
    later = sum(course.refused[course.learning :])
    sentence = (
        f"The vendor bears {course.bears:g} calls a second. After {course.learning} s it answered "
        f"{course.share:.0%} of that (wanted: at least {_LEAST_SHARE:.0%}). It refused {sum(course.refused):,} calls, "
        f"{later:,} of them after {course.learning} s. {course.dead:,} jobs are dead (wanted: none). "
        f"{'Kept' if course.kept else 'NOT kept'}."
    )
    head = ("seconds", "calls answered a second", "429 a second", "most calls held by the vendor")
    return f"### A vendor that {vendor.label}\n\n{table(head, rows)}\n\n{sentence}"


def holding_text(found: Holding) -> str:
    """Memory and descriptors at ten moments, and whether both stayed flat."""
    step = max(1, len(found.looks) // 10)
    shown = [*found.looks[::step]]
    if shown[-1] is not found.looks[-1]:
        shown.append(found.looks[-1])
    rows = [
        (
            f"{look.seconds:.0f}",
            f"{look.done:,}",
            f"{look.in_flight:,}",
            " + ".join(f"{weight.rss / 1e6:.0f}" for weight in look.weights),
            " + ".join(str(weight.descriptors) for weight in look.weights),
        )
        for look in shown
    ]
    last = found.looks[-1]
    after = " + ".join(str(weight.descriptors) for weight in found.after)
    sentence = (
        f"{last.done:,} of {found.jobs:,} jobs in {last.seconds:.0f} s, {found.doubled:,} doubled, {found.dead:,} "
        f"dead. Memory of all processes grew by {found.growth:.1%} over the second half (wanted: at most "
        f"{_MOST_GROWTH:.0%}). "
        f"Open descriptors afterwards: {after}, at most {found.left} more in a process than before (wanted: at most "
        f"{_MOST_LEFT}). {'Kept' if found.kept else 'NOT kept'}."
    )
    head = ("s", "jobs done", "in flight", "memory, MB, by process", "descriptors, by process")
    return f"### {found.jobs:,} jobs at an endpoint that takes 300 ms\n\n{table(head, rows)}\n\n{sentence}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios, print, write; exit status 1 where a bar is not met."""
    names = [*(vendor.name for vendor in VENDORS), "memory"]
    parser = argparse.ArgumentParser(prog="make bench-window ARGS=...", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="scenarios (default all)")
    parser.add_argument("--seconds", type=int, default=60, help="how long the vendors with a limit are called")
    parser.add_argument("--learning", type=int, default=30, help="seconds that do not count (default 30)")
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs of the scenario memory (default 100,000)")
    parser.add_argument("--longest", type=float, default=1500, help="seconds after which it ends anyway (default 1500)")
    parser.add_argument("--quick", action="store_true", help="little of each: a trial")
    parser.add_argument("--docs", action="store_true", help="write into docs/performance.md")
    parser.add_argument("--json", type=Path, default=HOME / "window.json", help="where the figures go")
    if parser.parse_known_args(arguments)[0].quick:
        parser.set_defaults(seconds=12, learning=6, jobs=1500, longest=60)
    given = parser.parse_args(arguments)
    end_cleanly()
    prepare("flask")  # the endpoint's interpreter
    parts, kept, document = [], True, {}
    with tempfile.TemporaryDirectory(prefix="tiercast-window-") as folder:
        machine = describe(Path(folder))
        for vendor in VENDORS:
            if vendor.name in given.only:
                course = watch(vendor, Path(folder) / vendor.name, seconds=given.seconds, learning=given.learning)
                parts.append(vendor_text(vendor, course, step=max(1, given.seconds // 12)))
                kept, document[vendor.name] = kept and course.kept, asdict(course)
                print(f"\n{parts[-1]}", flush=True)
        if "memory" in given.only:
            print(f"\n{given.jobs:,} jobs", flush=True)
            settle = 2.0 if given.quick else _SETTLE_SECONDS
            found = hold(given.jobs, Path(folder) / "memory", longest=given.longest, every=5, settle=settle)
            parts.append(holding_text(found))
            kept, document["memory"] = kept and found.kept, asdict(found)
            print(f"\n{parts[-1]}", flush=True)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(document, indent=1))
    if given.docs:
        write_between(ROOT / "docs" / "performance.md", "window", "\n\n".join([machine_table(machine), *parts]))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
