"""`tiercast operations`: see bulk requests, cancel them, let them go on."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import click

from ..control.verbs import Verb
from ..errors import HistoryError
from ..ledger import prepare
from ..ledger.reading import Reader
from ..operations.model import Operation
from ..operations.requests import Became, Operations
from . import output
from .bulk import why_option
from .choosing import SHOWN
from .context import Context, Opened, pass_context
from .group import Failure
from .operating import follow
from .output import Column
from .times import age, iso

_COLUMNS = (
    Column(title="ID"),
    Column(title="AGE", right=True),
    Column(title="STATE"),
    Column(title="VERB"),
    Column(title="DONE", right=True),
    Column(title="OF", right=True),
    Column(title="WHAT", shrink="end", least=12),
)


@click.group()
def operations() -> None:
    """See bulk requests, cancel them, let them go on.

    A bulk verb for more than 1,000 members, or with --background, becomes an
    operation: a worker carries it out step by step. Its states:

    \b
      counting   its members are being counted
      trying     five are tried first, for up to two minutes
      running    its members have their turn
      done       all had their turn
      cancelled  an operator ended it
      stopped    one of the first five failed, or it ended its process

    \b
    Examples:
      tiercast operations list
      tiercast operations show op19a2b3c4d5e6f0a1
    """


@operations.command("list")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: all there are, unless --limit.")
@pass_context
def list_(context: Context, limit: int | None, as_json: bool) -> None:
    """List operations, newest first.

    What has ended is kept for 30 days.

    \b
    Example:
      tiercast operations list --json
    """
    with context.opened() as ledger:
        found = ledger.operations.all()
        if as_json:
            output.list_as_json("operations", map(as_dict, islice(found, limit)))
            return
        rows = list(islice(found, (limit or SHOWN) + 1))
    if not rows:
        click.echo("No operations. Bulk verbs begin one above 1,000 members, or with --background.")
        return
    output.print_table(_COLUMNS, map(_row, rows[: limit or SHOWN]))
    if len(rows) > (limit or SHOWN):
        output.note(f"{limit or SHOWN} newest shown; --limit N for more.")


@operations.command()
@click.argument("id", metavar="ID")
@click.option("--follow", "waits", is_flag=True, help="Wait for its end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def show(context: Context, id: str, waits: bool, as_json: bool) -> None:
    """Show an operation: what was asked for, how far it is, what became of its members.

    ID is the operation's, or a part that no other has.

    \b
    Example:
      tiercast operations show op19a2b3c4d5e6f0a1
    """
    with context.opened() as ledger:
        found = one_operation(ledger, id)
        if waits:
            found = follow(lambda: ledger.operations.get(found.id), found.id)
        became = _became(context, ledger, found)
    if as_json:
        output.as_json(as_dict(found) | {"became": _became_dict(became)})
        return
    output.print_facts(_facts(found))
    for line in _became_lines(found.verb, became):
        click.echo(line)
    for refusal in found.refusals:
        click.echo(f"Left alone {found.verb.count(refusal.count)}: {output.plain(refusal.reason)}")
        for name in refusal.names:
            click.echo(f"  {output.plain(name)}")


@operations.command()
@click.argument("id", metavar="ID")
@why_option
@pass_context
def cancel(context: Context, id: str, why: str) -> None:
    """End an operation; takes effect within 100 members.

    What was changed stays so: what was set due is performed.

    \b
    Example:
      tiercast operations cancel op19a2b3c4d5e6f0a1
    """
    with context.opened() as ledger:
        found = one_operation(ledger, id)
        answer = ledger.operations.cancel(found.id, ledger.control.actor, why=why)
        if not answer.done:
            raise Failure(f"Operation {found.id} was not cancelled: {answer.text}.")
        found = ledger.operations.get(found.id) or found
    verb = found.verb
    click.echo(f"Cancelled {found.id}. {verb.past.capitalize()} before that, and staying so: {verb.count(found.done)}.")


@operations.command("continue")
@click.argument("id", metavar="ID")
@why_option
@pass_context
def continue_(context: Context, id: str, why: str) -> None:
    """Let an operation go on that was stopped.

    The members that were tried first are not tried anew.

    \b
    Example:
      tiercast operations continue op19a2b3c4d5e6f0a1
    """
    with context.opened() as ledger:
        found = one_operation(ledger, id)
        answer = ledger.operations.go_on(found.id, ledger.control.actor, why=why)
    if not answer.done:
        raise Failure(f"Operation {found.id} does not go on: {answer.text}.")
    click.echo(f"Operation {found.id} is {answer.text}.")


def _became(context: Context, ledger: Opened, found: Operation) -> Became:
    try:
        with context.history() as history:
            return ledger.operations.became(found, history.reading if history else None)
    except HistoryError as error:
        output.note(f"What was filed is not counted. {error}")
        here = Reader(ledger.ledger, prepare(ledger.ledger, context.settings))
        return Operations(ledger.ledger, here).became(found)


def one_operation(ledger: Opened, text: str) -> Operation:
    """The operation that somebody means: by its id, or a part that no other has.

    Raises:
        Failure: there is none, or several.
    """
    if found := ledger.operations.get(text):
        return found
    like = [one for one in ledger.operations.all() if text and text in one.id]
    if len(like) == 1:
        return like[0]
    if like:
        names = "\n".join(f"  {one.id}" for one in like[:10])
        raise Failure(f"{output.plain(text)} can be any of these; say which:\n{names}")
    raise Failure(f"There is no operation {output.plain(text)}. See what there is with `tiercast operations list`.")


def as_dict(found: Operation) -> dict[str, Any]:
    """An operation as scripts get it."""
    request = found.request
    return {
        "id": found.id,
        "verb": found.verb.name,
        "subject": request.subject,
        "state": str(found.state),
        "reason": found.reason,
        "by": str(found.actor),
        "why": request.why or None,
        "began_at": iso(found.created_ms),
        "moved_at": iso(found.moved_ms),
        "ended_at": iso(found.ended_ms),
        "expected": found.expected,
        "seen": found.seen,
        "done": found.done,
        "refused": found.refused,
        "not_done": [{"reason": one.reason, "count": one.count, "examples": one.names} for one in found.refusals],
        "states": dict(found.counts.by_state),
        "actions" if found.verb.is_of_jobs else "types": dict(found.counts.by_about),
        "errors": dict(found.counts.by_error),
        "tried": None if found.tried is None else [one.name for one in found.tried],
        "rate": request.rate,
    }


def _became_dict(became: Became) -> dict[str, Any]:
    return {
        "states": dict(became.by_state),
        "jobs": dict(became.jobs),
        "errors": dict(became.errors),
        "gone": became.gone,
        "whole": became.is_whole,
    }


def _became_lines(verb: Verb, became: Became) -> list[str]:
    lines = []
    whole = "" if became.is_whole else " (of the first ones)"
    if became.by_state:
        lines.append(f"Now{whole}: {_counts(became.by_state)}.")
    if became.jobs:
        lines.append(f"Jobs since then: {_counts(became.jobs)}.")
    if became.gone:
        lines.append(f"{verb.count(became.gone)} are in neither ledger nor history any more.")
    return lines + [f"  {count} x {output.plain(error)}" for error, count in became.errors.most_common(10)]


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())


def _row(found: Operation) -> tuple[object, ...]:
    what = f"{found.request.subject}; {found.reason}" if found.reason else found.request.subject
    return (found.id, age(found.created_ms), found.state, found.verb.name, found.done, found.expected, what)


def _facts(found: Operation) -> list[tuple[str, object]]:
    request = found.request
    return [
        ("id", found.id),
        ("verb", found.verb.name),
        ("what", request.subject),
        ("state", found.state),
        ("reason", found.reason),
        ("by", found.actor),
        ("why", request.why),
        ("began", iso(found.created_ms)),
        ("ended", iso(found.ended_ms)),
        ("expected", found.expected),
        ("done", found.done),
        ("left alone", found.refused or None),
        ("tried", ", ".join(one.name for one in found.tried) if found.tried else None),
        ("at most", f"{request.rate:g} a second" if request.rate else None),
    ]
