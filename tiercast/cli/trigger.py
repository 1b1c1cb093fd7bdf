"""`tiercast trigger`: post signed sample events, as Voucherify would."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

import click

from ..config.events import whole_name
from ..errors import ConfigError
from ..event import TIER_EVENTS, Event
from ..settings import DEFAULT_SOURCE
from . import output
from .context import Context, pass_context
from .group import Failure
from .posting import Posted, Sample, UnusableChange, post_all, read_event, samples

if TYPE_CHECKING:
    from ..config.model import Config, Source

#: Where the receiver of `tiercast up` listens.
BASE = "http://127.0.0.1:8080"

#: The most events that get a line each.
_FEW = 5


class EventType(click.ParamType[str]):
    """The name of an event; its last words are enough where one event ends in them."""

    name = "type"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Convert the text of an argument."""
        text = str(value)
        if whole := whole_name(text):
            return whole
        if not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", text):
            self.fail(f"{output.plain(text)!r} is no event type; expected one such as {TIER_EVENTS[0]}.", param, ctx)
        return text


class Change(click.ParamType[tuple[tuple[str, ...], Any]]):
    """`PATH=VALUE`: a path below `data`, and what is to stand there."""

    name = "change"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[str, ...], Any]:
        """Convert the text of an option."""
        if isinstance(value, tuple):
            return value
        path, equals, text = str(value).partition("=")
        first, *names = path.strip().split(".")
        if not equals or first != "data" or not names or not all(names):
            self.fail(
                f"{output.plain(value)!r} is no change; expected a path that begins with data, = and a value, such as "
                "data.customer.metadata.region=de.",
                param,
                ctx,
            )
        try:
            return tuple(names), json.loads(text)
        except ValueError:
            return tuple(names), text


@click.command()
@click.argument("type", metavar="[TYPE]", type=EventType(), required=False)
@click.option("--source", default=DEFAULT_SOURCE, show_default=True, metavar="NAME", help="Post as this source.")
@click.option("--customer", metavar="ID", help="For this customer; by default each event has a new one.")
@click.option("--email", metavar="E", help='The customer\'s email; "" for null.')
@click.option("--tier", metavar="NAME", help="The tier's name.")
@click.option(
    "--set",
    "changes",
    type=Change(),
    multiple=True,
    metavar="PATH=VALUE",
    help="Set what stands at a path, such as data.customer.metadata.region=de; may be repeated.",
)
@click.option("--event", "file", type=click.File("rb"), help="Send this event, an envelope or its data, as JSON.")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 1_000_000), help="How many events.")
@click.option("--raw", is_flag=True, help="Without the envelope, as a Raw payload.")
@click.option("--url", help=f"The webhook's address.  [default: {BASE}/webhooks/SOURCE]")
@click.option("--yes", is_flag=True, help="Do not ask, whatever it causes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def trigger(
    context: Context,
    type: str | None,
    source: str,
    customer: str | None,
    email: str | None,
    tier: str | None,
    changes: tuple[tuple[tuple[str, ...], Any], ...],
    file: IO[bytes] | None,
    count: int,
    raw: bool,
    url: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Post signed sample events, each a new one, as Voucherify would.

    TYPE is customer.loyalty.tier.joined unless you say otherwise; its last words
    will do, such as tier.upgraded or upgraded. Where the configuration reaches
    the outside world, it names the actions that it will cause, and asks.

    A VALUE of --set is JSON where it can be read as such (12, true, null), and
    text otherwise. An event of --event gets a new id; all else stays as it is in
    the file, but for what other options change.

    \b
    Examples:
      tiercast trigger --email you@example.com
      tiercast trigger upgraded --tier "Gold leaf" --customer cust_8Qm2
      tiercast trigger --set data.customer.metadata.region=de
      tiercast trigger --event saved.json --email you@example.com
      tiercast trigger --count 500 --yes
    """
    known = _source(context, source)
    given = read_event(file) if file else None
    named = type or (given and given.type) or (known.event if raw else None) or TIER_EVENTS[0]
    if raw:
        _check_raw(known, named)
    target = url or f"{context.environ.get('TIERCAST_URL', BASE).rstrip('/')}/webhooks/{source}"
    made = _made(
        named, count=count, customer=customer, email=email, tier=tier, raw=raw, url=target, given=given, changes=changes
    )
    if not yes:
        _ask(context, made[0].event(source), count)
    posted = post_all(target, made, known.secrets[0])
    if as_json:
        output.as_json(asdict(posted))
    else:
        _tell(posted, made)
    if posted.accepted < count:
        raise Failure(_advice(posted))


def _made(type: str, **options: Any) -> list[Sample]:
    try:
        return samples(type, **options)
    except UnusableChange as fault:
        raise click.BadParameter(str(fault), param_hint="--set") from None


def _source(context: Context, name: str) -> Source:
    sources = context.sources
    if name not in sources:
        raise ConfigError(
            f"There is no source {output.plain(name)!r}; the configuration has {', '.join(sources) or 'none'}. "
            "Name one with --source."
        )
    return sources[name]


def _check_raw(source: Source, type: str) -> None:
    if source.event is None:
        output.note(
            f"The source {source.name} does not say what a Raw payload means (sources.{source.name}.event), so it "
            "will be quarantined."
        )
    elif source.event != type:
        output.note(f"The source {source.name} reads every Raw payload as {source.event}.")


def _ask(context: Context, event: Event, count: int) -> None:
    """Ask before an effect leaves this machine; where nobody can answer, refuse.

    Raises:
        click.UsageError: there is nobody to ask.
        Failure: the answer was no.
    """
    config = context.config_if_any
    if isinstance(config, ConfigError):
        what = "What this causes is not known, because the configuration cannot be read here"
    else:
        names = outside_actions(config, event)
        if not names:
            return
        what = f"This reaches the outside world: {', '.join(names)}"
    if not output.can_ask():
        raise click.UsageError(f"{what}. Say --yes to do it.")
    times = f" {count} times" if count > 1 else ""
    if not click.confirm(f"{what}{times}. Go on?", err=True):
        raise Failure("Nothing was sent.")


def outside_actions(config: Config, event: Event) -> list[str]:
    """The actions, with their kinds, that this event leads to and whose effect leaves this machine."""
    from ..config.rules import match

    specs = [config.actions[name] for name in match(config, event).actions]
    return [f"{spec.name} ({spec.kind})" for spec in specs if spec.make().outside]


def _tell(posted: Posted, made: list[Sample]) -> None:
    if len(made) <= _FEW:
        for answer in posted.answers:
            click.echo(f"{answer.status}  {answer.ms:.1f} ms  event {answer.event}  delivery {answer.delivery or '-'}")
        if posted.accepted:
            click.echo("See what becomes of it: tiercast jobs list")
        return
    rate = posted.accepted / posted.seconds if posted.seconds else 0
    click.echo(f"{posted.accepted} accepted in {posted.seconds:.1f} s ({rate:.0f} a second).")


def _advice(posted: Posted) -> str:
    """Say what was not accepted, and what to do about it."""
    lines = [f"{number} not accepted: {why}." for why, number in posted.refused.items()]
    hints = {
        "401": "The secret is not the receiver's: see TIERCAST_WEBHOOK_SECRETS, and `tiercast verify`.",
        "404": "The receiver has no such source, or --url is not a webhook's address.",
        "503": "The receiver cannot store: is its ledger there, and not full? See `tiercast check`.",
        "connection refused": "Nothing listens there. Is Tiercast running? Start it with `tiercast up`.",
    }
    return "\n".join(
        lines + [hint for start, hint in hints.items() if any(why.startswith(start) for why in posted.refused)]
    )
