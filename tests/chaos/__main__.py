"""`make chaos`: run the scenarios and print what they came to; status 1 where a promise was broken."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import click

from .audit import Row
from .report import heading, line, markdown, total
from .scenario import CannotBeShown, Scenario
from .scenarios import ALL

_TEXTS = {scenario.name: (scenario.__doc__ or "").splitlines()[0] for scenario in ALL}


@click.command(name="make chaos")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([s.name for s in ALL]),
    help="Run this one; can be repeated. The long ones run only so.",
)
@click.option("--events", default=2400, show_default=True, help="Events in each scenario.")
@click.option("--rate", default=200.0, show_default=True, help="Events a second.")
@click.option("--markdown", "page", type=click.Path(path_type=Path), help="Write the table to this file too.")
@click.option("--keep", is_flag=True, help="Keep the folders with all logs.")
def main(only: tuple[str, ...], events: int, rate: float, page: Path | None, keep: bool) -> None:
    """Kill, freeze and starve real processes under load; count what was lost or doubled."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the processes end with us
    chosen = [one for one in ALL if one.name in only or not (only or one.is_long)]
    click.echo(heading())
    rows: list[Row] = []
    failed = False
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    for scenario in chosen:
        try:
            row = _run(scenario, folder / scenario.name, events, rate)
        except CannotBeShown as error:
            click.echo(f"{scenario.name} was left out: {error}")
            continue
        failed = failed or row is None or not row.kept
        if row is not None:
            rows.append(row)
            if page is not None:
                page.write_text(markdown(rows, _TEXTS), encoding="utf-8")
            click.echo(line(row))
            for text in (*row.notes, *row.broken, *(() if row.kept else row.details)):
                click.echo(f"    {text}")
    click.echo(total(rows))
    if keep or failed:
        click.echo(f"The logs lie in {folder}")
    else:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)


def _run(scenario: type[Scenario], folder: Path, events: int, rate: float) -> Row | None:
    began = time.monotonic()
    try:
        return scenario().run(folder, events=events, rate=rate)
    except CannotBeShown:
        raise
    except Exception:
        click.echo(f"{scenario.name} could not be run ({time.monotonic() - began:.0f} s)")
        traceback.print_exc()
        return None


if __name__ == "__main__":
    main()
