"""`tiercast forget`: remove a customer from everything that Tiercast keeps, and prove it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..control.forgetting import ForgetReport, Progress, find
from ..control.forgetting import forget as carry_out
from ..ledger import prepare
from ..ledger.forgetting import Belongings, Forgetter
from ..queries.forgetting import FiledBelongings, HistoryForgetter
from . import bulk, output
from .bulk import How, why_option
from .context import Context, Opened, pass_context
from .forgetting import forgetter_of, progress
from .group import Failure

if TYPE_CHECKING:
    from ..history.store import History

#: What no command of ours reaches.
NOT_REACHED = (
    "backups and snapshots of the ledger's data, and of the history",
    "PostgreSQL's write-ahead log, its archive and replicas, where the history is there",
    "disks of the ledger's replicas, until they rewrite their own files",
    "the spools of receivers on other machines; what comes from there is dropped when it is processed",
    "logs: actions of kind log write what their template says",
    "the systems that actions called (mail, CRM, webhooks) and Voucherify itself",
)


@click.command()
@click.argument("customer")
@click.option("--source", metavar="NAME", help="In this source only.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@why_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def forget(context: Context, customer: str, source: str | None, yes: bool, why: str, as_json: bool) -> None:
    """Remove a customer from everything that Tiercast keeps.

    CUSTOMER is an id, source id or email. Their deliveries go, read or not, with
    all jobs and attempts; what is owed to them is dropped. A tombstone (a keyed
    digest) stays, so that late copies of their events are dropped, too, and so do
    their once places, so that no reward is paid again. Then the ledger's files
    are written anew, and every key, and every row of the history, is searched for
    their names.

    Deliveries of other customers that name them (say by a source id that both
    have) keep their record and jobs, and lose their bodies. They are counted by
    customer before you are asked, and once it is done.

    This cannot be undone.

    \b
    Examples:
      tiercast forget cust_8Qm2
      tiercast forget ada@example.com --yes
    """
    customer = customer.strip()
    if not customer:
        raise click.UsageError("Name the customer by id, source id or email.")
    with context.opened() as ledger, context.history() as opened:
        forgetter = forgetter_of(context, ledger, source)
        history = _history_forgetter(context, ledger, forgetter, opened)
        with progress("looking for what is theirs") as step:
            found, filed = find(forgetter, history, customer, step)
        _confirm(found, filed, yes=yes)
        why = bulk.reason(How(dry_run=False, yes=yes, as_json=as_json, why=why), asked=True)
        with progress("searching every key for their names") as step:
            report = carry_out(
                ledger.ledger,
                forgetter,
                found,
                ledger.control.actor,
                history=history,
                filed=filed,
                why=why,
                spool=context.settings.spool_dir,
                progress=Progress(
                    waiting=lambda jobs: _say_waiting(jobs, ledger.ledger.lease),
                    rewriting=lambda: output.note("Having the ledger's files written anew ..."),
                    searching=step,
                ),
            )
        ledger.control.ring(report.removed.bells)
    if as_json:
        output.as_json(_as_dict(found, filed, report))
    else:
        _tell(found, filed, report)
    if report.problems:
        click.get_current_context().exit(1)


def _history_forgetter(
    context: Context, ledger: Opened, forgetter: Forgetter, history: History | None
) -> HistoryForgetter | None:
    if history is None:
        return None
    digests = prepare(ledger.ledger, context.settings)
    projects = ledger.reader.projects(forgetter.sources)
    return HistoryForgetter(history.reading, history.removing, digests, forgetter.sources, projects)


def _confirm(found: Belongings, filed: FiledBelongings, *, yes: bool) -> None:
    for line in _others(found, filed, "would lose their bodies"):
        output.note(line)
    if len(found.identity.ids) > 1:
        ids = output.plain(", ".join(sorted(found.identity.ids)))
        output.note(f"More than one customer goes by that name, and all of them are forgotten: {ids}.")
    if yes:
        return
    if not output.can_ask():
        raise Failure("Forgetting cannot be undone: give --yes where nobody can answer. Nothing was changed.")
    output.note(f"{_count(found, filed)} of customers {_ids(found)}.")
    if not click.confirm("Forget them? This cannot be undone.", err=True):
        raise Failure("Nothing was changed.")


def _mentions(found: Belongings, filed: FiledBelongings) -> Counter[str]:
    """Of how many deliveries of each other customer the bodies go."""
    return Counter((found.mentions | filed.mentions).values())


def _others(found: Belongings, filed: FiledBelongings, what: str) -> Iterator[str]:
    """Whose deliveries name them, too, and what that means for those."""
    counts = _mentions(found, filed)
    if counts:
        whose = ", ".join(f"{output.plain(id)} {number}" for id, number in counts.most_common(_OTHERS))
        more = f" and {len(counts) - _OTHERS} more" if len(counts) > _OTHERS else ""
        deliveries = _plural(counts.total(), "delivery", "deliveries")
        yield f"{deliveries} of other customers, which name them, {what}: {whose}{more}."


#: How many other customers are named.
_OTHERS = 20


def _removed(report: ForgetReport) -> tuple[int, int]:
    """How many deliveries and jobs were removed, from ledger and history."""
    filed = report.filed
    return (
        report.removed.deliveries + (filed.deliveries if filed else 0),
        report.removed.jobs + (filed.jobs if filed else 0),
    )


def _tell(found: Belongings, filed: FiledBelongings, report: ForgetReport) -> None:
    counts = _removed(report)
    deliveries, jobs = _plural(counts[0], "delivery", "deliveries"), _plural(counts[1], "job", "jobs")
    click.echo(f"Removed {deliveries} and {jobs}" + (f", {report.spooled} from the spool." if report.spooled else "."))
    for line in _others(found, filed, "lost their bodies once settled"):
        click.echo(line)
    if not report.left:
        short = " Names too short to search for in any text were compared as ids only." * found.identity.too_short()
        rows = ", and no row of the history," if report.filed else ""
        click.echo(f"No key of the ledger's server{rows} holds one of their names.{short}")
    click.echo("Late copies of their events are dropped. Not reached:")
    for place in NOT_REACHED:
        click.echo(f"  - {place}")
    for problem in report.problems:
        output.note(f"Not done: {output.plain(problem)}.")


def _as_dict(found: Belongings, filed: FiledBelongings, report: ForgetReport) -> dict[str, Any]:
    deliveries, jobs = _removed(report)
    return {
        "customers": sorted(found.identity.ids),
        "deliveries": deliveries,
        "jobs": jobs,
        "others": [{"customer_id": id, "deliveries": n} for id, n in _mentions(found, filed).most_common()],
        "spooled": report.spooled,
        "rewritten": report.rewritten.done,
        "left": report.left,
        "problems": report.problems,
        "not_reached": list(NOT_REACHED),
    }


def _count(found: Belongings, filed: FiledBelongings) -> str:
    deliveries = _plural(len(found.deliveries.keys() | filed.deliveries), "delivery", "deliveries")
    return f"{deliveries} with {_plural(found.jobs + filed.jobs, 'job', 'jobs')}"


def _ids(found: Belongings) -> str:
    return output.plain(", ".join(sorted(found.identity.ids)) or "without an id")


def _plural(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _say_waiting(jobs: list[str], lease: float) -> None:
    output.note(
        f"{_plural(len(jobs), 'job is', 'jobs are')} being performed right now; waiting up to {lease + 5:g} s ..."
    )
