"""`tiercast export`: everything of one customer in a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from . import output
from .bulk import why_option
from .context import Context, pass_context
from .forgetting import forgetter_of, progress


@click.command()
@click.argument("customer")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.zip",
    help="The file to write.  [default: tiercast-export-TIME.zip here]",
)
@click.option("--source", metavar="NAME", help="In this source only.")
@why_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def export(context: Context, customer: str, out: Path | None, source: str | None, why: str, as_json: bool) -> None:
    """Write everything of one customer to a zip file, as JSON Lines.

    CUSTOMER is an id, source id or email. The file holds their deliveries with
    bodies, jobs with attempts, the places of what is done once, what waits in
    this machine's spool, and a README that explains it: an answer to a request
    for access (GDPR article 15) or for a copy to take along (article 20).

    The file can be read by you only. One that is there already is not replaced.

    \b
    Examples:
      tiercast export ada@example.com
      tiercast export cust_8Qm2 --out ada.zip --why "request of 12 May"
    """
    from ..control.exporting import export as carry_out
    from ..ledger import prepare
    from ..ledger.reading import Reader

    customer = customer.strip()
    if not customer:
        raise click.UsageError("Name the customer by id, source id or email.")
    path = out or Path(f"tiercast-export-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.zip")
    with context.opened() as ledger, context.history() as history:
        forgetter = forgetter_of(context, ledger, source)
        with progress("looking for what is theirs") as step:
            found = forgetter.find(customer, step)
        # What is filed is read from the history itself.
        reader = Reader(ledger.ledger, prepare(ledger.ledger, context.settings))
        done = carry_out(
            ledger.ledger, reader, forgetter, found, ledger.control.actor, path, why=why,
            spool=context.settings.spool_dir, history=history.reading if history else None,
        )  # fmt: skip
    if as_json:
        numbers = {
            name: getattr(done, name) for name in ("deliveries", "jobs", "places", "spooled", "audit", "mentions")
        }
        output.as_json({"file": str(path), "customers": sorted(found.identity.ids)} | numbers)
        return
    click.echo(f"Wrote {path}: {done.deliveries} deliveries with {done.jobs} jobs. It holds personal data.")
    if len(found.identity.ids) > 1:
        output.note(f"More than one customer goes by that name: {output.plain(', '.join(sorted(found.identity.ids)))}.")
