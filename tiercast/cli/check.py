"""`tiercast check`: say what is wrong with the set-up, in the user's words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError, SettingsError
from . import output
from .checks.finding import Finding, Level, error, ok, warning
from .context import Context, pass_context

if TYPE_CHECKING:
    from ..config.model import Config
    from ..settings import Settings

_MARKS = {"ok": ("✓", "+", "green"), "warning": ("!", "!", "yellow"), "error": ("✗", "x", "red")}


@click.command()
@click.option("--offline", is_flag=True, help="Only configuration and templates; connect to nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def check(context: Context, offline: bool, as_json: bool) -> None:
    """Say what is wrong with the set-up.

    Looks at the configuration; renders its templates for samples of every type
    that its rules name, with null email, null customer and top tier; looks at
    the ledger's settings, lanes that stand still, mail servers, the broker, and
    queues that no worker hears. Exit status 1 if something does not work.

    \b
    Examples:
      tiercast check
      tiercast check --offline --json
    """
    findings = []
    for finding in _findings(context, offline=offline):
        findings.append(finding)
        if not as_json:
            click.echo(_line(finding))
    levels = Counter(finding.level for finding in findings)
    if as_json:
        output.list_as_json("findings", ({"level": f.level, "about": f.about, "text": f.text} for f in findings))
    else:
        click.echo(_summary(levels))
    if levels["error"]:
        click.get_current_context().exit(1)


def _findings(context: Context, *, offline: bool) -> Iterator[Finding]:
    try:
        settings = context.settings
    except SettingsError as fault:
        yield error("settings", str(fault))
        return
    found = context.config_if_any
    config = None if isinstance(found, ConfigError) else found
    if config is None:
        for line in str(found).splitlines():
            yield error("configuration", line)
    else:
        yield from _configuration(config)
    if not offline:
        yield from _surroundings(settings, config)


def _configuration(config: Config) -> Iterator[Finding]:
    from .checks.templates import check_templates

    where = config.path or "the built-in demo"
    parts = ((config.sources, "source"), (config.actions, "action"), (config.rules, "rule"))
    counts = ", ".join(f"{len(part)} {word}{'' if len(part) == 1 else 's'}" for part, word in parts)
    yield ok("configuration", f"{where}: {counts}")
    for text in config.warnings:
        yield warning("configuration", text)
    yield from check_templates(config)


def _surroundings(settings: Settings, config: Config | None) -> Iterator[Finding]:
    from .checks.ledger import check_ledger
    from .checks.queues import check_queues
    from .checks.servers import check_servers

    yield from check_ledger(settings, config)
    yield from check_queues(settings, config)
    if config is not None:
        yield from check_servers(config)


def _line(finding: Finding) -> str:
    mark, fallback, colour = _MARKS[finding.level]
    shown = click.style(mark if output.can_show(mark) else fallback, fg=colour)
    return f"{shown} {output.plain(finding.about)}: {output.plain(' '.join(finding.text.split()))}"


def _summary(levels: Counter[Level]) -> str:
    if not levels["error"] and not levels["warning"]:
        return "Nothing is wrong."
    words: tuple[Level, ...] = ("error", "warning")
    counts = [f"{n} {word}{'' if n == 1 else 's'}" for word in words if (n := levels[word])]
    return f"{' and '.join(counts)}."
