"""`tiercast audit`: see who changed what."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click

from ..control.audit import AuditEntry, AuditFilter, AuditLog
from . import output
from .choosing import SHOWN
from .context import Context, pass_context
from .output import Column
from .times import Moment, age, iso

_COLUMNS = (
    Column(title="AGE", right=True),
    Column(title="BY", shrink="middle", least=10),
    Column(title="VERB"),
    Column(title="COUNT", right=True),
    Column(title="SUBJECT", shrink="middle", least=12),
    Column(title="WHY OR RESULT", shrink="end", least=10),
)


@click.command()
@click.option("--since", type=Moment(), metavar="TIME", help="Changed since: 15m, 2h, 3d or ISO 8601.")
@click.option("--until", type=Moment(), metavar="TIME", help="Changed until: the same forms.")
@click.option("--user", metavar="NAME", help="By this user: ann, or whole as in cli:ann@ops1.")
@click.option("--verb", metavar="NAME", help="This verb: retry, drop, pause, forget ...")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: all that match, unless --limit.")
@pass_context
def audit(
    context: Context,
    since: int | None,
    until: int | None,
    user: str | None,
    verb: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """See who changed what, and why, newest first.

    Every change that an operator makes is on record for 400 days: who, from
    where, what, how many, the reason they gave, and the result. It is written in
    the same step as the change. It names jobs, deliveries and lanes, never people;
    a customer goes by a keyed digest.

    \b
    Examples:
      tiercast audit --since 1d
      tiercast audit --user ann --verb drop --json
    """
    which = AuditFilter(since_ms=since, until_ms=until, user=user, verb=verb)
    with context.opened() as ledger:
        found = AuditLog(ledger.ledger).entries(which)
        if as_json:
            output.list_as_json("audit", map(as_dict, islice(found, limit)))
            return
        most = limit or SHOWN
        rows = list(islice(found, most + 1))
    if not rows:
        click.echo("No change is on record." if which == AuditFilter() else "No change matches. Try fewer filters.")
        return
    output.print_table(_COLUMNS, map(_row, rows[:most]))
    if len(rows) > most:
        output.note(f"{most} newest shown; --limit N for more.")


def as_dict(entry: AuditEntry) -> dict[str, Any]:
    """An entry as scripts get it."""
    return {
        "at": iso(entry.at_ms),
        "by": str(entry.actor),
        "user": entry.actor.name,
        "from": entry.actor.origin,
        "address": entry.actor.address,
        "verb": entry.verb,
        "subject": entry.subject,
        "count": entry.count,
        "refused": entry.refused,
        "why": entry.why or None,
        "result": entry.result or None,
        "operation": entry.operation,
    }


def _row(entry: AuditEntry) -> tuple[object, ...]:
    count = f"{entry.count} of {entry.count + entry.refused}" if entry.refused else entry.count
    return (age(entry.at_ms), entry.actor, entry.verb, count, entry.subject, entry.why or entry.result)
