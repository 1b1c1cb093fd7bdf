"""Reading the whole configuration, with every fault told at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from ..actions import Action, FileText, Secret
from ..errors import ConfigError
from ..runner import close
from ..settings import Settings
from .document import Document, check_keys, nearest, read_document, read_text, resolve_secret
from .events import event_warning
from .kinds import KindError, load_kind
from .model import ActionSpec, Config, Limit, Rule
from .ruling import read_rules
from .sources import NAME, NAME_EXPECTED, shared_secrets, sources_of
from .templates import Options, template_defaults
from .wording import expected, inner_field, is_standard, key_of, messages_of, missing

#: Calls, and a time that is not zero.
_RATE = re.compile(r"([1-9][0-9]{0,8})/((?=[0-9.]*[1-9])[0-9]{1,6}(?:\.[0-9]{1,3})?)?(s|sec|min|m|h|d)")
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_RATE_EXPECTED = "expected calls and a time, such as 100/10s, 2000/min or 100/h"

#: A plain option that comes from the environment.
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*")

#: A round of a replay is written like this behind a job's key, so no action may be called so.
_ROUND = re.compile(r"r[0-9]+")


#: Keys whose texts are names from the file or from a fixed set, and so can be shown.
_SHOWN = frozenset({"kind", "order", "once", "limit", "queue"})


def _no_repeats(parts: list[str]) -> None:
    for part in parts:
        if parts.count(part) > 1:
            raise ValidationError(f"names {part} more than once")


class Common(Schema):
    """What every action takes beside its kind's own options; durations are seconds."""

    kind = fields.String(
        required=True, metadata={"description": "a kind's name such as email; `tiercast kinds list` shows them"}
    )
    order = fields.String(validate=validate.OneOf(["latest", "none"]))
    # An empty list undoes what a kind has by default.
    once = fields.List(
        fields.String(validate=validate.OneOf(["customer", "campaign", "tier", "type"])), validate=_no_repeats
    )
    rate = fields.String(validate=validate.Regexp(_RATE, error=_RATE_EXPECTED))
    limit = fields.String()
    concurrency = fields.Integer(strict=True, validate=validate.Range(1, 10_000))
    batch = fields.Integer(strict=True, validate=validate.Range(1, 1000))
    timeout = fields.Float(validate=validate.Range(0.1, 3600))
    attempts = fields.Integer(strict=True, validate=validate.Range(1, 1000))
    give_up = fields.Float(validate=validate.Range(0, 30 * 86400))
    backoff = fields.Float(validate=validate.Range(0, 86400))
    backoff_max = fields.Float(validate=validate.Range(0, 30 * 86400))
    queue = fields.String(validate=validate.Regexp(NAME, error=NAME_EXPECTED))


_COMMON = Common(unknown=RAISE)


def load_config(settings: Settings) -> Config:
    """Read the configuration file (or the demo's, where settings say so) and the kinds that it uses.

    Raises:
        ConfigError: one line for each fault, with the file, the key, and what was expected.
    """
    document = read_document(settings)
    if document is None:
        raise ConfigError(
            f"There is no configuration file {settings.config}. Start from tiercast.example.toml, or name a file with "
            "TIERCAST_CONFIG."
        )
    check_keys(document, "", document.data, ("sources", "limits", "actions", "rules"))
    sources = sources_of(document, settings)
    limits = _limits(document)
    actions = _actions(document, limits)
    rules = tuple(read_rules(document, actions))
    document.raise_faults()
    specs = {name: spec for name, spec in actions.items() if spec is not None}
    return Config(
        path=document.path,
        sources=sources,
        limits=limits,
        actions=specs,
        rules=rules,
        warnings=(*shared_secrets(sources), *_warnings(limits, specs, rules)),
    )


def _warnings(limits: Mapping[str, Limit], actions: Mapping[str, ActionSpec], rules: Sequence[Rule]) -> Iterable[str]:
    """What is allowed, but most likely not meant."""
    used = {name for rule in rules for name in rule.actions}
    yield from (f"actions.{name}: no rule uses it" for name in actions if name not in used)
    limiting = {limit.name for spec in actions.values() for limit in spec.limits}
    yield from (f"limits.{name}: no action uses it" for name in limits if name not in limiting)
    for i, rule in enumerate(rules):
        yield from (f"rules[{i}].on: {text}" for on in rule.on if (text := event_warning(on)))
    if not rules:
        yield "rules: there is none, so every event is ignored"


