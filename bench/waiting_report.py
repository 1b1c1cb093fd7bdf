"""What comes out of the workloads that wait: tables, and whether the bars are met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from .contenders import ALL, BY_NAME
from .measure import Figures
from .report import table
from .summary import Bar, number, verdict
from .waiting import Outcome, best_peer, middle, wrong
from .workloads import BY_NAME as WORKLOADS

#: Times the best peer that we are to reach, by workload.
_LEAST_TIMES = {"http-30ms": 2.0, "http-300ms": 2.0}

#: The most CPU milliseconds that a job of kind `webhook` may take.
_MOST_CPU = 0.5

_MEGABYTE = 1e6


def terminal(name: str, outcome: Outcome) -> str:
    """The main figures of a workload, at most 80 columns wide."""
    peer = best_peer(outcome.rounds)
    lines = [
        f"{name}: {WORKLOADS[name].label}",
        f"{'':22}{'jobs/s':>8}{'x':>6}{'CPU':>6}{'at once':>8}{'MB':>5}  best",
    ]
    for who in _measured(outcome):
        rounds = outcome.rounds[who]
        lines.append(
            f"{BY_NAME[who].label:22}{_figure(rounds, 'rate'):>8}{_times(outcome, who, peer):>6}"
            f"{_figure(rounds, 'cpu_worker', 2):>6}{_figure(rounds, 'peak'):>8}"
            f"{_megabytes(rounds, 'memory'):>5}  {_short(outcome, who)}"
        )
    lines.append("x: times the best peer; CPU: of the workers, ms a job; MB: largest process")
    lines += [f" {verdict(bar):7} {bar.what}: {bar.measured} ({bar.wanted})" for bar in bars(name, outcome)]
    lines += [f" ATTENTION {text}" for text in attention(outcome)]
    return "\n".join(lines)


def markdown(outcomes: Mapping[str, Outcome]) -> str:
    """All workloads as tables, then the bars."""
    parts = []
    for name, outcome in outcomes.items():
        parts += [f"### {name}: {WORKLOADS[name].label}", _table(outcome), _tried(outcome)]
        parts += [f"ATTENTION {text}." for text in attention(outcome)]
        parts += [
            f"Left out: {BY_NAME[who].label}, since {reason.splitlines()[0]}."
            for who, reason in outcome.left_out.items()
        ]
    found = [bar for name, outcome in outcomes.items() for bar in bars(name, outcome)]
    if found:
        rows = [(bar.what, bar.measured, bar.wanted, verdict(bar)) for bar in found]
        parts.append(table(("bar", "measured", "wanted", ""), rows))
    return "\n\n".join(part for part in parts if part)


def bars(name: str, outcome: Outcome) -> list[Bar]:
    """The bars of a workload, as far as it has any."""
    own = outcome.rounds.get("tiercast")
    found = []
    if name in _LEAST_TIMES and own:
        least = _LEAST_TIMES[name]
        for shape in ("action", "event"):
            peer = best_peer(outcome.rounds, shape=shape)
            times = ratio(outcome, "tiercast", peer)
            found.append(
                Bar(
                    what=f"{name}: calls/s, times {BY_NAME[peer].label if peer else 'the best peer'}",
                    measured=number(times, 2),
                    wanted=f"at least {least:g}",
                    met=times >= least if peer else None,
                )
            )
        cpu = middle(own, "cpu_worker")
        found.append(
            Bar(
                what=f"{name}: CPU of the workers, ms a job",
                measured=number(cpu, 2),
                wanted=f"at most {_MOST_CPU:g}",
                met=cpu <= _MOST_CPU,
            )
        )
    return found


def ratio(outcome: Outcome, who: str, to: str) -> float:
    """The median of the ratios of each round, whose conditions were alike; NaN where one was not measured."""
    pairs = zip(outcome.rounds.get(who, ()), outcome.rounds.get(to, ()), strict=False)
    ratios = [one["rate"] / other["rate"] for one, other in pairs if other["rate"]]
    return median(ratios) if ratios else float("nan")


def attention(outcome: Outcome) -> list[str]:
    """Who lost, doubled or did not sign, which no figure may hide."""
    return [
        f"{BY_NAME[who].label}, round {number + 1}: {text}"
        for who in _measured(outcome)
        for number, figures in enumerate(outcome.rounds[who])
        for text in wrong(figures)
    ]


def _table(outcome: Outcome) -> str:
    peer = best_peer(outcome.rounds)
    head = (
        *("", "best setting", "jobs/s", "times the best peer", "workers' CPU, ms a job", "at once, peak"),
        *("memory, MB: largest process / all", "server's CPU, ms a job", "first call after, s", "endpoint's CPU"),
    )
    rows = []
    for who in _measured(outcome):
        rounds = outcome.rounds[who]
        rows.append(
            (
                BY_NAME[who].label,
                str(outcome.best[who]),
                _figure(rounds, "rate"),
                _times(outcome, who, peer, 2),
                _figure(rounds, "cpu_worker", 2),
                _figure(rounds, "peak"),
                f"{_megabytes(rounds, 'memory')} / {_megabytes(rounds, 'memory_all')}",
                _figure(rounds, "cpu_server", 2),
                _figure(rounds, "first", 2),
                f"{middle(rounds, 'endpoint_share'):.0%} of a core",
            )
        )
    return table(head, rows)


def _tried(outcome: Outcome) -> str:
    """What each peer was tried with."""
    lines = [
        f"{BY_NAME[who].label}: " + "; ".join(f"{setting} {rate:,.0f}" for setting, rate in trials)
        for who, trials in outcome.trials.items()
        if len(trials) > 1
    ]
    return "Jobs a second of each setting that was tried. " + ". ".join(lines) + "." if lines else ""


def _measured(outcome: Outcome) -> list[str]:
    return [one.name for one in ALL if outcome.rounds.get(one.name)]


def _times(outcome: Outcome, who: str, peer: str, digits: int = 1) -> str:
    return number(ratio(outcome, who, peer), digits)


def _figure(rounds: Sequence[Figures], figure: str, digits: int = 0) -> str:
    return number(middle(rounds, figure), digits)


def _megabytes(rounds: Sequence[Figures], figure: str) -> str:
    return number(middle(rounds, figure) / _MEGABYTE)


def _short(outcome: Outcome, who: str) -> str:
    setting = outcome.best[who]
    if not setting.processes:
        return "defaults"
    return f"{setting.processes} x {setting.connections}"
