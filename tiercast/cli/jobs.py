"""`tiercast jobs`: see what is owed and what became of it; retry, redo, drop and resolve it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import click

from ..control.verbs import BULK_MAX_MEMBERS, DROP, REDO, RESOLVE_DONE, RESOLVE_RETRY, RETRY, Verb
from ..ledger import keys
from ..ledger.model import Attempt, JobInfo, JobState
from ..ledger.reading import Filter, FoundJob, Reader
from ..ledger.states import listed
from . import bulk, operating, output, waiting
from .bulk import ByAction, How, Member
from .choosing import SHOWN, filters, find_jobs, is_empty, one_job
from .context import Context, pass_context
from .group import Failure
from .output import Column
from .paying import actions_that_pay, pays_again
from .times import age, iso

_COLUMNS = (
    Column(title="KEY", shrink="own-line"),
    Column(title="AGE", right=True),
    Column(title="STATE"),
    Column(title="ATTEMPTS", right=True),
    Column(title="RESULT OR ERROR", shrink="end", least=16),
)


@click.group(
    help=f"""See what is owed and what became of it; retry, redo, drop and resolve it.

A job is one action owed for one event. Its key is SOURCE:EVENT:ACTION, and
wherever one is asked for, a part of it will do that no other key has. Its
states:

\b
{listed(JobState)}

\b
Examples:
  tiercast jobs list --state dead --since 1d
  tiercast jobs show evcus_5xYq:welcome
  tiercast jobs retry --state dead --action crm-tier
