"""The options of an action: what is fixed, and what is rendered for each job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import marshmallow
from marshmallow import ValidationError, fields

from ..actions import Permanent, Secret, Skip, Values
from ..event import Event
from .sandbox import Refused, Template, TemplateFault, View, view_of

_MARKS = ("{{", "{%", "{#")

#: Makes a value for an event and a job's key; raises Permanent with the place of a template that fails.
Make = Callable[[View, str], Any]


def is_template(value: object) -> bool:
    """Whether a value, or anything within it, is a template."""
    if isinstance(value, str):
        return any(mark in value for mark in _MARKS)
    if isinstance(value, Mapping):
        return any(is_template(inner) for inner in value.values())
    return isinstance(value, list) and any(is_template(inner) for inner in value)


def template_defaults(schema: marshmallow.Schema) -> dict[str, Any]:
    """Defaults of options that are templates: they are rendered like what a file holds."""
    defaults = {
        field.data_key or name: field.load_default() if callable(field.load_default) else field.load_default
        for name, field in schema.fields.items()
    }
    return {key: value for key, value in defaults.items() if is_template(value)}


@dataclass(frozen=True, slots=True)
class _Rendered:
    """An option that holds templates."""

    key: str
    field: fields.Field[Any]
    make: Make

    def load(self, view: View, key: str) -> Any:
        """Its value for one event and a job's key; raises Skip or Permanent."""
        value = self.make(view, key)
        if _is_empty(value):
            if self.field.required:
                raise Skip(f"option {self.key} is empty for this event")
            if isinstance(value, str):
                return self._nothing()
        try:
            return self.field.deserialize(value, self.key)
        except ValidationError as error:
            raise Permanent(f"option {self.key}: {_told(error.messages, value)}") from None
        except Exception as error:
            # A field of a kind's own; the error's text could hold a value of the event.
            raise Permanent(f"option {self.key} is refused by its kind ({type(error).__name__})") from None

    def _nothing(self) -> Any:
        """What an option is that rendered empty and need not be there: empty text, or else its default."""
        if isinstance(self.field, fields.String):
            try:
                return self.field.deserialize("", self.key)
            except ValidationError:
                pass  # An address, for instance, cannot be empty.
        default = self.field.load_default
        return None if default is marshmallow.missing else default() if callable(default) else default


class Options:
    """The options of one action.

    Args:
        schema: the kind's schema.
        found: the options as the file has them, secrets resolved.

    Attributes:
        raw: what the kind is made with: loaded values, and the text of those that are templates.
        names: of all options, as the kind calls them.
    """

    def __init__(self, schema: marshmallow.Schema, found: Mapping[str, Any]) -> None:
        """Load what is fixed and compile what is rendered.

        Raises:
            ValidationError: by option, what is wrong with it.
        """
        by_key = {field.data_key or name: name for name, field in schema.fields.items()}
        rendered: dict[str, _Rendered] = {}
        faults: dict[str, list[str]] = {}
        for key, value in found.items():
            name = by_key.get(key)
            if name is None or isinstance(schema.fields[name], Secret) or not is_template(value):
                continue
            field = schema.fields[name]
            if not getattr(field, "templates", True):
                faults[key] = ["takes no template: an event could choose who gets the credential"]
                continue
            wrong = {**_compile_faults(key, value), **_shape_faults(key, field, value)}
            faults.update(wrong)
            rendered[name] = _Rendered(key, field, _none if wrong else _compile(key, value, html=_is_html(key)))
        fixed = {key: value for key, value in found.items() if by_key.get(key) not in rendered}
        try:
            loaded: dict[str, Any] = schema.load(fixed, partial=tuple(rendered), unknown=marshmallow.RAISE)
        except ValidationError as error:
            faults = error.normalized_messages() | faults  # type: ignore[no-untyped-call]
            loaded = {}
        if faults:
            raise ValidationError(faults)
        attribute = {name: schema.fields[name].attribute or name for name in rendered}
        self._rendered = {attribute[name]: option for name, option in rendered.items()}
        self._fixed = {name: value for name, value in loaded.items() if name not in self._rendered}
        self.raw = Values(self._fixed | {name: found[option.key] for name, option in self._rendered.items()})
        self.names = tuple(self.raw)

    def render(self, event: Event, key: str = "") -> Values:
        """The options for one event, and for the key that the vendor gets.

        Raises:
            Skip: a required option is empty for this event.
            Permanent: an option cannot be rendered, or what it renders to is not valid.
        """
        values = Values(self._fixed)
        if self._rendered:
            view = view_of(event)
            for name, option in self._rendered.items():
                values[name] = option.load(view, key)
        return values


