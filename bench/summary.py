"""Medians over rounds, ratios to the reference, and whether the bars are met."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .measure import Figures
from .participants import ALL, REFERENCE

#: Figures of one mode: by participant, of each round.
Rounds = Mapping[str, Sequence[Figures]]

_PEERS = tuple(one.name for one in ALL if not one.kind and one.worker)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of the project: what was measured, what was asked for; `met` is None where it was not measured."""

    what: str
    measured: str
    wanted: str
    met: bool | None


class Summary:
    """The medians of one mode."""

    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds
        self.names = [one.name for one in ALL if rounds.get(one.name)]

    def figure(self, name: str, figure: str) -> float:
        """The median over the rounds; NaN where it was not measured."""
        values = [one[figure] for one in self.rounds.get(name, ()) if figure in one]
        return median(values) if values else math.nan

    def spread(self, name: str, figure: str) -> tuple[float, float]:
        """The least and the most over the rounds."""
        values = [one[figure] for one in self.rounds.get(name, ()) if figure in one] or [math.nan]
        return min(values), max(values)

    def ratio(self, name: str, figure: str, *, to: str = REFERENCE) -> float:
        """How many times the reference's: the median of the ratios of each round, whose conditions were alike."""
        pairs = zip(self.rounds.get(name, ()), self.rounds.get(to, ()), strict=False)
        ratios = [one[figure] / other[figure] for one, other in pairs if other.get(figure) and figure in one]
        return median(ratios) if ratios else math.nan

    def best_peer(self, figure: str) -> float:
        """The best ratio that a peer reaches."""
        return max((r for r in (self.ratio(name, figure) for name in _PEERS) if not math.isnan(r)), default=math.nan)

    def bars(self) -> list[Bar]:
        """Our bars, in the order of the design."""
        own, bulk = "tiercast", "tiercast-bulk"
        if not {own, bulk} & set(self.names):
            return []
        return [
            _least("acks a second, times the best peer", self._times_peer(own, "acks"), 2),
            _least("acks a second, share of an empty Flask route", self.ratio(own, "acks", to="empty-flask"), 0.8),
            _least("actions a second, times the best peer", self._times_peer(own, "drained"), 1.2),
            _least("actions a second in bulk, times the best peer", self._times_peer(bulk, "drained"), 3),
            _most("idle: webhook to action, median, times Flask + Celery", self.ratio(own, "idle_p50"), 1),
            _most("idle: webhook to action, p99, ms", self.figure(own, "idle_p99"), 100),
            _most("ack at 500 a second: p99, ms", self.figure(own, "open_p99"), 50),
        ]

    def _times_peer(self, name: str, figure: str) -> float:
        return self.ratio(name, figure) / self.best_peer(figure)


def _least(what: str, value: float, bar: float) -> Bar:
    return Bar(what=what, measured=_short(value), wanted=f"at least {bar:g}", met=_met(value, value >= bar))


def _most(what: str, value: float, bar: float) -> Bar:
    return Bar(what=what, measured=_short(value), wanted=f"at most {bar:g}", met=_met(value, value <= bar))


def _met(value: float, met: bool) -> bool | None:
    return None if math.isnan(value) else met


def _short(value: float) -> str:
    return number(value, 2)


def number(value: float, digits: int = 0) -> str:
    """A figure as text; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def verdict(bar: Bar) -> str:
    """Whether a bar is met, in a word or two."""
    return {True: "met", False: "NOT met", None: "no data"}[bar.met]


def overdone(summary: Summary) -> Iterable[str]:
    """Who had more effects than jobs, which no figure may hide."""
    for name in summary.names:
        extra = summary.spread(name, "extra")[1]
        if extra > 0:
            yield f"{name}: {extra:.0f} effects too many"
