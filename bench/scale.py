"""What an event costs with little and with much owed: `make bench-scale`.

The workers are frozen while the ledger is filled, then drain it all. The cost of an event is CPU time of server and
workers, and elapsed time, over the whole backlog; the tenths show whether it changes on the way.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tiercast.ids import new_delivery_id
from tiercast.ledger import keys, open_ledger, prepare
from tiercast.settings import load_settings

from .effects import ACTIONS
from .environments import HOME, ROOT
from .events import body, event_ids
from .machine import describe
from .participants import BY_NAME, OWN_WORKER
from .processes import Process, end_cleanly
from .report import machine_table, table, write_between
from .stage import SECRET, Stage

#: Deliveries that are recorded together.
_BATCH = 500

#: The source that all come from.
_SOURCE = "voucherify"

_WARM_UP = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one size of backlog cost. Times are milliseconds an event, sizes bytes an event."""

    owed: int
    raw: float
    ledger: float
    settled: float
    record: float
    elapsed: float
    cpu_server: float
    cpu_worker: float
    tenths: tuple[float, ...]

    @property
    def cpu(self) -> float:
        """CPU time of server and workers."""
        return self.cpu_server + self.cpu_worker

    @property
    def bar(self) -> float:
        """The most bytes that an owed delivery may take."""
        return 1.5 * self.raw + 400


class Filler:
    """Records deliveries as a receiver does, without the HTTP."""

    def __init__(self, stage: Stage) -> None:
        settings = load_settings({"TIERCAST_REDIS_URL": stage.server.url, "TIERCAST_WEBHOOK_SECRETS": SECRET})
        self.ledger = open_ledger(settings, role="operator")
        prepare(self.ledger, settings)

    def fill(self, count: int) -> tuple[float, float]:
        """Record so many; returns the seconds that the ledger took for it, and the bytes of a body."""
        seconds, size = 0.0, 0
        for start in range(0, count, _BATCH):
            bodies = [body(event_id) for event_id in event_ids(min(_BATCH, count - start), "evcus_")]
            triples = [(_SOURCE, new_delivery_id(), content) for content in bodies]
            size += sum(map(len, bodies))
            began = time.perf_counter()
            self.ledger.record(triples)
            seconds += time.perf_counter() - began
        return seconds, size / count

    def owed(self) -> int:
        """How many deliveries nobody has claimed yet."""
        return int(self.ledger.client.zcard(self.ledger.key(f"due:{keys.deliveries_lane(_SOURCE)}")))


def measure(owed: int, folder: Path, *, bulk: bool, appendfsync: str) -> Cost:
    """Fill, drain, weigh."""
    who = BY_NAME["tiercast-bulk" if bulk else "tiercast"]
    with Stage(folder, appendfsync=appendfsync, config=who.config()) as stage:
        filler = Filler(stage)
        worker = stage.start("worker", OWN_WORKER)
        filler.fill(_WARM_UP)
        stage.must(lambda: stage.effects() >= _WARM_UP * len(ACTIONS), seconds=90, what="the first actions are done")
        time.sleep(0.5)
        stage.reset()
        worker.freeze()
        empty = stage.memory()
        print(f"  recording {owed:,} ...", flush=True)
        seconds, raw = filler.fill(owed)
        full = stage.memory()
        before = stage.cpu()
        elapsed, tenths = _drain(stage, filler, worker, owed)
        used = {name: value - before[name] for name, value in stage.cpu().items()}
        time.sleep(1)
        filler.ledger.client.close()
        return Cost(
            owed=owed,
            raw=raw,
            ledger=(full - empty) / owed,
            settled=(stage.memory() - empty) / owed,
            record=seconds / owed * 1000,
            elapsed=elapsed / owed * 1000,
            cpu_server=used["server"] / owed * 1000,
            cpu_worker=used["worker"] / owed * 1000,
            tenths=tenths,
        )


