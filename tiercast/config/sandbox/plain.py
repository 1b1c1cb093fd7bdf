"""The short way for text with nothing but fields of the event in it, which most templates are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import nodes
from markupsafe import escape

from .budget import SIZE
from .operations import item
from .syntax import event_path

#: Numbers beyond are left to the full evaluation, which knows their bounds.
_LARGEST = 2**63


# fast path: Jinja's compiled template would render the same.
@dataclass(frozen=True, slots=True)
class Plain:
    """Text and paths in a row. Renders as the compiled template does, or leaves it to that."""

    parts: tuple[str | tuple[Any, ...], ...]
    html: bool

    @classmethod
    def of(cls, tree: nodes.Template, *, html: bool) -> Plain | None:
        """Take a parsed template; None where it holds more than text and `{{ event.a.b }}`."""
        parts: list[str | tuple[Any, ...]] = []
        for output in tree.body:
            if not isinstance(output, nodes.Output):
                return None
            for node in output.nodes:
                path = event_path(node)
                if isinstance(node, nodes.TemplateData):
                    parts.append(node.data)
                elif path:
                    parts.append(tuple(path))
                else:
                    return None
        return cls(tuple(parts), html)

    def render(self, view: Mapping[str, Any]) -> str | None:
        """The text; None where a value is a table or list, or the text long: the full evaluation has bounds for it."""
        pieces = []
        for part in self.parts:
            piece = part if isinstance(part, str) else self._text(view, part)
            if piece is None:
                return None
            pieces.append(piece)
        text = "".join(pieces)
        return text if len(text) <= SIZE else None

    def _text(self, view: Mapping[str, Any], path: tuple[Any, ...]) -> str | None:
        value: Any = view
        for part in path:
            value = item(value, part)
            if value is None:
                return ""
        kind = type(value)
        if kind is str:
            return str(escape(value)) if self.html else value
        if kind is bool:
            return "true" if value else "false"
        if kind is float or (kind is int and -_LARGEST < value < _LARGEST):
            return str(value)
        return None
