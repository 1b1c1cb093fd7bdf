"""The group of all commands: loads them when they are called, and turns errors into messages and exit statuses."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import IO, Any, NamedTuple

import click

from ..errors import TiercastError

#: What a shell reports for a process that SIGINT ended.
INTERRUPTED = 130


class Lazy(NamedTuple):
    """A command that is not loaded yet: `module:name`, and its line in the list of commands."""

    target: str
    help: str


class Failure(click.ClickException):
    """An error that is told by its message alone; exit status 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message to standard error."""
        click.echo(self.message, file=file, err=file is None)


class LazyGroup(click.Group):
    """A group whose list of commands is printed without loading one of them."""

    def __init__(self, *args: Any, commands_at: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order in which a newcomer meets them."""
        return [*self.commands_at, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        lazy = self.commands_at.get(cmd_name)
        if lazy is None:
            return super().get_command(ctx, cmd_name)
        module, _, name = lazy.target.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name; the message on a wrong one tells the nearest."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = get_close_matches(name, self.list_commands(ctx), n=1)
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self.commands_at.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with our errors told by their message alone."""
        _bear_any_text()
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except TiercastError as error:
            raise Failure(str(error)) from error
        except (KeyboardInterrupt, click.Abort):
            click.echo(err=True)
            ctx.exit(INTERRUPTED)


def _bear_any_text() -> None:
    """A terminal that cannot show a character shows its code, and the command goes on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(io.UnsupportedOperation, ValueError):
                stream.reconfigure(errors="backslashreplace")
