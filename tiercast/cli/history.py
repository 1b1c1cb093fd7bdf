"""`tiercast history`: how large the database of what was settled is, and its tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from . import output
from .context import Context, pass_context
from .group import Failure
from .times import age, iso

if TYPE_CHECKING:
    from ..history.status import HistoryStatus
    from ..history.store import History


@click.group()
def history() -> None:
    """See and look after the history, the database of what was settled.

    TIERCAST_HISTORY_URL says where it is; workers file into it only where that
    is set. Without it these commands look at history.db in the data folder.

    \b
    Examples:
      tiercast history status
      tiercast history migrate
    """


@history.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def status(context: Context, as_json: bool) -> None:
    """Show size, growth and reach.

    \b
    Examples:
      tiercast history status
      tiercast history status --json
    """
    with _open(context) as opened:
        found = opened.status()
    keep_days = context.settings.keep_history_days
    if as_json:
        output.as_json(_as_dict(found, keep_days))
        return
    output.print_facts(_facts(found, keep_days))


@history.command()
@pass_context
def migrate(context: Context) -> None:
    """Make the tables, or bring them up to date.

    Every process that opens the history does so by itself. Run this one where
    those may not change tables, with TIERCAST_HISTORY_URL naming a user of the
    database who may.

    \b
    Example:
      tiercast history migrate
    """
    with _open(context, make=True) as opened:
        where = f"The history at {opened.address.place}"
        click.echo(f"{where} is up to date now." if opened.migrated else f"{where} was up to date.")


@history.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_context
def adopt(context: Context, yes: bool) -> None:
    """Have this ledger file into this history from now on.

    A ledger and its history know each other, and workers refuse another pair.
    After one of the two was lost, or when you move from a file to PostgreSQL,
    this makes a pair of those that TIERCAST_REDIS_URL and TIERCAST_HISTORY_URL
    name. What was filed elsewhere stays there.

    \b
    Example:
      tiercast history adopt --yes
    """
    from ..ledger.filing import agree_on_history
    from ..ledger.opening import ledger_id

    with context.opened() as opened, _open(context, make=True) as found:
        if not yes:
            click.confirm(f"File into {found.address.place} from now on?", abort=True)
        found.adopt(ledger_id(opened.ledger))
        agree_on_history(opened.ledger, found.identity()[0], adopt=True)
    click.echo(f"This ledger files into {found.address.place} from now on.")


def _open(context: Context, *, make: bool = False) -> History:
    from ..history.store import History

    address = context.settings.history
    if not make and address.path is not None and not address.path.exists():
        raise Failure(
            f"There is no history at {address.place} yet. A worker makes it when it first files something; say where "
            "it is with TIERCAST_HISTORY_URL."
        )
    return History(address)


def _as_dict(found: HistoryStatus, keep_days: float) -> dict[str, object]:
    return {
        **{name: value for name, value in asdict(found).items() if not name.endswith("_ms")},
        "bytes_each": found.bytes_each,
        "oldest": iso(found.oldest_ms),
        "newest": iso(found.newest_ms),
        "keep_days": keep_days,
    }


def _facts(found: HistoryStatus, keep_days: float) -> list[tuple[str, object]]:
    each = found.bytes_each
    growth = found.filed_day - found.removed_day
    grown = f", {_size(abs(growth) * each)} {'more' if growth > 0 else 'less'}" if each and growth else ""
    return [
        ("history", f"{found.dialect}, {found.place}"),
        ("id", found.id),
        ("ledger", found.ledger or "none yet"),
        ("deliveries", f"{found.deliveries:,}"),
        ("jobs", f"{found.jobs:,}"),
        ("size", _size(found.bytes) + (f", of which {_size(found.free)} free" if found.free else "")),
        ("each", f"{each:,} bytes a delivery, with its jobs" if each else None),
        ("last 24 h", f"{found.filed_day:,} filed, {found.removed_day:,} removed{grown}"),
        ("oldest", f"{age(found.oldest_ms)} ago, {iso(found.oldest_ms)}" if found.oldest_ms else None),
        ("newest", f"{age(found.newest_ms)} ago, {iso(found.newest_ms)}" if found.newest_ms else None),
        ("kept for", f"{keep_days:g} days (TIERCAST_KEEP_DAYS)"),
        ("classes", f"{found.classes:,} of {found.terms:,} terms"),
    ]


def _size(count: int) -> str:
    number = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:,.0f} bytes" if unit == "bytes" else f"{number:,.1f} {unit}"
