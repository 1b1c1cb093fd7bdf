"""What `tiercast forget` and `tiercast export` share: finding all that is a customer's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from ..errors import ConfigError
from ..ledger import prepare
from ..ledger.forgetting import Forgetter
from ..ledger.reading import Reader
from ..settings import DEFAULT_SOURCE
from . import output
from .context import Context, Opened
from .group import Failure


def forgetter_of(context: Context, ledger: Opened, source: str | None) -> Forgetter:
    """Who finds a customer in all sources that are known, or in this one.

    Raises:
        Failure: there is no such source.
    """
    known = set(ledger.reader.sources()) | {DEFAULT_SOURCE}
    try:
        known |= set(context.sources)
    except ConfigError as error:
        output.note(f"Without a configuration, only sources that ever delivered are known. {error}")
    if source is not None and source not in known:
        raise Failure(f"There is no source {output.plain(source)}. Known: {', '.join(sorted(known))}.")
    sources = [source] if source else sorted(known)
    digests = prepare(ledger.ledger, context.settings)
    # It sees the ledger alone: what is filed is found in the history itself.
    return Forgetter(ledger.ledger, Reader(ledger.ledger, digests), digests, sources)


@contextmanager
def progress(label: str) -> Iterator[Callable[[int], None]]:
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