def _table(document: Document, name: str) -> dict[str, Any]:
    section = document.data.get(name, {})
    if not isinstance(section, dict):
        document.fault(name, f"expected tables, [{name}.NAME]")
        return {}
    good = {}
    for key, value in section.items():
        if not NAME.fullmatch(key):
            document.fault(f"{name}.{key}", f"unusable name; {NAME_EXPECTED}")
        elif not isinstance(value, dict):
            document.fault(f"{name}.{key}", "expected a table")
        else:
            good[key] = value
    return good


def _names(document: Document, name: str) -> Iterable[str]:
    """The names of a section's tables, also of those with faults."""
    section = document.data.get(name, {})
    return section if isinstance(section, dict) else ()


def _limits(document: Document) -> dict[str, Limit]:
    limits = {}
    for name, value in _table(document, "limits").items():
        check_keys(document, f"limits.{name}", value, ("rate",))
        rate = value.get("rate")
        if isinstance(rate, str) and _RATE.fullmatch(rate):
            limits[name] = _limit(name, rate)
        else:
            document.fault(
                f"limits.{name}.rate", _RATE_EXPECTED if "rate" in value else f"is missing; {_RATE_EXPECTED}"
            )
    return limits


def _limit(name: str, rate: str) -> Limit:
    found = _RATE.fullmatch(rate)
    assert found  # noqa: S101 - validated before
    calls, count, unit = found.groups()
    return Limit(name=name, calls=int(calls), seconds=float(count or 1) * _SECONDS[unit])


def _actions(document: Document, limits: Mapping[str, Limit]) -> dict[str, ActionSpec | None]:
    """The actions by name; None for one with faults, so that a rule that names it is not wrong as well."""
    found: dict[str, ActionSpec | None] = {}
    for name, value in _table(document, "actions").items():
        if _ROUND.fullmatch(name):
            document.fault(f"actions.{name}", "a name such as r2 stands for a replay; choose another")
        found[name] = _action(document, name, value, limits)
    return dict.fromkeys(_names(document, "actions")) | found


def _action(document: Document, name: str, value: Mapping[str, Any], limits: Mapping[str, Limit]) -> ActionSpec | None:
    key = f"actions.{name}"
    before = len(document.faults)
    common = {k: v for k, v in value.items() if k in _COMMON.fields}
    try:
        common = _COMMON.load(common)
    except ValidationError as error:
        _note(document, key, _messages(error), _COMMON.fields, ())
    shared = common.get("limit")
    if isinstance(shared, str) and shared not in _names(document, "limits"):
        document.fault(f"{key}.limit", f"there is no [limits.{shared}].{nearest(shared, _names(document, 'limits'))}")
    try:
        cls = load_kind(str(value.get("kind", "")))
    except KindError as error:
        if isinstance(value.get("kind"), str):
            document.fault(f"{key}.kind", str(error))
        return None
    own = {k: v for k, v in value.items() if k not in _COMMON.fields}
    options = _options(document, key, cls, template_defaults(cls.Options()) | own)
    # A limit that has a fault of its own was told there.
    unlimited = "limit" in common and shared not in limits
    if options is None or unlimited or len(document.faults) > before:
        return None
    return _spec(document, name, cls, options, _defaults(cls, common) | common, limits)


def _defaults(cls: type[Action], common: Mapping[str, Any]) -> dict[str, Any]:
    """The kind's own defaults of common options; its rate only where the file names neither rate nor limit."""
    return {name: value for name, value in cls.defaults.items() if name != "rate" or "limit" not in common}


def _spec(
    document: Document,
    name: str,
    cls: type[Action],
    options: Options,
    common: dict[str, Any],
    limits: Mapping[str, Limit],
) -> ActionSpec | None:
    own = [_limit(f"rate:{name}", common["rate"])] if "rate" in common else []
    shared = [limits[common["limit"]]] if "limit" in common else []
    fixed = {k: v for k, v in common.items() if k not in {"kind", "rate", "once"}}
    if fixed.get("order") == "none":
        del fixed["order"]
    spec = ActionSpec(
        name=name,
        kind=cls.kind,
        cls=cls,
        options=options,
        once=tuple(common.get("once", ())),
        limits=(*shared, *own),
        **fixed,
    )
    if spec.backoff > spec.backoff_max:
        document.fault(f"actions.{name}.backoff", f"is longer than backoff_max, which is {spec.backoff_max:g} seconds")
        return None
    try:
        close(spec.make())
    except ValueError as error:
        option, colon, told = str(error).partition(": ")
        named = colon and option in {field.data_key or own for own, field in cls.Options().fields.items()}
        document.fault(f"actions.{name}.{option}" if named else f"actions.{name}", told if named else str(error))
        return None
    except Exception as error:
        # A kind of somebody's own; what it raises may show an option's value.
        document.fault(
            f"actions.{name}", f"its kind {cls.kind} cannot be made with these options: {type(error).__name__}"
        )
        return None
    return spec


