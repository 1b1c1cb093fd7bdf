"""What `tiercast up` says to its terminal."""

from __future__ import annotations

import os
import sys

import click


def say(text: str = "", *, err: bool = False) -> None:
    """Print a line. A terminal that has been closed, or a pipe whose reader is gone, stops nothing."""
    stream = sys.stderr if err else sys.stdout
    try:
        click.echo(text, err=err)
    except (OSError, ValueError):
        # What is still buffered would fail once more when Python ends.
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass
