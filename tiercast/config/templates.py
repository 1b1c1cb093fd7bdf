"""The options of an action: what is fixed, and what is rendered for each job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import marshmallow
from jinja2 import TemplateError, meta
from marshmallow import ValidationError, fields

from ..actions import Permanent, Secret, Skip, Values
from ..event import Event
from .fields import unknown_fields
from .sandbox import Sandbox, check_loops, render, view

_MARKS = ("{{", "{%", "{#")

_TEXT = Sandbox(autoescape=False)
_HTML = Sandbox(autoescape=True)

Render = Callable[[dict[str, Any]], Any]


class TemplateFault(ValueError):
    """A template cannot be used; the message says why."""


def is_template(value: object) -> bool:
    """Whether a value, or anything within it, is a template."""
    if isinstance(value, str):
        return any(mark in value for mark in _MARKS)
    if isinstance(value, Mapping):
        return any(is_template(x) for x in value.values())
    return isinstance(value, list) and any(is_template(x) for x in value)


def compile_value(value: object, *, html: bool = False) -> Render:
    """Compile the templates within a value.

    Raises:
        TemplateFault: one of them is wrong.
    """
    if isinstance(value, str):
        return _compile_text(value, html=html) if is_template(value) else lambda _: value
    if isinstance(value, Mapping):
        items = [(name, compile_value(x, html=html)) for name, x in value.items()]
        return lambda event: {name: make(event) for name, make in items}
    if isinstance(value, list):
        makes = [compile_value(x, html=html) for x in value]
        return lambda event: [make(event) for make in makes]
    return lambda _: value


def _compile_text(text: str, *, html: bool) -> Render:
    sandbox = _HTML if html else _TEXT
    try:
        tree = sandbox.parse(text)
        check_loops(tree)
        faults = unknown_fields(tree)
        faults += [f"there is no {name}; templates see event" for name in _unknown_names(tree)]
        if faults:
            raise TemplateFault("; ".join(faults))
        template = sandbox.from_string(text)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        where = f"line {line} of the template: " if line and "\n" in text else ""
        raise TemplateFault(f"{where}{error.message or error}") from None
    return lambda event: render(template, event)


def _unknown_names(tree: Any) -> list[str]:
    known = {"event", *_TEXT.globals}
    return sorted(name for name in meta.find_undeclared_variables(tree) if name not in known)


class Options:
    """The options of one action.

    Args:
        schema: the kind's schema.
        found: the options as the file has them, secrets resolved.

    Attributes:
        raw: what the kind is made with: loaded values, and the text of those that are templates.
    """

    def __init__(self, schema: marshmallow.Schema, found: Mapping[str, Any]) -> None:
        """Load what is fixed and compile what is rendered.

        Raises:
            ValidationError: by option, what is wrong with it.
        """
        by_key = {field.data_key or name: name for name, field in schema.fields.items()}
        self._fields = {name: schema.fields[name] for name in schema.fields}
        self._makes: dict[str, Render] = {}
        faults: dict[str, list[str]] = {}
        for key, value in found.items():
            name = by_key.get(key)
            if name is None or isinstance(schema.fields[name], Secret) or not is_template(value):
                continue
            try:
                self._makes[name] = compile_value(value, html=name == "html" or name.endswith("_html"))
            except TemplateFault as fault:
                faults[key] = [str(fault)]
        fixed = {key: value for key, value in found.items() if by_key.get(key) not in self._makes and key not in faults}
        rendered = {*self._makes, *(by_key[key] for key in faults)}
        try:
            loaded: dict[str, Any] = schema.load(fixed, partial=tuple(rendered), unknown=marshmallow.RAISE)
        except ValidationError as error:
            faults |= error.normalized_messages()  # type: ignore[no-untyped-call]
            loaded = {}
        if faults:
            raise ValidationError(faults)
        self._fixed = {name: value for name, value in loaded.items() if name not in self._makes}
        self.raw = Values(self._fixed | {by_key[key]: found[key] for key in found if by_key[key] in self._makes})
        self.names = tuple(self.raw)

    def render(self, event: Event) -> Values:
        """The options for one event.

        Raises:
            Skip: a required option is empty for this event.
            Permanent: an option cannot be rendered, or what it renders to is not valid.
        """
        if not self._makes:
            return Values(self._fixed)
        seen = view(event)
        values = Values(self._fixed)
        for name, make in self._makes.items():
            values[name] = self._load(name, self._render(name, make, seen))
        return values

    def _render(self, name: str, make: Render, seen: dict[str, Any]) -> Any:
        try:
            return make(seen)
        except Exception as error:
            # Whatever a template meets in an event (a text where it calculates, a time in an odd form) is the
            # template's fault, and no repeat helps. The error's own text may hold a value of the event.
            message = str(error) if isinstance(error, TemplateError) else type(error).__name__
            raise Permanent(f"option {self._key(name)} cannot be rendered: {message}") from None

    def _load(self, name: str, value: Any) -> Any:
        field = self._fields[name]
        if isinstance(value, str) and not value.strip():
            if field.required:
                raise Skip(f"option {self._key(name)} is empty for this event")
            if isinstance(field, fields.String):
                return ""
            default = field.load_default
            return None if default is marshmallow.missing else default() if callable(default) else default
        try:
            return field.deserialize(value, self._key(name))
        except ValidationError as error:
            raise Permanent(f"option {self._key(name)}: {_first(error.messages)}") from None

    def _key(self, name: str) -> str:
        return self._fields[name].data_key or name


def _first(messages: Any) -> str:
    """The first message of a ValidationError, without what was found."""
    while isinstance(messages, (list, dict)):
        messages = next(iter(messages.values() if isinstance(messages, dict) else messages), "not valid")
    return str(messages)
