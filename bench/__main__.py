"""`make bench`: Tiercast and its peers side by side, in turn, on one machine."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from .environments import ROOT, Missing, prepare
from .machine import describe
from .measure import Figures, Options, measure
from .participants import ALL, BY_NAME, Participant
from .processes import end_cleanly
from .report import MODES, machine_table, markdown, plots, terminal, write_between
from .summary import Summary

#: Seconds that one participant takes beside its events, and for each event, as a guess for the first estimate.
_GUESS, _GUESS_EVENT = 22.0, 0.004

Results = dict[str, dict[str, list[Figures]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    given = _parse(arguments)
    end_cleanly()
    options = Options(events=given.events, open_rate=given.rate, open_seconds=given.open_seconds, idle=given.idle)
    left_out: dict[str, str] = {}
    chosen = list(_ready([BY_NAME[name] for name in given.only], left_out))
    with tempfile.TemporaryDirectory(prefix="tiercast-bench-", dir=given.data) as folder:
        machine = describe(Path(folder))
        for name, value in machine.items():
            print(f"{name:12} {value}")
        results = _rounds(chosen, Path(folder), options, modes=given.modes, rounds=given.rounds, left_out=left_out)
    text = _told(machine, options, results, left_out, rounds=given.rounds)
    document = {"machine": machine, "options": _fields(options), "left_out": left_out, "results": results}
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(document, indent=1))
    given.json.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"\nAll figures: {given.json}; as Markdown: {given.json.with_suffix('.md')}")
    if given.docs:
        write_between(ROOT / "docs" / "performance.md", "bench", "\n\n".join([text, *_write_plots(results)]))
    return 1 if any(who.name in left_out for who in chosen) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [one.name for one in ALL]
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each participant once in each (default 3)")
    parser.add_argument("--events", type=int, default=5000, help="webhooks a phase (default 5000)")
    parser.add_argument("--rate", type=float, default=500, help="open loop: webhooks a second (default 500)")
    parser.add_argument("--open-seconds", type=float, default=6, help="open loop: seconds (default 6)")
    parser.add_argument("--idle", type=int, default=100, help="webhooks of the idle phase (default 100)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="appendfsync (default both)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="participants (default all)")
    parser.add_argument("--quick", action="store_true", help="one round of little, synced every second: a trial")
    parser.add_argument("--data", help="folder for the servers' data (default: the system's temporary one)")
    parser.add_argument("--json", type=Path, default=ROOT / ".venv-bench" / "results.json", help="where figures go")
    parser.add_argument("--docs", action="store_true", help="write tables and plots into docs/")
    if parser.parse_known_args(arguments)[0].quick:
        parser.set_defaults(rounds=1, events=600, open_seconds=1, idle=20, modes=["everysec"])
    return parser.parse_args(arguments)


def _ready(wanted: Iterable[Participant], left_out: dict[str, str]) -> Iterable[Participant]:
    """Those whose environment can be had."""
    for who in wanted:
        try:
            prepare(who.environment)
        except Missing as reason:
            left_out[who.name] = str(reason)
            print(f"Left out: {who.label}, since {reason}", file=sys.stderr)
        else:
            yield who


def _rounds(
    chosen: Sequence[Participant],
    folder: Path,
    options: Options,
    *,
    modes: Sequence[str],
    rounds: int,
    left_out: dict[str, str],
) -> Results:
    """Everyone in turn, round after round, so that what the machine does meanwhile hits all alike."""
    turns = [(mode, number, who) for mode in modes for number in range(rounds) for who in chosen]
    guess = len(turns) * (_GUESS + _GUESS_EVENT * options.events)
    print(f"{len(turns)} turns; this takes about {max(1, round(guess / 60))} minutes.", flush=True)
    results: Results = {mode: {} for mode in modes}
    began = time.monotonic()
    for place, (mode, number, who) in enumerate(turns):
        if who.name in left_out:
            continue
        try:
            figures = measure(who, folder / f"{place}", options, appendfsync=mode)
        except (ChildProcessError, TimeoutError, OSError) as error:
            left_out[who.name] = f"it failed: {error}"
            results[mode].pop(who.name, None)
            print(f"{who.label} failed and is left out: {error}", file=sys.stderr)
            continue
        results[mode].setdefault(who.name, []).append(figures)
        spent = time.monotonic() - began
        left = spent / (place + 1) * (len(turns) - place - 1)
        print(
            f"  {mode:8} round {number + 1}/{rounds} {who.label:20} acks/s {figures['acks']:7,.0f}"
            f"  actions/s {figures.get('drained', 0):7,.0f}  {left / 60:4.1f} min left",
            flush=True,
        )
    return results


def _told(machine: dict[str, str], options: Options, results: Results, left_out: dict[str, str], *, rounds: int) -> str:
    """Print the tables; returns the Markdown."""
    load = max((one["load_cpu"] for mode in results.values() for rows in mode.values() for one in rows), default=0.0)
    note = (
        f"{options.events:,} webhooks a phase over {options.connections} connections, three actions each; the fixed "
        f"rate is {options.open_rate:g} a second; medians of {rounds} round(s). The load generator took at most "
        f"{load:.0%} of one core."
    )
    parts = [machine_table(machine), note]
    for mode, figures in results.items():
        summary = Summary(figures)
        print(f"\n{terminal(mode, summary)}")
        parts.append(markdown(mode, summary))
    print(f"\n{note}")
    parts += [f"Left out: {BY_NAME[name].label}, since {reason.splitlines()[0]}." for name, reason in left_out.items()]
    return "\n\n".join(parts)


def _write_plots(results: Results) -> Iterable[str]:
    """Draw the first mode's plots into docs/; yields the lines that show them."""
    mode = next(iter(results))
    for name, (title, drawing) in plots(Summary(results[mode])).items():
        (ROOT / "docs" / name).write_text(drawing, encoding="utf-8")
        yield f"![{title}; {MODES[mode]}]({name})"


def _fields(options: Options) -> dict[str, float]:
    return {name: getattr(options, name) for name in options.__slots__}


if __name__ == "__main__":
    sys.exit(main())
