"""`tiercast reload`: have the workers read their configuration anew."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..redis_address import place
from . import output
from .bulk import why_option
from .context import Context, pass_context
from .group import Failure

if TYPE_CHECKING:
    from ..control.reloading import Result

#: Seconds that workers have to say that they are there.
_HELLO_SECONDS = 2.0


@click.command()
@click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="How long to wait for the workers.",
)
@why_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def reload(context: Context, timeout: float, why: str, as_json: bool) -> None:
    """Have all workers read their configuration anew, without losing a job.

    Each worker reads the configuration file and the files that it refers to
    (`file:`). Where a worker finds a fault, nothing changes there, and the fault
    is printed. Otherwise it replaces its pool's processes, one by one: each ends
    what it performs, and the next one works by what was read.

    The exit status is 1 if a worker refused or failed, or none answered.

    What a process has from its environment (`env:`, TIERCAST_*) and the code of
    kinds need a restart of the worker. Receivers read the secrets of sources when
    they start, so restart them after those have changed.

    \b
    Examples:
      tiercast reload
      tiercast check && tiercast reload --timeout 60
    """
    from ..control.audit import AuditLog, Note
    from ..control.reloading import Workers
    from ..control.reloading import reload as carry_out

    workers = Workers(context.settings)
    deadline = time.monotonic() + timeout
    names = workers.hello(min(_HELLO_SECONDS, timeout))
    if not names:
        raise Failure(
            f"No worker answered. Is one running, and is its broker the one at {place(context.settings.broker_url)} "
            "(TIERCAST_BROKER_URL)?"
        )
    results: list[Result] = []
    with context.opened() as ledger:
        note = Note(actor=ledger.control.actor, subject=_subject(names), why=why)
        for result in carry_out(workers, names, AuditLog(ledger.ledger), note, deadline):
            results.append(result)
            if not as_json:
                click.echo(_line(result))
    if as_json:
        output.as_json({"workers": [asdict(result) for result in results]})
    failed = sum(not result.ok for result in results)
    if failed:
        raise Failure(f"{failed} of {len(results)} workers did not reload.")


def _line(result: Result) -> str:
    first, *more = (output.plain(line) for line in result.text.splitlines() or [""])
    return "\n".join([f"{output.plain(result.worker)}  {first}", *(f"  {line}" for line in more)])


def _subject(names: list[str]) -> str:
    """The workers that were told, as many as can be read."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


#: How many workers the audit log names.
_NAMED = 10
