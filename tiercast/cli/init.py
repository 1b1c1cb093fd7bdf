"""`tiercast init`: write a configuration to start from."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import TiercastError

_START = Path(__file__).with_name("init.toml")


class InitError(TiercastError):
    """The file cannot be written."""


@click.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), default="tiercast.toml")
def init(path: Path) -> None:
    """Write a configuration to start from.

    It is tiercast.toml here, unless you name another. Its actions need no
    account; comments say how to reach a mail server and a vendor. A file that
    exists is never overwritten.

    \b
    Examples:
      tiercast init
      tiercast init staging.toml
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_START.read_text(encoding="utf-8"))
    except FileExistsError:
        raise InitError(f"{path} exists and is left as it is. Name another: tiercast init NAME.toml") from None
    except OSError as error:
        raise InitError(f"{path} cannot be written: {error.strerror}.") from None
    named = "" if path == Path("tiercast.toml") else f" --config {path}"
    click.echo(f"Wrote {path}. Next:")
    click.echo(f"  tiercast up{named}")
    click.echo("  tiercast trigger --email you@example.com     (in another terminal)")
    click.echo("  tiercast check                               (after each change)")
