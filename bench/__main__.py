"""`make bench`: Tiercast and its peers side by side, in turn, on one machine.

Two parts: the workloads that wait for a network, and `incr`, whose actions are one `INCR` each: what is left when
nothing waits, the overhead.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from . import contenders, waiting, waiting_report, workloads
from .environments import HOME, ROOT, Environment, Missing, prepare
from .machine import describe
from .measure import Figures, Options, measure
from .participants import ALL, BY_NAME, Participant
from .processes import end_cleanly
from .report import MODES, machine_table, markdown, plots, terminal, write_between
from .summary import Summary
from .waiting import Effort, Outcome

#: Seconds that one participant takes beside its events, and for each event, as a guess for the first estimate.
_GUESS, _GUESS_EVENT = 22.0, 0.004

Results = dict[str, dict[str, list[Figures]]]


#: The name under which the actions of one INCR each are selected.
_INCR = "incr"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    given = _parse(arguments)
    end_cleanly()
    good = True
    with tempfile.TemporaryDirectory(prefix="tiercast-bench-", dir=given.data) as folder:
        machine = describe(Path(folder))
        for name, value in machine.items():
            print(f"{name:12} {value}")
        if names := [name for name in given.only if name != _INCR]:
            good &= _waiting(given, names, machine, Path(folder))
        if _INCR in given.only:
            good &= _incr(given, machine, Path(folder))
    return 0 if good else 1


def _waiting(given: argparse.Namespace, names: Sequence[str], machine: dict[str, str], folder: Path) -> bool:
    """The workloads that wait; whether every contender could be measured."""
    effort = Effort(
        trial=given.trial,
        trial_seconds=min(3.0, given.seconds),
        seconds=given.seconds,
        rounds=given.rounds,
        quick=given.quick,
    )
    path: Path = given.json.with_name("waiting.json")
    before = json.loads(path.read_text()) if path.exists() else {}
    left_out: dict[str, str] = {}
    chosen = list(_ready([contenders.BY_NAME[name] for name in given.contenders], left_out))
    prepare("flask")  # the endpoint's interpreter
    outcomes = {}
    for name in names:
        known = Outcome.read(before[name]).best if given.keep_tuned and name in before else {}
        outcome = waiting.compare(workloads.BY_NAME[name], chosen, folder, effort, known=known)
        outcome.left_out = left_out | outcome.left_out
        outcomes[name] = outcome
        before[name] = outcome.document() | {"machine": machine}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(before, indent=1))
        print(f"\n{waiting_report.terminal(name, outcome)}", flush=True)
    note = (
        f"Each run lasts about {effort.seconds:g} s at a contender's best setting, which was found in trials of "
        f"{effort.trial:,} events or {effort.trial_seconds:g} s; medians of {effort.rounds} round(s)."
    )
    text = "\n\n".join([machine_table(machine), note, waiting_report.markdown(outcomes)])
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"\nAll figures: {path}; as Markdown: {path.with_suffix('.md')}")
    if given.docs:
        write_between(ROOT / "docs" / "performance.md", "waiting", text)
    return not any(outcome.left_out for outcome in outcomes.values())


def _incr(given: argparse.Namespace, machine: dict[str, str], folder: Path) -> bool:
    """The actions of one INCR each; whether every participant could be measured."""
    options = Options(events=given.events, open_rate=given.rate, open_seconds=given.open_seconds, idle=given.idle)
    left_out: dict[str, str] = {}
    chosen = list(_ready([BY_NAME[name] for name in given.participants], left_out))
    results = _rounds(chosen, folder, options, modes=given.modes, rounds=given.rounds, left_out=left_out)
    text = _told(machine, options, results, left_out, rounds=given.rounds)
    document = {"machine": machine, "options": _fields(options), "left_out": left_out, "results": results}
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(document, indent=1))
    given.json.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"\nAll figures: {given.json}; as Markdown: {given.json.with_suffix('.md')}")
    if given.docs:
        write_between(ROOT / "docs" / "performance.md", "bench", "\n\n".join([text, *_write_plots(results)]))
    return not left_out


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=(__doc__ or "").split("\n")[0])
    every = [*workloads.BY_NAME, _INCR]
    parser.add_argument("--only", type=_some_of(every), default=every, help=f"workloads, of {', '.join(every)}")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each participant once in each (default 3)")
    parser.add_argument("--quick", action="store_true", help="one round of little, one setting a peer: a trial")
    parser.add_argument("--data", help="folder for the servers' data (default: the system's temporary one)")
    parser.add_argument("--json", type=Path, default=HOME / "results.json", help="where figures go")
    parser.add_argument("--docs", action="store_true", help="write tables and plots into docs/")
    wait = parser.add_argument_group("workloads that wait")
    names = list(contenders.BY_NAME)
    wait.add_argument("--contenders", type=_some_of(names), default=names, help=f"of {', '.join(names)}")
    wait.add_argument("--trial", type=int, default=2000, help="events that each setting is tried with (default 2000)")
    wait.add_argument("--seconds", type=float, default=10, help="how long a measured run lasts about (default 10)")
    wait.add_argument("--keep-tuned", action="store_true", help="take the settings that the last run found best")
    incr = parser.add_argument_group(_INCR)
    names = [one.name for one in ALL]
    incr.add_argument("--participants", type=_some_of(names), default=names, help=f"of {', '.join(names)}")
    incr.add_argument("--events", type=int, default=5000, help="webhooks a phase (default 5000)")
    incr.add_argument("--rate", type=float, default=500, help="open loop: webhooks a second (default 500)")
    incr.add_argument("--open-seconds", type=float, default=6, help="open loop: seconds (default 6)")
    incr.add_argument("--idle", type=int, default=100, help="webhooks of the idle phase (default 100)")
    incr.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="appendfsync (default both)")
    if parser.parse_known_args(arguments)[0].quick:
        little = {"events": 600, "open_seconds": 1, "idle": 20, "modes": ["everysec"]}
        parser.set_defaults(rounds=1, trial=500, seconds=2, **little)
    return parser.parse_args(arguments)


def _some_of(names: Sequence[str]) -> Callable[[str], list[str]]:
    """Reads names that are separated by commas, in the order of `names`."""

    def read(text: str) -> list[str]:
        given = {part.strip() for part in text.split(",") if part.strip()}
        if not given or not given <= set(names):
            wrong = ", ".join(sorted(given.difference(names))) or repr(text)
            raise argparse.ArgumentTypeError(f"{wrong} is none of {', '.join(names)}")
        return [name for name in names if name in given]

    return read


class _Needing(Protocol):
    """A set-up that needs an environment."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def environment(self) -> Environment: ...


_N = TypeVar("_N", bound=_Needing)


def _ready(wanted: Iterable[_N], left_out: dict[str, str]) -> Iterator[_N]:
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