def _options(document: Document, key: str, cls: type[Action], found: dict[str, Any]) -> Options | None:
    schema = cls.Options(unknown=RAISE)
    keys = {field.data_key or name: field for name, field in schema.fields.items()}
    taken = sorted(keys.keys() & _COMMON.fields.keys())
    if taken:
        document.fault(f"{key}.kind", f"its Options have {', '.join(taken)}, which every action has; rename them there")
        return None
    base = document.path.parent if document.path else None
    good = dict(found)
    for name, value in found.items():
        if isinstance(keys.get(name), Secret):
            try:
                good[name] = resolve_secret(value, base=base)
            except ValueError as error:
                document.fault(f"{key}.{name}", str(error))
                del good[name]
        elif isinstance(keys.get(name), FileText) and isinstance(value, str):
            try:
                good[name] = read_text(value, base=base)
            except ValueError as error:
                document.fault(f"{key}.{name}", str(error))
                del good[name]
        elif isinstance(keys.get(name), fields.String) and isinstance(value, str) and _REFERENCE.fullmatch(value):
            # An address that differs between staging and production, say. It is no secret, so it may be shown.
            if text := os.environ.get(value.removeprefix("env:"), "").strip():
                good[name] = text
            else:
                document.fault(f"{key}.{name}", f"the environment variable {value.removeprefix('env:')} is not set")
                del good[name]
    hidden = set(found) - set(good)
    try:
        options = Options(schema, good)
    except ValidationError as error:
        messages = {k: v for k, v in _messages(error).items() if k not in hidden}
        _note(document, key, messages, keys, [*keys, *_COMMON.fields])
        return None
    return None if hidden else options


def _messages(error: ValidationError) -> dict[str, Any]:
    """A ValidationError's messages by field."""
    found: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
    return found


def _note(
    document: Document,
    key: str,
    messages: Mapping[str, Any],
    fields_of: Mapping[str, fields.Field[Any]],
    known: Iterable[str],
) -> None:
    """Note marshmallow's messages as faults, in our words."""
    for name, inner in messages.items():
        field, path = _named(fields_of, name)
        for below, one, message in messages_of(inner, field):
            place = key if name == "_schema" else key_of(key, (*path, *below))
            if message == "Unknown field.":
                last = str((*path, *below)[-1])
                hint = nearest(last, known) or f" Known here: {', '.join(sorted(known))}."
                document.fault(place, f"unknown key.{hint}")
            elif message == "Missing data for required field.":
                document.fault(place, missing(one))
            elif one is not None and is_standard(message) and (told := expected(one)):
                document.fault(place, f"expected {told}{_found(document, key, one, (*path, *below))}")
            else:
                document.fault(place, message.rstrip("."))


def _named(
    fields_of: Mapping[str, fields.Field[Any]], name: str
) -> tuple[fields.Field[Any] | None, tuple[str | int, ...]]:
    """The field and the place behind a key such as `headers.X-Tier` or `cc.0`."""
    if name in fields_of:
        return fields_of[name], (name,)
    first, *rest = name.split(".")
    field = fields_of.get(first)
    path: list[str | int] = [first]
    for part in rest:
        path.append(int(part) if isinstance(field, fields.List) and part.isdecimal() else part)
        field = inner_field(field, path[-1])
    return field, tuple(path)


def _found(document: Document, key: str, field: fields.Field[Any], path: tuple[str | int, ...]) -> str:
    """What stands at a place, as far as it can be shown: any other text could be a secret in the wrong place."""
    value: Any = document.data
    for part in (*key.split("."), *path):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return ""
    if isinstance(field, Secret):
        return ""
    if isinstance(value, bool):
        return f"; found {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"; found {value}"
    shown = path[0] in _SHOWN and isinstance(value, str) and len(value) <= 40
    return f"; found {value or 'nothing'}" if shown else ""
