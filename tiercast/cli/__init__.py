"""The command line. Commands stand in modules of their own, which load when they are called."""

from __future__ import annotations

import click

from .. import __version__
from .group import Lazy, LazyGroup

COMMANDS = {
    "up": Lazy("tiercast.up.command:up", "Run everything on this machine."),
    "init": Lazy("tiercast.cli.init:init", "Write a configuration to start from."),
    "trigger": Lazy("tiercast.cli.trigger:trigger", "Post signed sample events."),
    "status": Lazy("tiercast.cli.status:status", "Show how all of it stands."),
    "check": Lazy("tiercast.cli.check:check", "Say what is wrong with the set-up."),
    "verify": Lazy("tiercast.cli.verify:verify", "Say whether and why a signature matches."),
    "deliveries": Lazy("tiercast.cli.deliveries:deliveries", "See and replay what arrived."),
    "jobs": Lazy("tiercast.cli.jobs:jobs", "See, retry, redo, drop and resolve what is owed."),
    "reload": Lazy("tiercast.cli.reload:reload", "Have the workers read their configuration anew."),
    "lanes": Lazy("tiercast.cli.lanes:lanes", "See, pause and resume the queues of owed work."),
    "operations": Lazy("tiercast.cli.operations:operations", "See and cancel bulk requests."),
    "audit": Lazy("tiercast.cli.audit:audit", "See who changed what, and why."),
    "export": Lazy("tiercast.cli.export:export", "Write everything of a customer to a file."),
    "forget": Lazy("tiercast.cli.forget:forget", "Remove a customer from everything that is kept."),
    "history": Lazy("tiercast.cli.history:history", "Look after the database of what was settled."),
    "actions": Lazy("tiercast.cli.actions:actions", "Try one action of the configuration."),
    "kinds": Lazy("tiercast.cli.kinds:kinds", "See which kinds of action there are."),
    "help": Lazy("tiercast.cli.help:help_", "Explain a command: tiercast help jobs retry."),
}


@click.command(cls=LazyGroup, commands_at=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="tiercast", message="%(prog)s %(version)s")
def main() -> None:
    """Turn Voucherify loyalty webhooks into emails, CRM updates and rewards.

    Commands read the same environment variables and configuration file as the
    processes do. Beside a running `tiercast up` they need neither.

    \b
    Examples:
      tiercast trigger
      tiercast jobs list --state dead --since 2h
      tiercast help jobs retry
    """
