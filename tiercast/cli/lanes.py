"""`tiercast lanes`: see the queues of owed work, pause and resume them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError
from ..ledger import keys
from ..ledger.model import LaneInfo
from . import output
from .bulk import why_option
from .context import Context, pass_context
from .group import Failure
from .output import Column
from .times import age, iso, span

if TYPE_CHECKING:
    from ..config.model import Config

_COLUMNS = (
    Column(title="NAME", shrink="own-line"),
    Column(title="OWED", right=True),
    Column(title="DUE", right=True),
    Column(title="HELD", right=True),
    Column(title="OLDEST", right=True),
    Column(title="REDELIVERED", right=True),
    Column(title="ISOLATED", right=True),
    Column(title="STATE", shrink="end", least=12),
)


@click.group()
def lanes() -> None:
    """See the queues of owed work; pause and resume them.

    There is one lane for each source's deliveries, one for each action's jobs,
    and the lane `history` of what is settled and is to be filed there, and
    `operations/all` for bulk requests.

    \b
    Examples:
      tiercast lanes list
      tiercast lanes pause welcome-email --reason "wrong text, see issue 12"
      tiercast lanes resume welcome-email
    """


@lanes.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """List the lanes with what they owe.

    \b
      owed         waiting and being worked on, now or later
      due          could start now
      held         being worked on
      oldest       how long the first of those due has been due
      redelivered  of those owed, the ones whose worker was lost once
      isolated     of those owed, the ones whose worker was lost more often;
                   they are worked on in a process of their own

    \b
    Example:
      tiercast lanes list --json
    """
    with context.opened() as ledger:
        found = ledger.reader.lanes()
        clock = ledger.reader.clock()
    config = context.config_if_any
    if isinstance(config, ConfigError):
        output.note(f"Without a configuration, only lanes that ever held work are listed. {config}")
    else:
        found = with_config(found, config)
    if clock.behind:
        output.note(f"The ledger's clock went back by {clock.behind:.0f} s: workers move what is due and held along.")
    elif clock.moving:
        output.note(f"The ledger's clock went back: what is due and held is being moved by {clock.moved:.0f} s.")
    if as_json:
        output.list_as_json("lanes", map(as_dict, found))
    elif found:
        output.print_table(_COLUMNS, map(_row, found))
    else:
        click.echo("No lanes yet. Send a sample event with `tiercast trigger`.")


@lanes.command()
@click.argument("lane")
@click.option("--reason", default="paused by an operator", show_default=True, help="What listings say about it.")
@click.option("--by", metavar="NAME", help="Who pauses it.  [default: your user and this machine's name]")
@pass_context
def pause(context: Context, lane: str, reason: str, by: str | None) -> None:
    """Start nothing more in a lane; what runs ends as usual.

    LANE is a lane's name, or that of its action or source. Listings show who
    paused it, when and why.

    \b
    Examples:
      tiercast lanes pause welcome-email
      tiercast lanes pause deliveries/voucherify --reason "campaign is wrong"
    """
    with context.opened() as ledger:
        name = find_lane(lane, _known(context, ledger.reader.lane_names()))
        ledger.control.pause(name, reason.strip() or "paused by an operator", by=(by or "").strip())
    click.echo(f"Paused {name}. Let it go on with: tiercast lanes resume {name}")


@lanes.command()
@click.argument("lane")
@why_option
@pass_context
def resume(context: Context, lane: str, why: str) -> None:
    """Let a lane go on: ends a pause, and any other reason to wait.

    LANE is a lane's name, or that of its action or source.

    \b
    Example:
      tiercast lanes resume welcome-email
    """
    with context.opened() as ledger:
        name = find_lane(lane, _known(context, ledger.reader.lane_names()))
        ledger.control.resume(name, why=why)
    click.echo(f"Resumed {name}.")


#: Lanes that are there whatever the configuration.
ALWAYS = (keys.HISTORY, keys.OPERATIONS)


def configured(config: Config) -> list[str]:
    """The lanes that a configuration has."""
    return [keys.deliveries_lane(name) for name in config.sources] + [keys.jobs_lane(name) for name in config.actions]


def with_config(found: Iterable[LaneInfo], config: Config) -> list[LaneInfo]:
    """Add the lanes that never held work, and say of those that the configuration does not have that it does not."""
    has = configured(config)
    lanes = {lane.name: lane if lane.name in {*has, *ALWAYS} else _orphan(lane) for lane in found}
    for name in has:
        empty = LaneInfo(name=name, owed=0, due=0, held=0, oldest_due_seconds=None, paused=False, reason=None)
        lanes.setdefault(name, empty)
    return [lanes[name] for name in sorted(lanes)]


def _orphan(lane: LaneInfo) -> LaneInfo:
    what = "action" if lane.name.startswith(keys.JOBS) else "source"
    reason = f"no such {what} in the configuration"
    return replace(lane, reason=f"{lane.reason}; {reason}" if lane.reason else reason)


def find_lane(text: str, known: Sequence[str]) -> str:
    """Find the lane that somebody means: by its name, or by that of its action or source.

    Raises:
        Failure: there is none, or several; the message names the nearest.
    """
    if text in known:
        return text
    found = [name for name in (keys.jobs_lane(text), keys.deliveries_lane(text)) if name in known]
    if len(found) == 1:
        return found[0]
    shown = output.plain(text)
    if found:
        raise Failure(f"{shown} is both an action and a source; say {' or '.join(found)}.")
    short = {name.partition("/")[2]: name for name in known}
    near = get_close_matches(text, [*known, *short], n=1)
    hint = f"Did you mean {short.get(near[0], near[0])}?" if near else "See `tiercast lanes list`."
    raise Failure(f"There is no lane {shown}. {hint}")


def _known(context: Context, held_work: list[str]) -> list[str]:
    config = context.config_if_any
    more = [] if isinstance(config, ConfigError) else configured(config)
    return sorted({*held_work, *more, *ALWAYS})


def as_dict(lane: LaneInfo) -> dict[str, Any]:
    """A lane as listings print it."""
    return {
        "name": lane.name,
        "owed": lane.owed,
        "due": lane.due,
        "held": lane.held,
        "oldest_due_seconds": lane.oldest_due_seconds,
        "paused": lane.paused,
        "reason": lane.reason,
        "redelivered": lane.redelivered,
        "isolated": lane.isolated,
        "paused_by": lane.paused_by,
        "paused_at": iso(lane.paused_ms),
        "hold_until": iso(lane.hold_until_ms),
        "cause": lane.cause,
    }


def stands_still(lane: LaneInfo) -> str | None:
    """Why nothing of a lane starts, in words; None where it goes on."""
    if not lane.paused:
        return lane.reason
    when = None if lane.paused_ms is None else f"{age(lane.paused_ms)} ago"
    about = ", ".join(filter(None, (lane.paused_by, when)))
    return f"paused: {lane.reason}" + (f" ({about})" if about else "")


def _row(lane: LaneInfo) -> tuple[object, ...]:
    oldest = None if lane.oldest_due_seconds is None else span(lane.oldest_due_seconds)
    return (lane.name, lane.owed, lane.due, lane.held, oldest, lane.redelivered, lane.isolated, stands_still(lane))
