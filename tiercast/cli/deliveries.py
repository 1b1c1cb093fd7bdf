"""`tiercast deliveries`: see what arrived and what became of it, and replay it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import click

from ..control.changes import replay_limits
from ..control.rounds import done_in_last_round, next_round
from ..control.verbs import BULK_MAX_MEMBERS, REPLAY, REPLAY_AGAIN
from ..event import Event, Json, customer_ids
from ..ledger.model import DeliveryInfo, DeliveryState, JobInfo, JobState
from ..ledger.reading import Filter, Reader, event_of
from ..ledger.states import listed
from . import bulk, operating, output
from .bulk import ByAction, How, Member
from .choosing import SHOWN, filters, is_empty, one_delivery
from .context import Context, pass_context
from .group import Failure
from .output import Column
from .paying import actions_that_pay, pays_again
from .times import age, iso

_COLUMNS = (
    Column(title="ID", shrink="own-line"),
    Column(title="AGE", right=True),
    Column(title="STATE"),
    Column(title="TYPE"),
    Column(title="REASON", shrink="end", least=4),
)


@click.group(
    help=f"""See what arrived and what became of it, and replay it.

A delivery is one authenticated request. Wherever its id is asked for, a part
of it will do that no other id has. Its states:

\b
{listed(DeliveryState)}

\b
Examples:
  tiercast deliveries list --state quarantined
  tiercast deliveries replay --state ignored --since 2h
