"""What hanging actions cost the others (promise 6): `make bench-fairness`.

Six actions at default settings. In one run all six are quick. In the others three of them call something that accepts
and never answers, until their time-out: once from plain functions, which give up by themselves, and once from async
ones, which the worker cancels. Compared is how long after its webhook each quick action starts. Looked at is also
whether a process of the worker was replaced: a call that hangs costs none.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from .effects import ACTIONS, STAMPED
from .environments import ROOT
from .kinds import BLACK_HOLE
from .machine import describe
from .measure import quantile
from .participants import OWN_WEB, OWN_WORKER, configuration
from .processes import Process, end_cleanly
from .report import machine_table, table, write_between
from .stage import Stage

#: The other half of the actions.
_OTHERS = ("d", "e", "f")

#: The most milliseconds that the others' p99 may rise.
_BAR = 100.0

_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Run:
    """One run: seconds from each webhook to the start of each of its quick actions, and worker processes replaced."""

    delays: list[float]
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class Mode:
    """What three of the six actions do."""

    label: str
    kind: str
    runs: list[Run] = field(default_factory=list)

    def delay(self, share: float) -> float:
        """Milliseconds that so large a share of the quick actions started within: the median of the runs."""
        return median(quantile(run.delays, share) * 1000 for run in self.runs)

    @property
    def replaced(self) -> int:
        """Processes replaced, in all runs."""
        return sum(run.replaced for run in self.runs)


def modes() -> tuple[Mode, ...]:
    """What is compared; the first is what the others are compared with."""
    return (
        Mode("none hangs", "bench.kinds:Incr"),
        Mode("three of six hang, plain functions", "bench.kinds:Hang"),
        Mode("three of six hang, async", "bench.kinds:HangAsync"),
    )


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that accepts and never answers, for as long as the context lasts."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        kept: list[socket.socket] = []

        def swallow() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(listener.accept()[0])

        thread = threading.Thread(target=swallow, daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in kept:
                connection.close()


def measure(folder: Path, *, kind: str, rate: float, seconds: float, hole: int, timeout: float | None = None) -> Run:
    """Send webhooks to three quick actions and three of that kind."""
    kinds = dict.fromkeys(ACTIONS, "bench.kinds:Incr") | dict.fromkeys(_OTHERS, kind)
    with Stage(folder, config=configuration(kinds, timeout=timeout), env={BLACK_HOLE: str(hole)}) as stage:
        stage.start("web", (*OWN_WEB, str(stage.port)))
        stage.wait_for_port()
        worker = stage.start("worker", OWN_WORKER)
        stage.load(count=_WARM_UP)
        stage.must(lambda: stage.effects() >= _WARM_UP * len(ACTIONS), seconds=90, what="the first actions are done")
        stage.reset()
        before = _pids(worker)
        load = stage.load(count=round(rate * seconds), rate=rate, prefix=f"{STAMPED}_")
        wanted = len(load.sent) * len(ACTIONS)
        quick = list[float]()

        def all_started() -> bool:
            quick[:] = [
                at - load.sent[event]
                for event, stamps in stage.stamps().items()
                for action, at in stamps
                if action in ACTIONS and event in load.sent
            ]
            return len(quick) >= wanted

        if not stage.until(all_started, seconds=60, every=0.5):
            raise TimeoutError(f"{wanted - len(quick)} of {wanted} quick actions did not start")
        return Run(quick, replaced=len(before - _pids(worker)))


def _pids(worker: Process) -> set[int]:
    """The worker's processes that run now."""
    return {weight.pid for weight in worker.weights()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each, in turn; exit status 1 where the promise is not kept."""
    parser = argparse.ArgumentParser(prog="make bench-fairness ARGS=...", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds, all runs in each (default 3)")
    parser.add_argument("--rate", type=float, default=20, help="webhooks a second (default 20)")
    parser.add_argument("--seconds", type=float, default=30, help="how long each run lasts (default 30)")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="of all actions (default: theirs, 10)")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    given = parser.parse_args(arguments)
    end_cleanly()
    compared = modes()
    options = {"rate": given.rate, "seconds": given.seconds, "timeout": given.timeout}
    minutes = given.rounds * len(compared) * (given.seconds + 12) / 60
    print(f"This takes about {max(1, round(minutes))} minutes.", flush=True)
    with tempfile.TemporaryDirectory(prefix="tiercast-fairness-") as folder, black_hole() as hole:
        machine = describe(Path(folder))
        for number in range(given.rounds):
            for at, mode in enumerate(compared):
                place = Path(folder) / f"{number}-{at}"
                found = measure(place, kind=mode.kind, hole=hole, **options)
                mode.runs.append(found)
                figures = f"p50 {_ms(found.delays, 0.5)}  p99 {_ms(found.delays, 0.99)} ms  replaced {found.replaced}"
                print(f"  round {number + 1}: {mode.label:34} {figures}", flush=True)
    text, kept = report(compared, rate=given.rate)
    print(f"\n{text}")
    if given.docs:
        write_between(ROOT / "docs" / "performance.md", "fairness", f"{machine_table(machine)}\n\n{text}")
    return 0 if kept else 1


def report(compared: Sequence[Mode], *, rate: float) -> tuple[str, bool]:
    """The table with a sentence for each mode in which actions hang; and whether the promise was kept in all."""
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "longest": 1.0}
    head = ("start after the webhook, ms", *shares, "processes replaced")
    rows = [
        (mode.label, *(f"{mode.delay(share):.1f}" for share in shares.values()), str(mode.replaced))
        for mode in compared
    ]
    quick, *hanging = compared
    sentences, kept = [], True
    for mode in hanging:
        later = mode.delay(0.99) - quick.delay(0.99)
        good = later <= _BAR and not mode.replaced
        kept = kept and good
        verdict = "kept" if good else "NOT kept"
        sentences.append(
            f"At {rate:g} webhooks a second, {mode.label}: the others' p99 is {later:.1f} ms later, and "
            f"{mode.replaced} processes were replaced; promised are at most {_BAR:g} ms and none: {verdict}."
        )
    return "\n\n".join([table(head, rows), *sentences]), kept


def _ms(values: Sequence[float], share: float) -> str:
    return f"{quantile(values, share) * 1000:.1f}"


if __name__ == "__main__":
    sys.exit(main())
