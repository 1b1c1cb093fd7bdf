"""How much machine a number of events a day needs, computed from what was measured: `python -m bench.sizing`.

Reads what `make bench` and `make bench-scale` have written. Nothing here is measured anew.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .effects import ACTIONS
from .environments import HOME, ROOT
from .report import table, write_between

#: The share of a day's events in its busiest hour, and of a core's time that is planned with.
_BUSIEST, _PLANNED = 0.10, 0.5

#: Days that settled deliveries stay by default, and hours of owed deliveries that the memory has room for.
_DAYS, _BACKLOG = 7, 6

#: The share of the server's memory that new deliveries may use (TIERCAST_MEMORY_SHARE).
_SHARE = 0.8

_DAILY = (10_000, 100_000, 1_000_000, 5_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Of one event with three actions: CPU milliseconds of each part, bytes in the ledger while owed and settled."""

    server: float
    web: float
    worker: float
    owed: float
    settled: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Of jobs that wait: jobs a second on the measured machine, CPU milliseconds a job of workers and ledger."""

    rate: float
    worker: float
    server: float
    peak: float


def waiting_costs(document: Mapping[str, Any]) -> dict[str, Waiting]:
    """Take the costs of our own rows, by workload, out of what `make bench` wrote."""
    found = {}
    for name, outcome in document.items():
        if own := outcome["rounds"].get("tiercast"):
            rate, worker, server, peak = (
                median(one[figure] for one in own) for figure in ("rate", "cpu_worker", "cpu_server", "peak")
            )
            found[name] = Waiting(rate=rate, worker=worker, server=server, peak=peak)
    return found


def waiting_text(found: Mapping[str, Waiting], daily: Sequence[int] = (100_000, 1_000_000, 5_000_000)) -> str:
    """What jobs that wait need: the measured costs, and cores of `worker` for jobs a day."""
    head = ("workload", "jobs/s measured", "at once", "worker's CPU, ms a job", "ledger's CPU, ms a job")
    cores = tuple(f"worker cores, {jobs:,} jobs a day" for jobs in daily)
    rows = [
        (
            name,
            f"{one.rate:,.0f}",
            f"{one.peak:,.0f}",
            f"{one.worker:.2f}",
            f"{one.server:.2f}",
            *(_cores(jobs * _BUSIEST / 3600 * one.worker / 1000) for jobs in daily),
        )
        for name, one in found.items()
    ]
    return f"Jobs that wait for a network, one an event:\n\n{table((*head, *cores), rows)}"


def costs(bench: Mapping[str, Any], scale: Sequence[Mapping[str, float]]) -> Costs:
    """Take the costs out of the documents that the measurements wrote."""
    rounds = next(iter(bench["results"].values()))["tiercast"]
    return Costs(
        server=median(one["cpu_server"] for one in rounds),
        web=median(one["cpu_web"] for one in rounds),
        worker=median(one["cpu_worker"] for one in rounds),
        owed=scale[-1]["ledger"],
        settled=scale[-1]["settled"],
    )


def rows(found: Costs, daily: Sequence[int] = _DAILY) -> list[tuple[str, ...]]:
    """A row for each number of events a day."""
    return [_row(found, events) for events in daily]


def _row(found: Costs, events: int) -> tuple[str, ...]:
    peak = events * _BUSIEST / 3600
    memory = events * _DAYS * found.settled + peak * 3600 * _BACKLOG * found.owed
    return (
        f"{events:,}",
        f"{peak:,.1f}",
        _gigabytes(memory / _SHARE),
        *(_cores(peak * ms / 1000) for ms in (found.server, found.web, found.worker)),
    )


def _cores(busy: float) -> str:
    """Cores for so many seconds of work a second."""
    needed = busy / _PLANNED
    return f"{needed:.2f}" if needed < 1 else f"{math.ceil(needed)}"


def _gigabytes(size: float) -> str:
    return f"{max(0.1, size / 1e9):,.1f} GB"


def text(found: Costs) -> str:
    """The table with what it was computed from."""
    head = ("events a day", "a second, busiest hour", "ledger's memory", *(f"cores: {w}" for w in _PARTS))
    return "\n\n".join(
        [
            f"Measured, for an event of 1.3 kB with {len(ACTIONS)} actions, each of one short call: "
            f"{found.server:.2f} ms of the ledger's processor, {found.web:.2f} ms of `web`, {found.worker:.2f} ms of "
            f"`worker`; {found.owed:,.0f} bytes in the ledger while it is owed, {found.settled:,.0f} once settled.",
            table(head, rows(found)),
            f"Reckoned with: {_BUSIEST:.0%} of a day's events in its busiest hour, processors half busy then, "
            f"{_DAYS} days of retention, room for {_BACKLOG} such hours without any worker, and a `maxmemory` of which "
            f"{_SHARE:.0%} is used.",
        ]
    )


_PARTS = ("ledger", "web", "worker")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description=__doc__.split("\n")[0])
    parser.add_argument("--bench", type=Path, default=HOME / "results.json", help="what make bench wrote")
    parser.add_argument("--scale", type=Path, default=HOME / "scale.json", help="what make bench-scale wrote")
    parser.add_argument("--waiting", type=Path, default=HOME / "waiting.json", help="what make bench wrote of waiting")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/scaling.md")
    given = parser.parse_args(arguments)
    for path, target in ((given.bench, "bench"), (given.scale, "bench-scale"), (given.waiting, "bench")):
        if not path.exists():
            print(f"There is no {path}. Run first: make {target}", file=sys.stderr)
            return 1
    waiting = waiting_costs(json.loads(given.waiting.read_text()))
    overhead = text(costs(json.loads(given.bench.read_text()), json.loads(given.scale.read_text())))
    told = f"{waiting_text(waiting)}\n\n{overhead}" if waiting else overhead
    print(told)
    if given.docs:
        write_between(ROOT / "docs" / "scaling.md", "sizing", told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
