"""`tiercast actions`: try one action of the configuration, right here."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator
from difflib import get_close_matches
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import click

from ..actions import Done, Halt, Job, Permanent, RetryLater, Secret, Skip, Unknown, Values
from ..event import TIER_EVENTS, Event, Json, data_of, is_envelope, json_text
from ..faults import fault_text
from ..runner import ActionRunner
from ..samples import sample_event
from ..settings import DEFAULT_SOURCE
from . import output
from .context import Context, pass_context
from .group import Failure

if TYPE_CHECKING:
    from ..config.model import ActionSpec, Config
    from ..testing.vendors import FakeVendor

#: The most characters that are shown of an option.
_SHOWN = 60


class Result(NamedTuple):
    """How a test ended: the state that the job would have, in words why, and what to do about it."""

    outcome: str
    text: str | None
    seconds: float


@click.group()
def actions() -> None:
    """Try one action of the configuration.

    \b
    Example:
      tiercast actions test welcome-email
    """


@actions.command()
@click.argument("name")
@click.option("--event", "file", type=click.File("rb"), help="An event to use: an envelope or its data, as JSON.")
@click.option("--type", metavar="TYPE", help="The event's type, where the file does not say.")
@click.option("--against", type=click.Choice(["fake"]), help="Call a vendor that runs on this machine, for this test.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def test(
    context: Context,
    name: str,
    file: IO[bytes] | None,
    type: str | None,
    against: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Perform one action once, right here, with a sample event.

    It goes past the ledger: nothing is recorded, and nothing is tried again.
    The job's key is test:EVENT:ACTION. An action whose effect leaves this
    machine is performed only when you agree.

    --against fake calls no vendor but a program that behaves as the vendor does.
    It shows what was sent and what the vendor would have by then. It accepts
    whatever the configuration names: campaigns, customers and properties that
    the real vendor may lack.

    \b
    Examples:
      tiercast actions test welcome-email
      tiercast actions test crm-tier --against fake
      tiercast actions test crm-tier --event body.json --yes
    """
    config = context.config
    spec = _find(config, name)
    event = _read_event(config, spec, file, type)
    result = _try_fake(spec, event) if against else _try(spec, event, yes=yes)
    if as_json:
        output.as_json({"key": _key(spec, event)} | result._asdict())
    else:
        click.echo(
            f"{result.outcome} in {result.seconds:.2f} s" + (f": {output.plain(result.text)}" if result.text else "")
        )
    if result.outcome != "done":
        click.get_current_context().exit(1)