"""
)
def deliveries() -> None:
    """See what arrived and what became of it."""


@deliveries.command("list")
@filters(DeliveryState)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: all that match, unless --limit.")
@pass_context
def list_(context: Context, which: Filter, as_json: bool) -> None:
    """List deliveries, newest first.

    \b
    Examples:
      tiercast deliveries list --customer ines.okafor@example.com
      tiercast deliveries list --state quarantined --since 2h --json
    """
    with context.opened() as ledger:
        if as_json:
            output.list_as_json("deliveries", map(as_dict, ledger.reader.deliveries(which)))
            return
        limit = which.limit or SHOWN
        rows = list(ledger.reader.deliveries(replace(which, limit=limit + 1)))
    if not rows:
        click.echo(_nothing(which))
        return
    output.print_table(_COLUMNS, (_row(each) for each in rows[:limit]))
    if len(rows) > limit:
        output.note(f"{limit} newest shown; --limit N for more.")


@deliveries.command()
@click.argument("delivery", metavar="ID")
@click.option("--body", is_flag=True, help="Print the raw bytes as they arrived, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def show(context: Context, delivery: str, body: bool, as_json: bool) -> None:
    """Show one delivery: state, reason, event, jobs.

    \b
    Examples:
      tiercast deliveries show 0198a3c4-7d1e-7a52-b3f0-5f2a9c1d4e6b
      tiercast deliveries show 0198a3c4-7d1e-7a52-b3f0-5f2a9c1d4e6b --body
    """
    with context.opened() as ledger:
        delivery = one_delivery(ledger.reader, delivery)
        info = ledger.reader.delivery(delivery)
        if info is None:
            raise Failure(f"Delivery {delivery} has just left the ledger.")
        raw = ledger.reader.body(delivery)
        jobs = [job for key in info.jobs if (job := ledger.reader.job(key))]
    if body:
        if raw is None:
            raise Failure(f"The body of delivery {delivery} is no longer kept.")
        click.echo(raw, nl=False)
        return
    event = event_of(info, raw)
    if as_json:
        output.as_json(as_dict(info) | _more(info, raw, event, jobs))
        return
    output.print_facts(_facts(info, raw, event))
    if jobs:
        click.echo()
        output.print_table(_JOB_COLUMNS, ((job.key, job.state, job.attempts, job.text) for job in jobs))


_JOB_COLUMNS = (
    Column(title="KEY", shrink="own-line"),
    Column(title="STATE"),
    Column(title="ATTEMPTS", right=True),
    Column(title="RESULT OR ERROR", shrink="end", least=16),
)


@deliveries.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@filters(DeliveryState)
@click.option("--again", is_flag=True, help="Also do again what is done, under keys that end in :r2, :r3.")
@bulk.options
@pass_context
def replay(context: Context, ids: tuple[str, ...], which: Filter, again: bool, how: How) -> None:
    """Read settled deliveries anew, with today's rules.

    Adds the jobs that are missing; what is done stays done, unless --again.
    Choose deliveries by id or by filters. Of duplicates, replay the first.

    --action limits which jobs are made: only that action's. --again does done
    jobs again, each once more. A kind that is not repeatable pays again; so its
    jobs are left out unless you name the action with --action. To do single jobs
    again: tiercast jobs redo.

    \b
    Examples:
      tiercast deliveries replay 0198a3c4-7d1e-7a52-b3f0-5f2a9c1d4e6b
      tiercast deliveries replay --state quarantined --since 3d --dry-run
      tiercast deliveries replay --customer cust_8Qm2 --action crm-tier --again
    """
    choice = which if again else replace(which, action=None)
    only = [which.action] if which.action else None
    if ids and not is_empty(replace(which, action=None)):
        raise click.UsageError("Give ids or filters, not both.")
    if not ids and is_empty(choice) and which.limit is None:
        bulk.refuse_everything(REPLAY)
    with context.opened() as ledger:
        verb = REPLAY_AGAIN if again else REPLAY
        subject = "" if ids else ledger.reader.in_words(which, "deliveries")
        found = _infos(ledger.reader, ids) if ids else ledger.reader.deliveries(choice)
        limited = tuple(only) if only else None
        if not ids and which.limit is None:
            first = list(islice(found, BULK_MAX_MEMBERS + 1))
            if len(first) > BULK_MAX_MEMBERS or how.is_operation:
                skip = actions_that_pay(context) if again and which.action is None else ()
                request = operating.request(verb, how, which=choice, subject=subject, skip=skip, only=limited)
                operating.begin(context, ledger, request, how)
                return
            found = iter(first)
        infos = list(found)
        rounds: dict[str, list[str]] = {}
        actions = ByAction()
        if again:
            rounds = _rounds(context, ledger.reader, infos, which.action, actions)
        known = {info.id: info.state for info in infos}
        # Bulk verbs start with the last, so that the oldest of a listing comes first.
        names = reversed(_ids_of(ledger.reader, ids)) if ids else known
        members = [Member(id, known.get(id)) for id in names]
        if how.is_operation:
            skip = actions_that_pay(context) if again and which.action is None else ()
            request = operating.of_names(verb, how, members, subject=subject, skip=skip, only=limited)
            operating.begin(context, ledger, request, how)
            return

        def more(id: str) -> dict[str, Any]:
            made = rounds.get(id)
            return {"again": 2 if made else 1, **replay_limits(only, made)}

        bulk.carry_out(
            ledger.control,
            verb,
            members,
            by_filter=not ids,
            how=how,
            subject=subject,
            actions=actions,
            what="Does again",
            more=more,
        )


def _ids_of(reader: Reader, texts: tuple[str, ...]) -> list[str]:
    """The ids that somebody named, by parts or whole; what there is not stays as it is."""
    ids = []
    for text in dict.fromkeys(texts):
        try:
            ids.append(one_delivery(reader, text))
        except Failure as failure:
            if "\n" in failure.message:
                raise
            ids.append(text)
    return ids


def _infos(reader: Reader, texts: tuple[str, ...]) -> Iterator[DeliveryInfo]:
    return reader.by_id(_ids_of(reader, texts))


def _rounds(
    context: Context, reader: Reader, infos: Iterable[DeliveryInfo], action: str | None, actions: ByAction
) -> dict[str, list[str]]:
    """By delivery, the rounds to make: the next of every action whose last round is done.

    What pays again and was not named is left out.
    """
    pays = pays_again(context)
    rounds: dict[str, list[str]] = defaultdict(list)
    for info in infos:
        for job in done_in_last_round(reader.jobs_of(info), action):
            name = job.action
            if pays(name) and action is None:
                actions.left_out[name] += 1
                continue
            actions.counts[name] += 1
            actions.pays |= {name} if pays(name) else set()
            rounds[info.id].append(next_round(job))
    return rounds


def as_dict(info: DeliveryInfo) -> dict[str, Any]:
    """A delivery as listings print it."""
    return {
        "id": info.id,
        "source": info.source,
        "state": str(info.state),
        "event_id": info.event_id,
        "type": info.type,
        "received_at": iso(info.received_ms),
        "reason": _reason(info),
    }


def _reason(info: DeliveryInfo) -> str | None:
    if info.first and not info.reason:
        return f"the same event as delivery {info.first}"
    return info.reason or None


def _row(info: DeliveryInfo) -> tuple[object, ...]:
    return (info.id, age(info.received_ms), info.state, info.type, _reason(info))


def _nothing(which: Filter) -> str:
    if is_empty(which):
        return "No deliveries yet. Send a sample event with `tiercast trigger`."
    return "No delivery matches. Try fewer filters, or a longer time with --since."


def _named(thing: Json | None) -> str | None:
    parts = [thing.get("id"), thing.get("name")] if thing else []
    return " ".join(part for part in parts if isinstance(part, str)) or None


def _facts(info: DeliveryInfo, raw: bytes | None, event: Event | None) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [
        ("id", info.id),
        ("source", info.source),
        ("state", info.state),
        ("reason", _reason(info)),
        ("received", iso(info.received_ms)),
        ("settled", iso(info.settled_ms)),
        ("bytes", "no longer kept" if raw is None else len(raw)),
        ("form", info.form),
        ("event", info.event_id),
        ("type", info.type),
        ("happened", info.at),
    ]
    if event:
        facts += [
            ("customer", customer_ids(event).id),
            ("campaign", _named(event.campaign)),
            ("tier", _named(event.tier)),
            ("before", _named(event.previous_tier)),
        ]
    return facts


def _more(info: DeliveryInfo, raw: bytes | None, event: Event | None, jobs: list[JobInfo]) -> dict[str, Any]:
    return {
        "settled_at": iso(info.settled_ms),
        "bytes": None if raw is None else len(raw),
        "form": info.form,
        "at": info.at,
        "first": info.first,
        "customer_id": customer_ids(event).id if event else None,
        "jobs": [
            {
                "key": job.key,
                "action": job.action,
                "state": str(job.state),
                "attempts": job.attempts,
                "error": None if job.state is JobState.DONE else job.text,
                "result": job.text if job.state is JobState.DONE else None,
                "sent_as": job.sent_as,
            }
            for job in jobs
        ],
    }