"""
)
def jobs() -> None:
    """See what is owed and what became of it."""


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
    """Show one job with its attempts, what it waits for, and its key at the vendor.

    \b
      sent as    the idempotency key that the vendor got; with `once` it is not
                 the job's own key. Look for this one there.
      waits for  why an owed or parked job does not start

    KEY is the job's key, a part that no other has, or a key that a vendor got.

    \b
    Example:
      tiercast jobs show voucherify:evcus_5xYq:welcome-email
    """
    with context.opened() as ledger:
        info = next(ledger.reader.jobs_by_key([one_job(ledger.reader, key)]), None)
        if info is None:
            raise Failure(f"Job {output.plain(key)} has just left the ledger.")
        (found,) = ledger.reader.jobs_with_events([info])
        waits = waiting.waits_of(context, ledger.reader, info)
    if as_json:
        output.as_json(as_dict(found) | _more(found) | {"waits_for": [waiting.as_dict(*each) for each in waits]})
        return
    output.print_facts(_facts(found, [text for _, text in waits]))
    if info.history:
        click.echo()
        output.print_table(_ATTEMPT_COLUMNS, (_attempt_row(attempt) for attempt in info.history))


_ATTEMPT_COLUMNS = (
    Column(title="NUMBER", right=True),
    Column(title="STARTED_AT"),
    Column(title="MS", right=True),
    Column(title="OUTCOME"),
    Column(title="RESULT OR ERROR", shrink="end", least=16),
)


def _bulk_command(verb: Verb, text: str) -> None:
    """Add a command that carries a verb out for the jobs that keys or filters choose."""

    @jobs.command(verb.name, help=text)
    @click.argument("keys", metavar="[KEY]...", nargs=-1)
    @filters(JobState)
    @bulk.options
    @pass_context
    def command(context: Context, keys: tuple[str, ...], which: Filter, how: How) -> None:
        _bulk(context, verb, keys=keys, which=which, how=how)


_bulk_command(
    RETRY,
    """Try jobs again that were not done.

    Gives dead, skipped and superseded jobs a new set of attempts, and makes an
    owed one due now. Choose jobs by key or by filters; filters without --state
    choose the dead ones. A job that is done is done again by `redo`.

    \b
    Examples:
      tiercast jobs retry voucherify:evcus_5xYq:welcome-email
      tiercast jobs retry --state dead --since 2h --dry-run
    """,
)

_bulk_command(
    REDO,
    """Do jobs again that are done.

    Each is done as a new job beside the first, with a key that ends in :r2, :r3.
    Nothing else of its event is touched. Choose jobs by key or by filters.

    A kind that is not repeatable pays again; so by filters its jobs are left out
    unless you name the action with --action. Filters choose jobs that were never
    done again; name the last round's key to do it once more.

    \b
    Examples:
      tiercast jobs redo voucherify:evcus_5xYq:welcome-email
      tiercast jobs redo --action welcome-email --since 2h --dry-run
    """,
)

_bulk_command(
    DROP,
    """Give jobs up: they become skipped.

    Drops owed, parked, dead and uncertain jobs; one that is being performed is
    left. Choose jobs by key or by filters; filters without --state choose all
    that can be dropped.

    \b
    Examples:
      tiercast jobs drop voucherify:evcus_5xYq:welcome-email
      tiercast jobs drop --action old-campaign --state owed
    """,
)


@jobs.command()
@click.argument("keys_and_decision", metavar="[KEY]... done|retry", nargs=-1, required=True)
@filters(JobState)
@bulk.options
@pass_context
def resolve(context: Context, keys_and_decision: tuple[str, ...], which: Filter, how: How) -> None:
    """Decide uncertain jobs.

    done: it happened, and is not performed again. retry: it did not happen, and
    is owed again. Find out at the vendor first: look there for what `jobs show`
    names as `sent as`. Choose jobs by key or by filters.

    \b
    Examples:
      tiercast jobs resolve voucherify:evcus_5xYq:grant-points done
      tiercast jobs resolve --action grant-points --since 2h retry
    """
    *named, decision = keys_and_decision
    if decision not in ("done", "retry"):
        raise click.UsageError(f"Say last what became of it: done or retry, not {output.plain(decision)!r}.")
    verb = RESOLVE_DONE if decision == "done" else RESOLVE_RETRY
    if len(named) == 1 and not how.dry_run and not how.as_json and not how.is_operation:
        _resolve_one(context, named[0], verb, how)
        return
    _bulk(context, verb, keys=tuple(named), which=which, how=how)


def _resolve_one(context: Context, text: str, verb: Verb, how: How) -> None:
    with context.opened() as ledger:
        key = one_job(ledger.reader, text)
        info = ledger.reader.job(key)
        why = bulk.reason(how, asked=info is not None and info.state is JobState.UNCERTAIN)
        answer = ledger.control.change(verb, key, why=why)
    if not answer.done:
        raise Failure(f"Job {output.plain(key)} was not resolved: {answer.text}.")
    sent = f" The vendor knows it as {output.plain(info.sent_as)}." if info and info.sent_as != key else ""
    click.echo(f"Job {output.plain(key)} is {answer.text} now.{sent}")


def _bulk(context: Context, verb: Verb, *, keys: tuple[str, ...], which: Filter, how: How) -> None:
    if keys and not is_empty(which):
        raise click.UsageError("Give keys or filters, not both.")
    if not keys and is_empty(which) and which.limit is None:
        bulk.refuse_everything(verb)
    with context.opened() as ledger:
        reader = ledger.reader
        subject = "" if keys else reader.in_words(_meant(which, verb), "jobs")
        chosen = _named(reader, keys) if keys else _chosen(reader, which, verb.chooses)
        if not keys and which.limit is None:
            first = list(islice(chosen, BULK_MAX_MEMBERS + 1))
            if len(first) > BULK_MAX_MEMBERS or how.is_operation:
                skip = actions_that_pay(context) if verb is REDO and which.action is None else ()
                request = operating.request(verb, how, which=which, subject=subject, skip=skip)
                pays = pays_again(context) if verb is REDO else lambda _: False
                operating.begin(context, ledger, request, how, pays=pays)
                return
            chosen = iter(first)
        actions = ByAction()
        if verb is REDO:
            chosen = _again(context, chosen, actions, named=bool(keys) or which.action is not None, by_key=bool(keys))
        members = list(chosen)
        if how.is_operation:
            operating.begin(context, ledger, operating.of_names(verb, how, members, subject=subject), how)
            return
        if verb is not REDO:
            actions.counts.update(_action(member.name) for member in members if member.state in verb.can)
        if verb.chooses == (JobState.UNCERTAIN,) and not how.yes and not how.as_json:
            _say_where_to_look(reader, members)
        bulk.carry_out(
            ledger.control,
            verb,
            members,
            by_filter=not keys,
            how=how,
            subject=subject,
            actions=actions,
        )


def _meant(which: Filter, verb: Verb) -> Filter:
    """The filter with the state that a verb means where none is named, if it is one."""
    return replace(which, state=str(verb.chooses[0])) if which.state is None and len(verb.chooses) == 1 else which


def _say_where_to_look(reader: Reader, members: Sequence[Member]) -> None:
    """Before uncertain jobs are decided: under which keys the vendor has them."""
    uncertain = [member.name for member in members if member.state == JobState.UNCERTAIN]
    if uncertain:
        output.note("The vendor knows them as:")
    for info in reader.jobs_by_key(uncertain[:_SHOWN_KEYS]):
        output.note(f"  {output.plain(info.sent_as)}")
    if len(uncertain) > _SHOWN_KEYS:
        output.note(f"  and {len(uncertain) - _SHOWN_KEYS} more; see `sent_as` in tiercast jobs list --json")


#: How many keys are shown that a vendor knows jobs by.
_SHOWN_KEYS = 20


def _again(
    context: Context, chosen: Iterator[Member], actions: ByAction, *, named: bool, by_key: bool
) -> Iterator[Member]:
    """Leave out what pays again and nobody named, and by filter also what was done again before."""
    pays = pays_again(context)
    for member in chosen:
        action = _action(member.name)
        done = member.state == JobState.DONE
        if not by_key and keys.round_of(member.name) > 1:
            continue
        if done and pays(action) and not named:
            actions.left_out[action] += 1
            continue
        if done:
            actions.counts[action] += 1
            actions.pays |= {action} if pays(action) else set()
        yield member


def _action(key: str) -> str:
    return keys.parts_of(key)[2]


def _named(reader: Reader, names: tuple[str, ...]) -> Iterator[Member]:
    # Bulk verbs start with the last, so that the oldest of a listing comes first.
    for name in reversed(dict.fromkeys(names)):
        try:
            key = one_job(reader, name)
        except Failure as failure:
            if len(names) == 1 or "\n" in failure.message:
                raise
            yield Member(name, None)
            continue
        job = reader.job(key)
        yield Member(key, job.state if job else None)


def _chosen(reader: Reader, which: Filter, states: tuple[JobState, ...]) -> Iterator[Member]:
    """Members that match, in any of these states unless the filter names one; newest first in each."""
    left = which.limit
    for state in [which.state] if which.state else states:
        for info in reader.jobs(replace(which, state=str(state), limit=left)):
            left = None if left is None else left - 1
            yield Member(info.key, info.state)
        if left == 0:
            return


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
        "sent_as": info.sent_as,
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
        "effect_possible": info.effect_possible,
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


def _facts(found: FoundJob, waits: list[str]) -> list[tuple[str, object]]:
    info = found.info
    due = "being performed" if info.held else None if info.state.final else iso(info.due_ms)
    return [
        ("key", info.key),
        ("sent as", info.sent_as),
        ("action", info.action),
        ("state", info.state),
        ("result" if info.state is JobState.DONE else "error", info.text),
        *(("waits for", text) for text in waits),
        ("attempts", info.attempts),
        ("due", due),
        ("changed", iso(info.changed_ms)),
        ("order", "does not apply: the event names no customer" if info.unordered else None),
        ("effect", "possible" if info.effect_possible else None),
        ("event", info.event_id),
        ("type", found.delivery.type if found.delivery else None),
        ("customer", found.customer_id),
        ("delivery", info.delivery),
    ]


def _nothing(which: Filter) -> str:
    if is_empty(which):
        return "No jobs yet. Send a sample event with `tiercast trigger`; see arrivals with `tiercast deliveries list`."
    return "No job matches. Try fewer filters, or a longer time with --since."
