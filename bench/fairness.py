"""What hanging actions cost the others (promise 6): `make bench-fairness`.

Six actions at default settings. In one run all six are quick; in the other, three of them call something that accepts
and never answers, until their time-out. Compared is how long after its webhook each quick action starts.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from .effects import ACTIONS, STAMPED
from .environments import ROOT
from .kinds import BLACK_HOLE
from .machine import describe
from .measure import quantile
from .participants import OWN_WEB, OWN_WORKER, configuration
from .processes import end_cleanly
from .report import machine_table, table, write_between
from .stage import Stage

#: The other half of the actions.
_OTHERS = ("d", "e", "f")

#: The most milliseconds that the others' p99 may rise.
_BAR = 100.0

_WARM_UP = 20


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


def delays(folder: Path, *, hanging: bool, rate: float, seconds: float, hole: int) -> list[float]:
    """Seconds from sending each webhook to the start of each of its quick actions."""
    kinds = dict.fromkeys(ACTIONS, "bench.kinds:Incr")
    kinds |= dict.fromkeys(_OTHERS, "bench.kinds:Hang" if hanging else "bench.kinds:Incr")
    with Stage(folder, config=configuration(kinds), env={BLACK_HOLE: str(hole)}) as stage:
        stage.start("web", (*OWN_WEB, str(stage.port)))
        stage.wait_for_port()
        stage.start("worker", OWN_WORKER)
        stage.load(count=_WARM_UP)
        stage.must(lambda: stage.effects() >= _WARM_UP * len(ACTIONS), seconds=90, what="the first actions are done")
        stage.reset()
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
        return quick


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both, in turn; exit status 1 where the promise is not kept."""
    parser = argparse.ArgumentParser(prog="make bench-fairness ARGS=...", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds, both runs in each (default 3)")
    parser.add_argument("--rate", type=float, default=20, help="webhooks a second (default 20)")
    parser.add_argument("--seconds", type=float, default=30, help="how long each run lasts (default 30)")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    given = parser.parse_args(arguments)
    end_cleanly()
    print(f"This takes about {max(1, round(given.rounds * 2 * (given.seconds + 12) / 60))} minutes.", flush=True)
    runs: dict[bool, list[list[float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory(prefix="tiercast-fairness-") as folder, black_hole() as hole:
        machine = describe(Path(folder))
        for number in range(given.rounds):
            for hanging in (False, True):
                place = Path(folder) / f"{number}-{hanging}"
                found = delays(place, hanging=hanging, rate=given.rate, seconds=given.seconds, hole=hole)
                runs[hanging].append(found)
                kind = "three of six hang" if hanging else "none hangs"
                print(f"  round {number + 1}: {kind:18} p50 {_ms(found, 0.5)}  p99 {_ms(found, 0.99)} ms", flush=True)
    text, kept = _told(runs, rate=given.rate)
    print(f"\n{text}")
    if given.docs:
        write_between(ROOT / "docs" / "performance.md", "fairness", f"{machine_table(machine)}\n\n{text}")
    return 0 if kept else 1


def _told(runs: dict[bool, list[list[float]]], *, rate: float) -> tuple[str, bool]:
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "longest": 1.0}
    rows = []
    for hanging, label in ((False, "none hangs"), (True, "three of six hang")):
        rows.append((label, *(f"{_median(runs[hanging], share):.1f}" for share in shares.values())))
    later = _median(runs[True], 0.99) - _median(runs[False], 0.99)
    sentence = (
        f"At {rate:g} webhooks a second the others' p99 is {later:.1f} ms later with three of six actions hanging; "
        f"promised are at most {_BAR:g} ms: {'kept' if later <= _BAR else 'NOT kept'}."
    )
    return f"{table(('start after the webhook, ms', *shares), rows)}\n\n{sentence}", later <= _BAR


def _median(runs: list[list[float]], share: float) -> float:
    return median(quantile(run, share) * 1000 for run in runs)


def _ms(values: Sequence[float], share: float) -> str:
    return f"{quantile(values, share) * 1000:.1f}"


if __name__ == "__main__":
    sys.exit(main())
