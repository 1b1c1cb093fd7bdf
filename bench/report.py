"""What comes out: a table for the terminal, JSON, Markdown for the docs, plots."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from .participants import BY_NAME
from .plot import Row, bars
from .summary import Summary, number, overdone, verdict

#: What the modes are called in tables.
MODES = {"everysec": "append-only file synced every second", "always": "append-only file synced at every write"}


def terminal(mode: str, summary: Summary) -> str:
    """The main figures, at most 80 columns wide."""
    lines = [
        f"{MODES[mode]}; medians of {_rounds(summary)} round(s)",
        f"{'':20}{'acks/s':>8}{'x':>6}{'actions/s':>10}{'x':>6}{'500/s p99':>10}{'idle':>7}{'CPU':>6}{'bytes':>7}",
    ]
    for name in summary.names:
        figure, ratio = summary.figure, summary.ratio
        lines.append(
            f"{BY_NAME[name].label:20}{number(figure(name, 'acks')):>8}{number(ratio(name, 'acks'), 1):>6}"
            f"{number(figure(name, 'drained')):>10}{number(ratio(name, 'drained'), 1):>6}"
            f"{number(figure(name, 'open_p99'), 1):>10}{number(figure(name, 'idle_p50'), 1):>7}"
            f"{number(figure(name, 'cpu'), 2):>6}{number(figure(name, 'bytes')):>7}"
        )
    lines.append("x: times Flask + Celery; p99, idle: ms; CPU: ms an event; bytes: per owed event")
    lines += [f" {verdict(bar):7} {bar.what}: {bar.measured} ({bar.wanted})" for bar in summary.bars()]
    lines += [f" ATTENTION {text}" for text in overdone(summary)]
    return "\n".join(lines)


def markdown(mode: str, summary: Summary) -> str:
    """All figures of a mode, as tables."""
    return "\n\n".join(
        [
            f"### {MODES[mode].capitalize()}",
            table(
                ("", "acks/s", "times", "ack p50 / p99 / p99.9, ms", "at a fixed rate p50 / p99 / p99.9, ms"),
                [
                    (
                        BY_NAME[name].label,
                        number(summary.figure(name, "acks")),
                        number(summary.ratio(name, "acks"), 2),
                        _quantiles(summary, name, "ack", "p50", "p99", "p999"),
                        _quantiles(summary, name, "open", "p50", "p99", "p999"),
                    )
                    for name in summary.names
                ],
            ),
            table(
                (
                    *("", "actions/s from a backlog", "times", "actions/s while receiving", "times"),
                    *("idle p50 / p99, ms", "CPU ms an event (server + receiver + workers)", "bytes an owed event"),
                ),
                [_work(summary, name) for name in summary.names if BY_NAME[name].worker],
            ),
            table(
                ("bar", "measured", "wanted", ""),
                [(bar.what, bar.measured, bar.wanted, verdict(bar)) for bar in summary.bars()],
            ),
        ]
    )


def _work(summary: Summary, name: str) -> Sequence[str]:
    cpu = " + ".join(number(summary.figure(name, f"cpu_{part}"), 2) for part in ("server", "web", "worker"))
    return (
        BY_NAME[name].label,
        number(summary.figure(name, "drained")),
        number(summary.ratio(name, "drained"), 2),
        number(summary.figure(name, "through")),
        number(summary.ratio(name, "through"), 2),
        _quantiles(summary, name, "idle", "p50", "p99"),
        f"{number(summary.figure(name, 'cpu'), 2)} ({cpu})",
        number(summary.figure(name, "bytes")),
    )


def _quantiles(summary: Summary, name: str, figure: str, *parts: str) -> str:
    return " / ".join(number(summary.figure(name, f"{figure}_{part}"), 1) for part in parts)


def _rounds(summary: Summary) -> int:
    return max((len(rounds) for rounds in summary.rounds.values()), default=0)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def machine_table(machine: Mapping[str, str]) -> str:
    """The machine, as a table."""
    return table(("machine", ""), list(machine.items()))


def plots(summary: Summary) -> dict[str, tuple[str, str]]:
    """Titles and plots by file name."""
    wanted = (
        ("performance-acks.svg", "acks", "Durable acks a second", "", True),
        ("performance-actions.svg", "drained", "Actions a second, from a backlog", "", False),
        ("performance-idle.svg", "idle_p50", "Webhook in to action started, idle: median", " ms", False),
    )
    made = {}
    for file, figure, title, unit, also_empty in wanted:
        names = [name for name in summary.names if also_empty or BY_NAME[name].worker]
        rows = [
            Row(
                label=BY_NAME[name].label,
                value=summary.figure(name, figure),
                low=summary.spread(name, figure)[0],
                high=summary.spread(name, figure)[1],
                ours=bool(BY_NAME[name].kind),
            )
            for name in names
            if not (figure == "acks" and BY_NAME[name].bulk)
        ]
        made[file] = title, bars(title, rows, unit=unit)
    return made


def write_between(page: Path, mark: str, text: str) -> None:
    """Replace what stands between the page's comments `<!-- mark:begin -->` and `<!-- mark:end -->`.

    Raises:
        ValueError: the page has no such comments.
    """
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    old = page.read_text(encoding="utf-8")
    if begin not in old or end not in old:
        raise ValueError(f"{page} has no {begin} and {end}")
    new = re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n\n{text}\n\n{end}", old, flags=re.DOTALL)
    page.write_text(new, encoding="utf-8")
