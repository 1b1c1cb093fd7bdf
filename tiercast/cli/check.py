"""`tiercast check`: say what is wrong with the set-up, in the user's words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError, SettingsError
from ..settings import unknown_variables
from . import output
from .checks.finding import Finding, Level, error, ok, warning
from .context import Context, pass_context

if TYPE_CHECKING:
    from ..config.model import Config
    from ..settings import Settings

_MARKS = {
    "ok": ("✓", "+", "green"),
    "warning": ("!", "!", "yellow"),
    "trouble": ("▲", "!!", "red"),
    "error": ("✗", "x", "red"),
}

#: From which level on the exit status is 1.
_FAIL_ON: dict[str, tuple[Level, ...]] = {
    "warning": ("warning", "trouble", "error"),
    "trouble": ("trouble", "error"),
    "error": ("error",),
    "never": (),
}


@click.command()
@click.option("--offline", is_flag=True, help="Only configuration and templates; connect to nothing.")
@click.option("--online", is_flag=True, help="Also ask each vendor whether it takes the action's credential.")
@click.option(
    "--fail-on",
    type=click.Choice(list(_FAIL_ON)),
    default="trouble",
    show_default=True,
    metavar="LEVEL",
    help="Exit with 1 from this level on: warning, trouble, error; or never.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def check(context: Context, offline: bool, online: bool, fail_on: str, as_json: bool) -> None:
    """Say what is wrong with the set-up, and what in it needs a person.

    Looks at settings and configuration; renders its templates for samples of
    every type that its rules name, with null email, null customer and top tier;
    tries a write to the ledger; looks at the spool, dead and uncertain jobs,
    jobs that are on their last attempts, quarantined deliveries, lanes that
    stand still, mail servers, the broker, and queues that no worker hears. With
    --online it also has each vendor prove that it takes the credential, by a
    call that changes nothing.

    \b
      warning  it works, and somebody should know
      trouble  it works, and something needs a person: dead jobs, a paused lane
      error    it does not work

    \b
    Examples:
      tiercast check
      tiercast check --fail-on error
      tiercast check --offline --json
    """
    if offline and online:
        raise click.UsageError("--offline and --online exclude each other.")
    findings = []
    for finding in _findings(context, offline=offline, online=online):
        findings.append(finding)
        if not as_json:
            click.echo(_line(finding))
    levels = Counter(finding.level for finding in findings)
    if as_json:
        output.list_as_json("findings", ({"level": f.level, "about": f.about, "text": f.text} for f in findings))
    else:
        click.echo(_summary(levels))
    if any(levels[level] for level in _FAIL_ON[fail_on]):
        click.get_current_context().exit(1)


def _findings(context: Context, *, offline: bool, online: bool) -> Iterator[Finding]:
    try:
        settings = context.settings
    except SettingsError as fault:
        yield error("settings", str(fault))
        return
    yield from _unknown(context)
    found = context.config_if_any
    config = None if isinstance(found, ConfigError) else found
    if config is None:
        for line in str(found).splitlines():
            yield error("configuration", line)
    else:
        yield from _configuration(config)
    if not offline:
        yield from _surroundings(settings, config)
    if online and config is not None:
        yield from _credentials(config)


def _configuration(config: Config) -> Iterator[Finding]:
    from .checks.paying import check_once
    from .checks.templates import check_templates

    where = config.path or "the built-in demo"
    parts = ((config.sources, "source"), (config.actions, "action"), (config.rules, "rule"))
    counts = ", ".join(f"{len(part)} {word}{'' if len(part) == 1 else 's'}" for part, word in parts)
    yield ok("configuration", f"{where}: {counts}")
    for text in config.warnings:
        yield warning("configuration", text)
    yield from check_templates(config)
    yield from check_once(config)


def _credentials(config: Config) -> Iterator[Finding]:
    from .checks.credentials import check_credentials

    yield from check_credentials(config)


def _unknown(context: Context) -> Iterator[Finding]:
    """Variables of ours that nothing reads are slips: what they were to set is not set."""
    for text in unknown_variables(context.environ):
        yield warning("settings", text)


def _surroundings(settings: Settings, config: Config | None) -> Iterator[Finding]:
    from .checks.ledger import check_ledger
    from .checks.queues import check_queues
    from .checks.servers import check_servers
    from .checks.spool import check_spool

    if settings.spool_dir is not None:
        yield from check_spool(settings.spool_dir)
    yield from check_ledger(settings, config)
    yield from check_queues(settings, config)
    if config is not None:
        yield from check_servers(config)


def _line(finding: Finding) -> str:
    mark, fallback, colour = _MARKS[finding.level]
    shown = click.style(mark if output.can_show(mark) else fallback, fg=colour)
    return f"{shown} {output.plain(finding.about)}: {output.plain(' '.join(finding.text.split()))}"


def _summary(levels: Counter[Level]) -> str:
    words: dict[Level, str] = {"error": "errors", "trouble": "troubles", "warning": "warnings"}
    counts = [f"{n} {level if n == 1 else plural}" for level, plural in words.items() if (n := levels[level])]
    return f"{', '.join(counts)}." if counts else "Nothing is wrong."