def _find(config: Config, name: str) -> ActionSpec:
    spec = config.actions.get(name)
    if spec is None:
        near = get_close_matches(name, config.actions, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"It has: {', '.join(config.actions) or 'none'}."
        raise Failure(f"The configuration has no action {output.plain(name)}. {hint}")
    return spec


def _read_event(config: Config, spec: ActionSpec, file: IO[bytes] | None, type: str | None) -> Event:
    source = DEFAULT_SOURCE if DEFAULT_SOURCE in config.sources else next(iter(config.sources), DEFAULT_SOURCE)
    if file is None:
        return sample_event(type or _type_for(config, spec), source=source)
    try:
        document = json.loads(json_text(file.read()))
        if not isinstance(document, dict):
            raise ValueError("it holds no object")
        return _event_of(document, type or _type_for(config, spec), source)
    except (ValueError, RecursionError) as error:
        raise Failure(f"Cannot read an event from {file.name}: {error or 'it is nested too deeply'}.") from None


def _event_of(document: Json, type: str, source: str) -> Event:
    fact = document.get("event") if is_envelope(document) else None
    fact = fact if isinstance(fact, dict) else {}
    return sample_event(
        str(fact.get("type") or type),
        id=str(fact["id"]) if fact.get("id") else None,
        source=source,
        data=data_of(document),
    )


def _type_for(config: Config, spec: ActionSpec) -> str:
    """A type that leads to this action: the first that a rule names, or the first tier event."""
    patterns = [pattern for rule in config.rules if spec.name in rule.actions for pattern in rule.on]
    for pattern in patterns:
        if "*" not in pattern:
            return pattern
    return TIER_EVENTS[0]


def _try(spec: ActionSpec, event: Event, *, yes: bool) -> Result:
    runner = ActionRunner(spec.make())
    action = runner.action
    try:
        options = spec.render(event, _key(spec, event))
        _say(spec, event, options)
        if action.outside and not yes:
            _ask(spec)
        job = Job(key=_key(spec, event), event=event, attempt=1, options=options, timeout=spec.timeout)
        return _perform(runner, job)
    except Skip as skip:
        return Result("skipped", str(skip), 0.0)
    except Permanent as dead:
        return Result("dead", str(dead), 0.0)
    finally:
        runner.close()


def _try_fake(spec: ActionSpec, event: Event) -> Result:
    """Perform it against the kind's fake vendor, and show what that was sent and has."""
    if not spec.cls.fake:
        raise Failure(f"The kind {spec.kind} has no fake vendor. Leave --against out to call the real one.")
    module, _, name = spec.cls.fake.partition(":")
    # aiohttp's server is loaded for this only.
    fake: type[FakeVendor] = getattr(importlib.import_module(module), name)
    with fake(limits={}) as vendor:
        options = spec.options.raw | vendor.options()
        runner = ActionRunner(spec.cls(spec.name, options, timeout=spec.timeout))
        try:
            rendered = Values(spec.render(event, _key(spec, event)) | vendor.options())
            vendor.prepare(rendered, event)
            _say(spec, event, rendered)
            job = Job(key=_key(spec, event), event=event, attempt=1, options=rendered, timeout=spec.timeout)
            result = _perform(runner, job)
        except Skip as skip:
            return Result("skipped", str(skip), 0.0)
        except Permanent as dead:
            return Result("dead", str(dead), 0.0)
        finally:
            runner.close()
        _say_calls(vendor)
        return result


def _say_calls(vendor: FakeVendor) -> None:
    """Say what the vendor was sent, and what it has by now."""
    for request in vendor.requests:
        output.note(f"  sent: {request.method} {output.plain(request.path)}")
        if request.body:
            output.note(f"        {output.plain(request.body.decode('utf-8', 'replace'))}")
    output.note(f"  {vendor.name} has: {output.plain(json.dumps(vendor.effects(), ensure_ascii=False))}")


def _key(spec: ActionSpec, event: Event) -> str:
    return f"test:{event.id}:{spec.name}"


def _ask(spec: ActionSpec) -> None:
    what = f"{spec.name} ({spec.kind}) reaches the outside world"
    if not output.can_ask():
        raise click.UsageError(f"{what}. Say --yes to do it.")
    if not click.confirm(f"{what}. Perform it?", err=True):
        raise Failure("Nothing was done.")


def _perform(runner: ActionRunner, job: Job) -> Result:
    begun = time.perf_counter()
    try:
        text = _once(runner, job)
        outcome = "done"
    except Exception as error:
        outcome = _outcome(error)
        # A bug of the kind's own: its text may quote the customer's data.
        text = str(error) or type(error).__name__ if isinstance(error, _ANSWERS) else f"a bug: {fault_text(error)}"
    return Result(outcome, text, round(time.perf_counter() - begun, 3))


def _once(runner: ActionRunner, job: Job) -> str | None:
    if not runner.action.is_bulk():
        return _text(runner.perform(job))
    for _, outcome in runner.perform_many([job]):
        if isinstance(outcome, Exception):
            raise outcome
        return _text(outcome)
    raise RetryLater("the bulk call left the job out")


def _text(done: str | Done | None) -> str | None:
    return None if done is None else str(done)


#: What a kind raises on purpose, with a text for people.
_ANSWERS = (Permanent, Skip, Halt, RetryLater, Unknown)


def _outcome(error: Exception) -> str:
    """What a worker would make of it."""
    named: tuple[tuple[type[Exception], str], ...] = (
        (Skip, "skipped"),
        (Permanent, "dead"),
        (Halt, "the action would stop"),
        (Unknown, "unknown"),
    )
    return next((word for cls, word in named if isinstance(error, cls)), "later")


def _say(spec: ActionSpec, event: Event, options: Values) -> None:
    """Say what will be done, with the options as they were rendered; secrets stay hidden."""
    output.note(f"{spec.name} ({spec.kind}), for a {event.type} event:")
    for name, value in _shown(spec, options):
        output.note(f"  {name} = {output.cut(output.plain(value), _SHOWN, ellipsis='...')}")


def _shown(spec: ActionSpec, options: Values) -> Iterator[tuple[str, Any]]:
    declared = spec.cls.Options().fields
    for name, value in options.items():
        option = declared.get(name)
        if value in (None, "", {}, []):
            continue
        shown = "(secret)" if isinstance(option, Secret) else value
        yield (option.data_key or name) if option else name, shown
