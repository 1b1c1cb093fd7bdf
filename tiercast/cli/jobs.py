"""`tiercast jobs`: see what is owed and what became of it; retry, drop and resolve it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal, cast

import click

from ..ledger.model import Answer, Attempt, JobInfo, JobState
from ..ledger.operating import Operator
from ..ledger.reading import Filter, Reader
from . import bulk, output
from .bulk import Member, Verb
from .choosing import SHOWN, FoundJob, filters, find_jobs, is_empty, jobs_with_events
from .context import Context, pass_context
from .group import Failure
from .output import Column
from .times import age, iso

_COLUMNS = (
    Column(title="JOB", shrink="middle", least=36),
    Column(title="AGE", right=True),
    Column(title="STATE"),
    Column(title="TRIES", right=True),
    Column(title="RESULT OR REASON", shrink="end", least=16),
)

_RETRY = Verb(
    name="retry",
    past="retried",
    noun="job",
    plural="jobs",
    can={JobState.DEAD, JobState.SKIPPED, JobState.SUPERSEDED, JobState.OWED},
)

_DROP = Verb(
    name="drop",
    past="dropped",
    noun="job",
    plural="jobs",
    can={JobState.OWED, JobState.PARKED, JobState.DEAD, JobState.UNCERTAIN},
)


@click.group()
def jobs() -> None:
    """See what is owed and what became of it; retry, drop and resolve it.

    A job is one action owed for one event: SOURCE:EVENT:ACTION. Its states:

    \b
      owed        to be done now, or again later
      parked      waits for another job of its order or once group
      done        has succeeded
      skipped     there was nothing to do
      superseded  a newer event, or the once place, made it needless
      dead        gave up; its error says why
      uncertain   nobody knows whether it happened: resolve it

    \b
    Examples:
      tiercast jobs list --state dead --since 1d
      tiercast jobs retry --state dead --action crm-tier
    """


@jobs.command("list")
@filters(JobState)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: all that match, unless --limit.")
@pass_context
def list_(context: Context, which: Filter, as_json: bool) -> None:
    """List jobs, newest first.

    \b
    Examples:
      tiercast jobs list --customer cust_8Qm2 --json
      tiercast jobs list --state dead --action welcome-email --since 2h
    """
    with context.opened() as ledger:
        if as_json:
            output.list_as_json("jobs", map(as_dict, find_jobs(ledger.reader, which)))
            return
        limit = which.limit or SHOWN
        rows = list(find_jobs(ledger.reader, replace(which, limit=limit + 1)))
    if not rows:
        click.echo(_nothing(which))
        return
    output.print_table(_COLUMNS, (_row(each.info) for each in rows[:limit]))
    if len(rows) > limit:
        output.note(f"{limit} newest shown; --limit N for more.")


@jobs.command()
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def show(context: Context, key: str, as_json: bool) -> None:
    """Show one job with its attempts.

    \b
    Example:
      tiercast jobs show voucherify:evcus_5xYq:welcome-email
    """
    with context.opened() as ledger:
        (found,) = jobs_with_events(ledger.reader, [_existing(ledger.reader, key)])
    info = found.info
    if as_json:
        output.as_json(as_dict(found) | _more(found))
        return
    output.print_facts(_facts(found))
    if info.history:
        click.echo()
        output.print_table(_ATTEMPT_COLUMNS, (_attempt_row(attempt) for attempt in info.history))


_ATTEMPT_COLUMNS = (
    Column(title="TRY", right=True),
    Column(title="STARTED"),
    Column(title="MS", right=True),
    Column(title="OUTCOME"),
    Column(title="RESULT OR ERROR", shrink="end", least=16),
)


@jobs.command()
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@filters(JobState)
@bulk.options
@pass_context
def retry(context: Context, keys: tuple[str, ...], which: Filter, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Try jobs again that were not done.

    Gives dead, skipped and superseded jobs a new set of attempts, and makes an
    owed one due now. Choose jobs by key or by filters; filters without --state
    choose dead jobs.

    \b
    Examples:
      tiercast jobs retry voucherify:evcus_5xYq:welcome-email
      tiercast jobs retry --action crm-tier --since 2h --dry-run
    """
    _bulk(
        context,
        _RETRY,
        (JobState.DEAD,),
        Operator.retry,
        keys=keys,
        which=which,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@jobs.command()
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@filters(JobState)
@bulk.options
@pass_context
def drop(context: Context, keys: tuple[str, ...], which: Filter, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Give jobs up: they become skipped.

    Drops owed, parked, dead and uncertain jobs; one that is being performed is
    left. Choose jobs by key or by filters; filters without --state choose all
    that can be dropped.

    \b
    Examples:
      tiercast jobs drop voucherify:evcus_5xYq:welcome-email
      tiercast jobs drop --action old-campaign --state owed
    """
    _bulk(
        context,
        _DROP,
        (JobState.OWED, JobState.PARKED, JobState.DEAD, JobState.UNCERTAIN),
        Operator.drop,
        keys=keys,
        which=which,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@jobs.command()
@click.argument("key")
@click.argument("as_", metavar="done|retry", type=click.Choice(["done", "retry"]))
@pass_context
def resolve(context: Context, key: str, as_: str) -> None:
    """Decide an uncertain job.

    done: it happened, and is not performed again. retry: it did not happen, and
    is owed again. Find out at the vendor first: its key is the idempotency key.

    \b
    Example:
      tiercast jobs resolve voucherify:evcus_5xYq:grant-points done
    """
    with context.opened() as ledger:
        _existing(ledger.reader, key)
        answer = ledger.operator.resolve(key, cast(Literal["done", "retry"], as_))
    if not answer.done:
        raise Failure(f"Job {output.plain(key)} was not resolved: {answer.text}.")
    click.echo(f"Job {output.plain(key)} is {answer.text} now.")


def _bulk(
    context: Context,
    verb: Verb,
    states: tuple[JobState, ...],
    do: Callable[[Operator, str], Answer],
    *,
    keys: tuple[str, ...],
    which: Filter,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    if keys and not is_empty(which):
        raise click.UsageError("Give keys or filters, not both.")
    if not keys and is_empty(which) and which.limit is None:
        bulk.refuse_everything(verb)
    with context.opened() as ledger:
        reader = ledger.reader
        members = list(_named(reader, keys) if keys else _chosen(reader, which, states))
        bulk.carry_out(
            verb,
            members,
            lambda key: do(ledger.operator, key),
            by_filter=not keys,
            dry_run=dry_run,
            yes=yes,
            as_json=as_json,
        )


def _named(reader: Reader, keys: tuple[str, ...]) -> Iterator[Member]:
    # Bulk verbs start with the last, so that the oldest of a listing comes first.
    for key in reversed(dict.fromkeys(keys)):
        job = reader.job(key)
        yield Member(key, job.state if job else None)


def _chosen(reader: Reader, which: Filter, states: tuple[JobState, ...]) -> Iterator[Member]:
    """Members that match, in any of these states unless the filter names one; newest first in each."""
    left = which.limit
    for state in [which.state] if which.state else states:
        for each in find_jobs(reader, replace(which, state=str(state), limit=left)):
            left = None if left is None else left - 1
            yield Member(each.info.key, each.info.state)
        if left == 0:
            return


def _existing(reader: Reader, key: str) -> JobInfo:
    info = reader.job(key)
    if info is None:
        raise Failure(
            f"There is no job {output.plain(key)}. A key is SOURCE:EVENT:ACTION; "
            "see what there is with `tiercast jobs list`."
        )
    return info


def as_dict(found: FoundJob) -> dict[str, Any]:
    """A job as listings print it."""
    info = found.info
    done = info.state is JobState.DONE
    return {
        "key": info.key,
        "action": info.action,
        "state": str(info.state),
        "attempts": info.attempts,
        "event_id": info.event_id,
        "customer_id": found.customer_id,
        "error": None if done else info.text,
        "result": info.text if done else None,
        "type": found.delivery.type if found.delivery else None,
        "delivery": info.delivery,
        "changed_at": iso(info.changed_ms),
        "due_at": iso(info.due_ms),
        "held": info.held,
    }


def _more(found: FoundJob) -> dict[str, Any]:
    info = found.info
    return {
        "received_at": iso(found.delivery.received_ms) if found.delivery else None,
        "effect_possible": info.maybe,
        "unordered": info.unordered,
        "history": [_attempt_dict(attempt) for attempt in info.history],
    }


def _attempt_dict(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "started_at": iso(attempt.started_ms),
        "duration_ms": attempt.duration_ms,
        "outcome": attempt.outcome,
        "error": None if attempt.outcome == JobState.DONE else attempt.error,
    }


def _attempt_row(attempt: Attempt) -> tuple[object, ...]:
    return (attempt.number, iso(attempt.started_ms), attempt.duration_ms, attempt.outcome, attempt.error)


def _row(info: JobInfo) -> tuple[object, ...]:
    return (info.key, age(info.changed_ms), info.state, info.attempts, info.text)


def _facts(found: FoundJob) -> list[tuple[str, object]]:
    info = found.info
    settled = info.state not in (JobState.OWED, JobState.PARKED)
    due = "being performed" if info.held else None if settled else iso(info.due_ms)
    return [
        ("job", info.key),
        ("action", info.action),
        ("state", info.state),
        ("result" if info.state is JobState.DONE else "reason", info.text),
        ("attempts", info.attempts),
        ("due", due),
        ("changed", iso(info.changed_ms)),
        ("order", "does not apply: the event names no customer" if info.unordered else None),
        ("effect", "possible" if info.maybe else None),
        ("event", info.event_id),
        ("type", found.delivery.type if found.delivery else None),
        ("customer", found.customer_id),
        ("delivery", info.delivery),
    ]


def _nothing(which: Filter) -> str:
    if is_empty(which):
        return "No jobs yet. Send a sample event with `tiercast trigger`; see arrivals with `tiercast deliveries list`."
    return "No job matches. Try fewer filters, or a longer time with --since."
