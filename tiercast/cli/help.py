"""`tiercast help`: explain a command, as its `--help` does."""

from __future__ import annotations

import click

from . import output


@click.command("help")
@click.argument("names", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Explain a command, or list all of them.

    \b
    Examples:
      tiercast help
      tiercast help jobs retry
    """
    above = ctx.parent or ctx
    for name in names:
        group = above.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{above.command_path} has no commands of its own.")
        command = group.get_command(above, name)
        if command is None:
            known = ", ".join(group.list_commands(above))
            raise click.UsageError(f"{above.command_path} has no command {output.plain(name)!r}. It has: {known}.")
        above = click.Context(command, info_name=name, parent=above)
    click.echo(above.get_help(), color=ctx.color)
