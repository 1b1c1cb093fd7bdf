"""`tiercast status`: how all of it stands, on one screen."""

from __future__ import annotations

import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from ..errors import ConfigError
from ..ledger import keys
from ..ledger.model import DeliveryState, JobState, LaneInfo
from ..ledger.reading import Filter, Reader
from . import output
from .context import Context, pass_context
from .lanes import stands_still, with_config
from .output import Column
from .reasons import grouped
from .times import age, iso, span

#: The most jobs that are counted by action in a state, and the most records whose reasons are read.
_COUNTED = 100_000
_LOOKED_AT = 1000

#: How many rows a table has on one screen.
_ROWS = 8

_NEED_OPERATOR = tuple(state for state in JobState if state.needs_operator)

#: Those that wait, or need an operator; how many are owed says their lane.
_COUNTED_STATES = tuple(state for state in JobState if state.indexed and (state.needs_operator or not state.final))

#: What would need every record to be read.
_NOT_COUNTED = [str(state) for state in JobState if state.final and not state.needs_operator]
NOT_SHOWN = (
    f"jobs that are {', '.join(_NOT_COUNTED[:-1])} or {_NOT_COUNTED[-1]}, by action: "
    "tiercast jobs list --action NAME --state done"
)

_SOURCES = (
    Column(title="SOURCE", shrink="middle", least=12),
    Column(title="LAST", right=True),
    Column(title="QUEUED", right=True),
    Column(title="OLDEST", right=True),
    Column(title="STATE", shrink="end", least=8),
)
_ACTIONS = (
    Column(title="ACTION", shrink="middle", least=16),
    Column(title="OWED", right=True),
    Column(title="DUE", right=True),
    Column(title="HELD", right=True),
    Column(title="OLDEST", right=True),
    *(Column(title=state.upper(), right=True) for state in _COUNTED_STATES),
    Column(title="STATE", shrink="end", least=8),
)
_REASONS = (
    Column(title="COUNT", right=True),
    Column(title="STATE"),
    Column(title="OF", shrink="middle", least=12),
    Column(title="REASON", shrink="end", least=20),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Status:
    """What was read."""

    lanes: list[LaneInfo]
    last: dict[str, int | None]
    deliveries: dict[str, int]
    by_action: dict[JobState, Counter[str]]
    totals: dict[str, int]
    reasons: list[tuple[int, str, str, str]]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def status(context: Context, as_json: bool) -> None:
    """Show how all of it stands, on one screen.

    Sources with their last delivery, actions with what they owe and what is dead
    or uncertain, and the reasons, grouped. It reads counts and the newest records
    only, so it is quick however much there is.

    \b
      owed     to be done, now or later; held of them are being worked on
      oldest   how long the first of those due has been due
      last     how long ago the last delivery arrived

    \b
    Examples:
      tiercast status
      tiercast status --json
    """
    with context.opened() as ledger:
        found = _read(ledger.reader, context)
    if as_json:
        output.as_json(_as_dict(found))
    else:
        _tell(found)


def _read(reader: Reader, context: Context) -> _Status:
    lanes = reader.lanes()
    config = context.config_if_any
    if not isinstance(config, ConfigError):
        lanes = with_config(lanes, config)
    return _Status(
        lanes=lanes,
        last=reader.last_deliveries(),
        deliveries=reader.count_deliveries(),
        by_action={state: reader.count_by_action(state, _COUNTED) for state in _COUNTED_STATES},
        totals=reader.count_jobs(),
        reasons=sorted(_reasons(reader), reverse=True),
    )


def _reasons(reader: Reader) -> Iterator[tuple[int, str, str, str]]:
    """How often, in which state, of what, and why: of the newest records."""
    found: dict[tuple[str, str], list[str | None]] = {}
    for state in _NEED_OPERATOR:
        for job in reader.jobs(Filter(state=state, limit=_LOOKED_AT)):
            found.setdefault((str(state), job.action), []).append(job.text)
    for kept in (state for state in DeliveryState if state.needs_operator):
        for info in reader.deliveries(Filter(state=kept, limit=_LOOKED_AT)):
            found.setdefault((str(kept), info.source), []).append(info.reason)
    for (state_of, name), texts in found.items():
        for reason, number in grouped(texts).items():
            yield number, state_of, name, reason


def _tell(found: _Status) -> None:
    settled = ", ".join(f"{number} {state}" for state, number in found.deliveries.items() if number)
    queued = sum(lane.owed for lane in found.lanes if lane.name.startswith(keys.DELIVERIES))
    click.echo(f"Deliveries: {queued} queued{', ' + settled if settled else ''}.")
    jobs = ", ".join(f"{number} {state}" for state, number in found.totals.items() if number)
    owed = sum(lane.owed for lane in found.lanes if lane.name.startswith(keys.JOBS))
    click.echo(f"Jobs: {owed} owed{', ' + jobs if jobs else ''}.")
    _rows(_SOURCES, [_source_row(found, lane) for lane in found.lanes if lane.name.startswith(keys.DELIVERIES)])
    rows = [_action_row(found, lane) for lane in found.lanes if lane.name.startswith(keys.JOBS)]
    # Those that need a person first, then what waits.
    first = len(_ACTIONS) - 1 - len(_COUNTED_STATES)
    bad = [first + i for i, state in enumerate(_COUNTED_STATES) if state.needs_operator]
    _rows(_ACTIONS, sorted(rows, key=lambda row: (-sum(row[i] for i in bad), -row[1], row[0])))
    _rows(_REASONS, found.reasons)
    if max(found.totals[state] for state in _NEED_OPERATOR) > _LOOKED_AT:
        click.echo(f"(reasons of the newest {_LOOKED_AT})")
    click.echo("\n" + textwrap.fill(f"Not counted: {NOT_SHOWN}", 78, break_on_hyphens=False))


def _rows(columns: tuple[Column, ...], rows: list[Any]) -> None:
    if not rows:
        return
    click.echo()
    output.print_table(columns, rows[:_ROWS])
    if len(rows) > _ROWS:
        click.echo(f"and {len(rows) - _ROWS} more; all of them: tiercast status --json")


def _source_row(found: _Status, lane: LaneInfo) -> tuple[Any, ...]:
    name = lane.name.removeprefix(keys.DELIVERIES)
    last = found.last.get(name)
    return (name, None if last is None else age(last), lane.owed, _oldest(lane), stands_still(lane))


def _action_row(found: _Status, lane: LaneInfo) -> tuple[Any, ...]:
    name = lane.name.removeprefix(keys.JOBS)
    counts = (found.by_action[state][name] for state in _COUNTED_STATES)
    return (name, lane.owed, lane.due, lane.held, _oldest(lane), *counts, stands_still(lane))


def _oldest(lane: LaneInfo) -> str | None:
    return None if lane.oldest_due_seconds is None else span(lane.oldest_due_seconds)


def _as_dict(found: _Status) -> dict[str, Any]:
    sources = [lane for lane in found.lanes if lane.name.startswith(keys.DELIVERIES)]
    actions = [lane for lane in found.lanes if lane.name.startswith(keys.JOBS)]
    return {
        "at": iso(int(time.time() * 1000)),
        "deliveries": {"queued": sum(lane.owed for lane in sources)} | found.deliveries,
        "jobs": {"owed": sum(lane.owed for lane in actions)} | found.totals,
        "sources": [
            {
                "name": (name := lane.name.removeprefix(keys.DELIVERIES)),
                "last_received_at": iso(found.last.get(name)),
                "queued": lane.owed,
                "oldest_due_seconds": lane.oldest_due_seconds,
                "paused": lane.paused,
                "reason": lane.reason,
            }
            for lane in sources
        ],
        "actions": [
            {
                "name": (name := lane.name.removeprefix(keys.JOBS)),
                "owed": lane.owed,
                "due": lane.due,
                "held": lane.held,
                "oldest_due_seconds": lane.oldest_due_seconds,
                **{str(state): found.by_action[state][name] for state in _COUNTED_STATES},
                "paused": lane.paused,
                "reason": lane.reason,
            }
            for lane in actions
        ],
        "reasons": [
            {"count": number, "state": state, "of": name, "reason": reason}
            for number, state, name, reason in found.reasons
        ],
        "not_counted": NOT_SHOWN,
    }
