"""`tiercast forget`: remove a customer from everything that Tiercast keeps, and prove it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click

from ..errors import ConfigError
from ..ledger import prepare
from ..ledger.forgetting import Belongings, Forgetter, Rewritten
from ..ledger.model import Forgotten
from ..ledger.spooled import SpoolUnreadable, forget_spooled
from ..settings import DEFAULT_SOURCE
from . import output
from .context import Context, Opened, pass_context
from .group import Failure

#: What no command of ours reaches.
NOT_REACHED = (
    "backups and snapshots of the ledger's data",
    "disks of the ledger's replicas, until they rewrite their own files",
    "the spools of receivers on other machines; what comes from there is dropped when it is processed",
    "logs: actions of kind log write what their template says",
    "the systems that actions called (mail, CRM, webhooks) and Voucherify itself",
)


@dataclass(slots=True, kw_only=True)
class _Report:
    """What became of the request."""

    removed: Forgotten | None = None
    spooled: int = 0
    rewritten: Rewritten | None = None
    left: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@click.command()
@click.argument("customer")
@click.option("--source", metavar="NAME", help="In this source only.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def forget(context: Context, customer: str, source: str | None, yes: bool, as_json: bool) -> None:
    """Remove a customer from everything that Tiercast keeps.

    CUSTOMER is an id, source id or email. Their deliveries go, read or not, with
    all jobs and attempts; what is owed to them is dropped. A tombstone (a keyed
    digest) stays, so that late copies of their events are dropped, too, and so do
    their once places, so that no reward is paid again. Then the ledger's files
    are written anew, and every key is searched for their names.

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
    with context.opened() as ledger:
        forgetter = _forgetter(context, ledger, source)
        with _progress("looking for what is theirs") as step:
            found = forgetter.find(customer, step)
        _confirm(found, yes=yes)
        report = _carry_out(context, forgetter, ledger, found)
        bells = report.removed.bells if report.removed else []
        ledger.operator.ring(bells)
    if as_json:
        output.as_json(_as_dict(found, report))
    else:
        _tell(found, report)
    if report.problems:
        click.get_current_context().exit(1)


def _forgetter(context: Context, ledger: Opened, source: str | None) -> Forgetter:
    known = set(ledger.reader.sources()) | {DEFAULT_SOURCE}
    try:
        known |= set(context.sources)
    except ConfigError as error:
        output.note(f"Without a configuration, only sources that ever delivered are known. {error}")
    if source is not None and source not in known:
        raise Failure(f"There is no source {output.plain(source)}. Known: {', '.join(sorted(known))}.")
    sources = [source] if source else sorted(known)
    return Forgetter(ledger.ledger, ledger.reader, prepare(ledger.ledger, context.settings), sources)


def _confirm(found: Belongings, *, yes: bool) -> None:
    for line in _others(found, "would lose their bodies"):
        output.note(line)
    if len(found.identity.ids) > 1:
        ids = output.plain(", ".join(sorted(found.identity.ids)))
        output.note(f"More than one customer goes by that name, and all of them are forgotten: {ids}.")
    if yes:
        return
    if not output.can_ask():
        raise Failure("Forgetting cannot be undone: give --yes where nobody can answer. Nothing was changed.")
    output.note(f"{_count(found)} of customers {_ids(found)}.")
    if not click.confirm("Forget them? This cannot be undone.", err=True):
        raise Failure("Nothing was changed.")


def _others(found: Belongings, what: str) -> Iterator[str]:
    """Whose deliveries name them, too, and what that means for those."""
    counts = Counter(found.mentions.values())
    if counts:
        whose = ", ".join(f"{output.plain(id)} {number}" for id, number in counts.most_common(_OTHERS))
        more = f" and {len(counts) - _OTHERS} more" if len(counts) > _OTHERS else ""
        deliveries = _plural(len(found.mentions), "delivery", "deliveries")
        yield f"{deliveries} of other customers, which name them, {what}: {whose}{more}."


#: How many other customers are named.
_OTHERS = 20


def _carry_out(context: Context, forgetter: Forgetter, ledger: Opened, found: Belongings) -> _Report:
    report = _Report()
    report.removed = forgetter.remove(found, waiting=lambda jobs: _say_waiting(jobs, ledger.ledger.lease))
    folder = context.settings.spool_dir
    if folder is not None and folder.is_dir():
        try:
            report.spooled = forget_spooled(folder, found.identity, forgetter.sources)
        except SpoolUnreadable as error:
            report.problems.append(str(error))
    output.note("Having the ledger's files written anew ...")
    report.rewritten = forgetter.rewrite()
    with _progress("searching every key for their names") as step:
        report.left = forgetter.prove(found.identity, step)
    report.problems += _problems(report)
    if not report.problems:
        forgetter.complete(found.identity)
    return report


def _problems(report: _Report) -> Iterator[str]:
    removed = report.removed
    if removed and removed.busy:
        yield f"still being performed: {', '.join(removed.busy)}; forget them again when that has ended"
    if removed and removed.needed:
        deliveries = ", ".join(removed.needed)
        yield f"other customers' deliveries name them, and are not settled: {deliveries}; forget them again after that"
    if report.rewritten and not report.rewritten.done:
        yield f"the ledger's files were not written anew ({report.rewritten.why_not}); do it there: BGREWRITEAOF"
    if report.left:
        shown = ", ".join(map(output.plain, report.left[:5]))
        yield f"{len(report.left)} keys still hold one of their names: {shown}"


def _tell(found: Belongings, report: _Report) -> None:
    removed = report.removed
    if removed:
        deliveries, jobs = _plural(removed.deliveries, "delivery", "deliveries"), _plural(removed.jobs, "job", "jobs")
        click.echo(
            f"Removed {deliveries} and {jobs}" + (f", {report.spooled} from the spool." if report.spooled else ".")
        )
        for line in _others(found, "lost their bodies once settled"):
            click.echo(line)
    if not report.left:
        short = " Names too short to search for in any text were compared as ids only." * found.identity.too_short()
        click.echo(f"No key of the ledger's server holds one of their names.{short}")
    click.echo("Late copies of their events are dropped. Not reached:")
    for place in NOT_REACHED:
        click.echo(f"  - {place}")
    for problem in report.problems:
        output.note(f"Not done: {problem}.")


def _as_dict(found: Belongings, report: _Report) -> dict[str, Any]:
    removed = report.removed
    return {
        "customers": sorted(found.identity.ids),
        "deliveries": removed.deliveries if removed else 0,
        "jobs": removed.jobs if removed else 0,
        "others": [{"customer_id": id, "deliveries": n} for id, n in Counter(found.mentions.values()).most_common()],
        "spooled": report.spooled,
        "rewritten": bool(report.rewritten and report.rewritten.done),
        "left": report.left,
        "problems": report.problems,
        "not_reached": list(NOT_REACHED),
    }


def _count(found: Belongings) -> str:
    return f"{_plural(len(found.deliveries), 'delivery', 'deliveries')} with {_plural(found.jobs, 'job', 'jobs')}"


def _ids(found: Belongings) -> str:
    return output.plain(", ".join(sorted(found.identity.ids)) or "without an id")


def _plural(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _say_waiting(jobs: list[str], lease: float) -> None:
    output.note(
        f"{_plural(len(jobs), 'job is', 'jobs are')} being performed right now; waiting up to {lease + 5:g} s ..."
    )


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int], None]]:
    """Tell on standard error how far a scan is, to a person at a terminal."""
    shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if shown:
            click.echo(f"\r{label}: {done}", nl=False, err=True)

    yield step
    if shown:
        click.echo(err=True)
