"""Bulk verbs as operations: confirm by an estimate, begin, follow, report."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import click

from ..control.verbs import BULK_MAX_MEMBERS, Verb
from ..errors import ConfigError
from ..ledger.reading import Filter
from ..operations.model import BulkRequest, Operation, OperationState
from ..operations.requests import Estimate
from . import bulk, output
from .bulk import How, Member
from .context import Context, Opened
from .group import Failure
from .times import span

#: Seconds between two looks at an operation, and after which one that no worker has begun is left to itself.
LOOK_SECONDS = 0.25
PATIENCE_SECONDS = 30.0

#: How many groups of an estimate are shown.
_GROUPS = 5


def begin(
    context: Context, ledger: Opened, request: BulkRequest, how: How, *, pays: Callable[[str], bool] = lambda _: False
) -> None:
    """Carry a bulk request out as an operation; waits for its end, unless it is to go on in the background.

    Exits with status 1 where nothing could be done, or it ended early.

    Args:
        context: of the command.
        ledger: open.
        request: what to do.
        how: what was asked for.
        pays: says of an action that it pays again.
    """
    estimate = ledger.operations.estimate(request, rates=_rates(context))
    if not estimate.count:
        _report_nothing(request, how)
        return
    if how.dry_run:
        _report_plan(request, estimate, how, pays)
        return
    if not how.yes and output.can_ask():
        for line in describe(request, estimate, pays):
            output.note(line)
        if not click.confirm(f"{request.verb.word.capitalize()} them?", err=True):
            raise Failure("Nothing was changed.")
    many = estimate.count > BULK_MAX_MEMBERS or not estimate.is_whole
    why = bulk.reason(how, asked=request.verb.asks_why, count=BULK_MAX_MEMBERS + 1 if many else estimate.count)
    id = ledger.operations.begin(replace(request, why=why), ledger.control.actor)
    if how.background:
        if how.as_json:
            output.as_json({"operation": id, "chosen": estimate.count})
        else:
            click.echo(f"Began operation {id}. See how far it is with: tiercast operations show {id}")
        return
    context.ring_for_operations()
    output.note(f"Operation {id}. It goes on if you leave; cancel it with: tiercast operations cancel {id}")
    ended = follow(lambda: ledger.operations.get(id), id)
    report(ended, as_json=how.as_json)


def request(
    verb: Verb,
    how: How,
    *,
    which: Filter,
    subject: str,
    skip: tuple[str, ...] = (),
    only: tuple[str, ...] | None = None,
) -> BulkRequest:
    """An operation over what a filter chooses."""
    return BulkRequest(
        verb=verb, which=which, subject=subject, skip=skip, only=only, rate=how.rate, try_first=how.try_first
    )


def of_names(
    verb: Verb,
    how: How,
    members: Sequence[Member],
    *,
    subject: str,
    skip: tuple[str, ...] = (),
    only: tuple[str, ...] | None = None,
) -> BulkRequest:
    """An operation over these members, which are newest first.

    Raises:
        UsageError: they are too many to be named.
    """
    if len(members) > BULK_MAX_MEMBERS:
        raise click.UsageError(
            f"An operation names at most {BULK_MAX_MEMBERS} {verb.plural}. Choose by --since and --until, not --limit."
        )
    names = tuple(member.name for member in reversed(members))
    subject = subject or (names[0] if len(names) == 1 else f"{verb.count(len(names))} by name")
    return BulkRequest(
        verb=verb, names=names, subject=subject, skip=skip, only=only, rate=how.rate, try_first=how.try_first
    )


def describe(request: BulkRequest, estimate: Estimate, pays: Callable[[str], bool]) -> list[str]:
    """What an operation would do, in words: number and filter, groups, what stands in its way."""
    verb = request.verb
    more = "" if estimate.is_whole else "more than "
    lines = [f"{verb.word.capitalize()} {more}{verb.count(estimate.count)}: {request.subject}."]
    counts = estimate.counts
    if counts.by_state:
        lines.append(f"By state: {_groups(counts.by_state)}.")
    if counts.by_about:
        title = "By action" if verb.is_of_jobs else "By type"
        lines.append(f"{title}: {_groups(counts.by_about, lambda name: ' (pays again)' if pays(name) else '')}.")
    if request.skip:
        lines.append(f"Left out, since their kinds are not repeatable and it pays again: {', '.join(request.skip)}.")
    for error, count in counts.by_error.most_common(_GROUPS):
        lines.append(f"  {count} x {output.plain(error)}")
    for state, count in estimate.left_alone.items():
        lines.append(f"{verb.count(count)} would be left alone: {state}.")
    for action, seconds in estimate.seconds.items():
        lines.append(f"Performing those of {action} takes about {span(seconds)} at the rate that is set.")
    for lane, why in estimate.stopped.items():
        lines.append(f"Lane {lane} stands still ({output.plain(why)}): what is set due there waits.")
    return lines


def _rates(context: Context) -> dict[str, float]:
    """How many jobs a second each action performs at the most, where it has a rate or a limit."""
    config = context.config_if_any
    if isinstance(config, ConfigError):
        return {}
    return {
        name: min(limit.calls / limit.seconds / spec.cls.calls for limit in spec.limits)
        for name, spec in config.actions.items()
        if spec.limits
    }


def _groups(groups: Counter[str], note: Callable[[str], str] = lambda _: "") -> str:
    more = f" and {len(groups) - _GROUPS} more" if len(groups) > _GROUPS else ""
    return ", ".join(f"{name} {count}{note(name)}" for name, count in groups.most_common(_GROUPS)) + more


def follow(look: Callable[[], Operation | None], id: str) -> Operation:
    """Wait until an operation has ended; a person at a terminal sees how far it is.

    Raises:
        Failure: no worker takes it up.
    """
    shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    began = time.monotonic()
    while True:
        found = look()
        if found is None:
            raise Failure(f"Operation {id} has just left the ledger.")
        if shown:
            click.echo(f"\r\x1b[K{_progress(found)}", nl=False, err=True)
        if found.state.final:
            if shown:
                click.echo(err=True)
            return found
        if found.moved_ms is None and time.monotonic() - began > PATIENCE_SECONDS:
            raise Failure(
                f"No worker has begun with operation {id} within {PATIENCE_SECONDS:g} s. It waits until one does; see "
                f"`tiercast lanes list`, or cancel it with: tiercast operations cancel {id}"
            )
        time.sleep(LOOK_SECONDS)


def _progress(found: Operation) -> str:
    match found.state:
        case OperationState.COUNTING:
            return f"counting: {found.expected}"
        case OperationState.TRYING:
            return f"trying {len(found.tried or ()) or 'five'} first, up to two minutes"
    share = min(1.0, found.seen / found.expected) if found.expected else 1.0
    filled = round(share * 30)
    return f"{found.verb.word} [{'#' * filled}{'-' * (30 - filled)}] {found.seen} of {found.expected}"


def report(found: Operation, *, as_json: bool) -> None:
    """Say what became of a request, as a bulk verb does; status 1 where nothing was done or it ended early."""
    verb = found.verb
    early = found.state is not OperationState.DONE
    if as_json:
        not_done = [{"reason": one.reason, "count": one.count} for one in found.refusals]
        actions = dict(found.counts.by_about) if verb.is_of_jobs else {}
        document = {"chosen": found.seen, "done": found.done, "not_done": not_done, "actions": actions, "left_out": {}}
        output.as_json(document | {"operation": found.id, "state": str(found.state), "reason": found.reason})
    else:
        click.echo(f"{verb.past.capitalize()} {verb.count(found.done)}.")
        for refusal in found.refusals:
            output.note(f"Not {verb.past} {verb.count(refusal.count)}: {output.plain(refusal.reason)}")
            for name in refusal.names:
                output.note(f"  {output.plain(name)}")
        if early:
            output.note(
                f"The operation is {found.state}" + (f": {output.plain(found.reason)}" if found.reason else ".")
            )
    if early or not found.done:
        click.get_current_context().exit(1)


def _report_nothing(request: BulkRequest, how: How) -> None:
    if how.as_json:
        output.as_json({"chosen": 0, "done": 0, "not_done": [], "actions": {}, "left_out": {}})
    else:
        click.echo(f"No {request.verb.noun} matches; nothing to {request.verb.word}.")


def _report_plan(request: BulkRequest, estimate: Estimate, how: How, pays: Callable[[str], bool]) -> None:
    left = sum(estimate.left_alone.values())
    if how.as_json:
        document: dict[str, Any] = {"chosen": estimate.count, "would_do": estimate.count - left}
        document["not_done"] = [{"reason": f"state {s}", "count": count} for s, count in estimate.left_alone.items()]
        document |= {"actions": dict(estimate.counts.by_about) if request.verb.is_of_jobs else {}, "left_out": {}}
        document |= {"errors": dict(estimate.counts.by_error), "stopped": estimate.stopped}
        document["seconds"] = {action: round(seconds) for action, seconds in estimate.seconds.items()}
        output.as_json(document)
        return
    click.echo(f"Would {request.verb.word} {request.verb.count(estimate.count - left)}. Nothing was changed.")
    for line in describe(request, estimate, pays)[1:]:
        click.echo(line)
