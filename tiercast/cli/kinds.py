"""`tiercast kinds`: see which kinds of action there are, and what options each takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import marshmallow
from marshmallow import fields, validate

from .. import conformance
from ..actions import Action, Secret
from ..config.kinds import KindError, find_kinds, load_kind
from . import output
from .group import Failure
from .new_kind import NAME, write_kind
from .output import Column

_COLUMNS = (
    Column(title="KIND"),
    Column(title="REPEATABLE"),
    Column(title="BULK"),
    Column(title="WHAT IT DOES", shrink="end", least=20),
)

#: The width of text.
_WIDTH = 78

_TYPES: tuple[tuple[type[fields.Field[Any]], str], ...] = (
    (Secret, "secret"),
    (fields.Boolean, "yes or no"),
    (fields.Integer, "integer"),
    (fields.Number, "number"),
    (fields.String, "text"),
    (fields.List, "list"),
    (fields.Mapping, "table"),
    (fields.Nested, "table"),
)


@click.group()
def kinds() -> None:
    """See which kinds of action there are, and what options each takes.

    Kinds are built in or come with installed plug-ins (entry point group
    tiercast.actions).

    \b
    Examples:
      tiercast kinds list
      tiercast kinds show email
    """


@kinds.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_(as_json: bool) -> None:
    """List the kinds, each with what it does.

    \b
    Example:
      tiercast kinds list
    """
    found, broken = _load_all()
    if as_json:
        output.list_as_json("kinds", (_summary(name, cls) for name, cls in found.items()))
    else:
        rows = [(name, _yes(cls.repeatable), _yes(cls.is_bulk()), first_line(cls)) for name, cls in found.items()]
        output.print_table(_COLUMNS, rows)
    for name, why in broken.items():
        output.note(f"{name} cannot be loaded: {why}")


@kinds.command()
@click.argument("kind")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(kind: str, as_json: bool) -> None:
    """Show one kind: what it does, and its options.

    KIND is a kind's name, or package.module:ClassName. Every action also takes
    order, once, rate, limit, concurrency, batch, timeout, give_up, attempts,
    backoff, backoff_max and queue.

    \b
    Examples:
      tiercast kinds show hubspot
      tiercast kinds show my_company.stars:GrantStars
    """
    try:
        cls = load_kind(kind)
    except KindError as error:
        text = str(error)
        raise Failure(text[:1].upper() + text[1:]) from None
    options, earned = list(describe_options(cls)), conformance.describe(cls)
    if as_json:
        text = inspect.getdoc(cls) or ""
        output.as_json(_summary(kind, cls) | {"text": text, "options": options, "conformance": earned})
        return
    text = inspect.getdoc(cls) or "It has no description."
    click.echo(click.wrap_text(text, width=_WIDTH, preserve_paragraphs=True))
    click.echo()
    output.print_facts(
        [
            ("repeatable", "yes, performing a job twice is harmless" if cls.repeatable else "no"),
            ("confirm", _confirm(cls)),
            ("bulk", f"yes, up to {cls.max_batch} jobs a call" if cls.is_bulk() else "no"),
            ("level", _level(earned)),
            *((f"left out {check}", why) for check, why in earned["left_out"].items()),
        ]
    )
    formatter = click.HelpFormatter(width=_WIDTH)
    with formatter.section("\nOptions"):
        formatter.write_dl([(option["name"], _in_words(option)) for option in options] or [("none", "")])
    click.echo(formatter.getvalue().rstrip())


@kinds.command()
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path), metavar="DIR", help="Where to; by default tiercast-NAME here.")
def new(name: str, into: Path | None) -> None:
    """Write a package with a kind of your own, its tests and its page.

    NAME is what configurations call it. The package is green from the start:
    a kind that sets properties of a customer, the vendor of its tests, the
    kit, and a page. Change the call to your vendor's.

    \b
    Examples:
      tiercast kinds new stars
      tiercast kinds new loyalty-cards --into ./cards
    """
    if not NAME.fullmatch(name):
        raise click.UsageError("A kind's name is small letters, digits and -, and begins with a letter.")
    folder = into or Path(f"tiercast-{name}")
    try:
        written = write_kind(name, folder)
    except FileExistsError:
        raise Failure(f"{folder} is there already; name another folder with --into.") from None
    except OSError as error:
        raise Failure(f"Cannot write into {folder}: {error.strerror}.") from None
    for path in written:
        click.echo(path)
    output.note(f"Next: cd {folder}, pip install -e ., pytest --record-kinds")


def _load_all() -> tuple[dict[str, type[Action]], dict[str, str]]:
    found, broken = {}, {}
    for name in sorted(find_kinds()):
        try:
            found[name] = load_kind(name)
        except KindError as error:
            broken[name] = str(error)
    return found, broken


def first_line(cls: type[Action]) -> str:
    """What a kind does, in one line."""
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def describe_options(cls: type[Action]) -> Iterator[dict[str, Any]]:
    """A kind's own options: name, type, whether required, default, description."""
    for name, option in cls.Options().fields.items():
        yield {
            "name": option.data_key or name,
            "type": _type(option),
            "required": option.required,
            "default": _default(option),
            "secret": isinstance(option, Secret),
            "description": option.metadata.get("description"),
        }


def _in_words(option: dict[str, Any]) -> str:
    parts = [option["type"] + (", required" if option["required"] else "")]
    if option["default"] is not None:
        parts.append(f"default {option['default']}")
    if option["description"]:
        parts.append(option["description"])
    return "; ".join(parts)


def _type(option: fields.Field[Any]) -> str:
    for validator in option.validators:
        if isinstance(validator, validate.OneOf):
            return "|".join(map(str, validator.choices))
    return next((name for cls, name in _TYPES if isinstance(option, cls)), "any")


def _default(option: fields.Field[Any]) -> Any:
    default = option.load_default
    if default is marshmallow.missing or isinstance(option, Secret):
        return None
    if callable(default):
        # What is made when it loads may come from the environment; an empty table or list is no news.
        return None
    return default if default != "" else None


def _summary(name: str, cls: type[Action]) -> dict[str, Any]:
    return {
        "name": name,
        "description": first_line(cls),
        "repeatable": cls.repeatable,
        "bulk": cls.is_bulk(),
        "confirm": cls.can_confirm(),
    }


def _confirm(cls: type[Action]) -> str | None:
    if cls.repeatable:
        return None
    if cls.can_confirm():
        return "yes, it can find out about an attempt without an answer"
    return "no: an attempt without an answer leaves the job uncertain"


def _level(earned: Mapping[str, Any]) -> str:
    """The level in words: earned by a run of the kit, of this code or of an earlier one."""
    if earned["level"] == "none":
        failed = f" (failed {', '.join(earned['failed'])})" if earned["failed"] else ""
        return f"none; a run of the kit earns one{failed}"
    about = "by a run of the kit" if earned["proved"] else "by its code before the last change; run the kit again"
    return f"{earned['level']}, {about}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