def _drain(stage: Stage, filler: Filler, worker: Process, owed: int) -> tuple[float, tuple[float, ...]]:
    """Seconds from the first delivery that is claimed to the last effect, and actions a second in each tenth."""
    wanted = owed * len(ACTIONS)
    worker.thaw()
    # The first bell is the timer's, up to a second from now: no part of an event's cost.
    stage.must(lambda: filler.owed() < owed, seconds=60, what="the first deliveries are claimed")
    began = last = time.monotonic()
    tenths, before = [], 0
    for tenth in range(1, 11):
        _reach(stage, wanted * tenth // 10)
        now, done = time.monotonic(), stage.effects()
        tenths.append((done - before) / max(now - last, 1e-9))
        print(f"  {tenth * 10:3} % drained, {tenths[-1]:,.0f} actions/s", flush=True)
        last, before = now, done
    return time.monotonic() - began, tuple(tenths)


def _reach(stage: Stage, goal: int) -> None:
    # Ten times slower than Celery alone would be.
    stage.must(lambda: stage.effects() >= goal, seconds=120 + goal / 50, what=f"{goal:,} actions are done")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both sizes, print, write."""
    parser = argparse.ArgumentParser(prog="make bench-scale ARGS=...", description=__doc__.split("\n")[0])
    parser.add_argument("--owed", type=int, nargs="+", default=[10_000, 200_000], help="sizes of the backlog")
    parser.add_argument("--bulk", action="store_true", help="actions of a bulk kind")
    parser.add_argument("--appendfsync", choices=("everysec", "always"), default="everysec")
    parser.add_argument("--data", help="folder for the server's data (default: the system's temporary one)")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    parser.add_argument("--json", type=Path, default=HOME / "scale.json", help="where the figures go")
    given = parser.parse_args(arguments)
    end_cleanly()
    sizes = given.owed if len(given.owed) > 1 else [10_000, *given.owed]
    print(f"This takes about {max(1, round(sum(sizes) * 0.0025 / 60))} minutes.")
    with tempfile.TemporaryDirectory(prefix="tiercast-scale-", dir=given.data) as folder:
        machine = describe(Path(folder))
        costs = []
        for place, owed in enumerate(sizes):
            print(f"{owed:,} owed deliveries", flush=True)
            costs.append(measure(owed, Path(folder) / str(place), bulk=given.bulk, appendfsync=given.appendfsync))
    text = _table(costs)
    print(f"\n{text}")
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=1))
    if given.docs:
        write_between(ROOT / "docs" / "performance.md", "scale", f"{machine_table(machine)}\n\n{text}")
    return 0


def _table(costs: Sequence[Cost]) -> str:
    head = ("", *(f"{cost.owed:,} owed" for cost in costs))
    first = costs[0]
    return table(
        head,
        [
            ("elapsed, ms an event", *(f"{c.elapsed:.3f}" for c in costs)),
            ("CPU, ms an event", *(f"{c.cpu:.3f}" for c in costs)),
            ("of it the server", *(f"{c.cpu_server:.3f}" for c in costs)),
            ("CPU, times that of the first", *(f"{c.cpu / first.cpu:.2f}" for c in costs)),
            ("recording, ms a delivery", *(f"{c.record:.3f}" for c in costs)),
            ("actions/s, first tenth", *(f"{c.tenths[0]:,.0f}" for c in costs)),
            ("actions/s, last tenth", *(f"{c.tenths[-1]:,.0f}" for c in costs)),
            ("raw bytes a delivery", *(f"{c.raw:,.0f}" for c in costs)),
            ("ledger bytes an owed delivery", *(f"{c.ledger:,.0f}" for c in costs)),
            ("the bar: 1.5 times raw plus 400", *(f"{c.bar:,.0f}" for c in costs)),
            ("ledger bytes once settled, three jobs done", *(f"{c.settled:,.0f}" for c in costs)),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