def _is_html(key: str) -> bool:
    name = key.rpartition(".")[2]
    return name == "html" or name.endswith("_html")


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every template within a value, with its dotted key."""
    if isinstance(value, str):
        if is_template(value):
            yield key, value
        return
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for inner, one in items:
        yield from _texts(f"{key}.{inner}", one)


def _compile_faults(key: str, value: Any) -> dict[str, list[str]]:
    faults = {}
    for place, text in _texts(key, value):
        try:
            Template(text)
        except Refused as refused:
            where = f"line {refused.line} of the template: " if "\n" in text.strip() else ""
            faults[place] = [f"{where}{refused}"]
    return faults


def _compile(key: str, value: Any, *, html: bool) -> Make:
    """Compile what was checked before."""
    if isinstance(value, str):
        return _compile_text(key, value, html=html) if is_template(value) else lambda *_: value
    if isinstance(value, Mapping):
        makes = [(name, _compile(f"{key}.{name}", one, html=html or _is_html(name))) for name, one in value.items()]
        return lambda view, job: {name: make(view, job) for name, make in makes}
    if isinstance(value, list):
        items = [_compile(f"{key}.{index}", one, html=html) for index, one in enumerate(value)]
        return lambda view, job: [make(view, job) for make in items]
    return lambda *_: value


def _compile_text(key: str, text: str, *, html: bool) -> Make:
    template = Template(text, html=html)

    def make(view: View, job: str) -> str:
        try:
            return template.render(view, job)
        except TemplateFault as fault:
            raise Permanent(f"option {key}: its template {fault}") from None

    return make


def _none(_view: View, _key: str) -> None:
    return None


def _shape_faults(key: str, field: fields.Field[Any], value: Any) -> dict[str, list[str]]:
    """What is wrong, whatever the templates render to: a list where text belongs, a fixed value of a wrong type."""
    if isinstance(value, str) and is_template(value):
        return {}
    if isinstance(field, fields.Dict | fields.List | fields.Nested) and is_template(value):
        inner = _inner_fields(field, value)
        if inner is not None:
            return {
                place: messages
                for name, (one_field, one) in inner.items()
                if one_field is not None
                for place, messages in _shape_faults(f"{key}.{name}", one_field, one).items()
            }
    if type(field) is fields.Raw:
        return {}
    try:
        field.deserialize(value, key)
    except ValidationError as error:
        return {key: [_told(error.messages, "")]}
    return {}


def _inner_fields(field: fields.Field[Any], value: Any) -> dict[str, tuple[fields.Field[Any] | None, Any]] | None:
    """The values within a table or list, with the field of each; None where the value is no such thing."""
    if isinstance(field, fields.Dict) and isinstance(value, Mapping):
        return {name: (field.value_field, one) for name, one in value.items()}
    if isinstance(field, fields.List) and isinstance(value, list):
        return {str(index): (field.inner, one) for index, one in enumerate(value)}
    if isinstance(field, fields.Nested) and isinstance(value, Mapping):
        known = {one.data_key or name: one for name, one in field.schema.fields.items()}
        return {name: (known.get(name), one) for name, one in value.items()}
    return None


def _is_empty(value: Any) -> bool:
    """Whether a rendered option says nothing: empty text, or a list of such."""
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, list) and all(isinstance(one, str) and not one.strip() for one in value)


def _told(messages: Any, value: Any) -> str:
    """The first message of a ValidationError, without what was found: that may be personal."""
    while isinstance(messages, list | dict):
        messages = next(iter(messages.values() if isinstance(messages, dict) else messages), "not valid")
    text = str(messages).rstrip(".")
    if isinstance(value, str) and value.strip() and value.strip() in text:
        text = text.replace(value.strip(), "what it rendered to")
    return text[:1].lower() + text[1:]
