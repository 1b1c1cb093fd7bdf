"""Templates and expressions, compiled once and evaluated for each event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jinja2
from jinja2 import TemplateSyntaxError, nodes
from jinja2.parser import Parser

from ...event import Event, campaign_object, customer_object, previous_tier_object, tier_object
from .budget import SIZE, TemplateFault, begin, check_length, end
from .environment import Sandbox, sandbox
from .null import MetNull, is_null, path_of
from .plain import Plain
from .syntax import Refused, prepare

View = Mapping[str, Any]


def view_of(event: Event) -> View:
    """What templates see of an event."""
    return {
        "id": event.id,
        "type": event.type,
        "at": event.at,
        "source": event.source,
        "customer": customer_object(event),
        "campaign": campaign_object(event),
        "tier": tier_object(event),
        "previous_tier": previous_tier_object(event),
        "holder_loyalty_tier": event.data.get("holder_loyalty_tier"),
        "data": event.data,
    }


class Template:
    """A text with templates in it.

    Args:
        source: the text.
        html: True to escape what is put into it.

    Raises:
        Refused: it cannot be used.
    """

    def __init__(self, source: str, *, html: bool = False) -> None:
        environment = sandbox(html=html)
        with _compiling(source):
            tree = environment.parse(source)
            self._plain = Plain.of(tree, html=html)
            self._template = _compiled(environment, tree, roots=frozenset({"event", "job"}))

    def render(self, view: View, key: str = "") -> str:
        """Write the text for one event, and for a job with that key, which is `job.key`.

        Raises:
            TemplateFault: it cannot be written; the message holds nothing of the event.
        """
        if self._plain is not None and (text := self._plain.render(view)) is not None:
            return text
        pieces: list[str] = []
        size = 0
        token = begin()
        try:
            context = self._template.new_context({"event": view, "job": {"key": key}})
            for piece in self._template.root_render_func(context):
                size += len(piece)
                check_length(size)
                pieces.append(piece)
        except Exception as error:
            raise _told(error) from None
        finally:
            end(token)
        return "".join(pieces)


class Expression:
    """An expression such as `event.tier.points.from >= 100`.

    Raises:
        Refused: it cannot be used.
    """

    def __init__(self, source: str) -> None:
        environment = sandbox(html=False)
        with _compiling(source):
            parser = Parser(environment, source, state="variable")
            expression = parser.parse_expression()
            if not parser.stream.eos:
                raise Refused("goes on after the end of the expression", parser.stream.current.lineno)
            assign = nodes.Assign(nodes.Name("result", "store", lineno=1), expression, lineno=1)
            # A condition decides whether there is a job at all.
            self._template = _compiled(environment, nodes.Template([assign], lineno=1), roots=frozenset({"event"}))

    def holds(self, view: View, met: dict[tuple[Any, ...], None] | None = None) -> bool:
        """Whether it holds for one event.

        Args:
            view: see `view_of`.
            met: takes the paths below `event` that it looks up.

        Raises:
            MetNull: it is null, or compared or calculated with null; the message is the path of that.
            TemplateFault: it cannot be decided; the message holds nothing of the event.
        """
        token = begin(strict=True, met=met)
        try:
            context = self._template.new_context({"event": view})
            for _ in self._template.root_render_func(context):
                pass
            value = context.vars["result"]
            if is_null(value):
                raise MetNull(path_of(value))
            return bool(value)
        except Exception as error:
            raise _told(error) from None
        finally:
            end(token)


def _compiled(environment: Sandbox, tree: nodes.Template, *, roots: frozenset[str]) -> jinja2.Template:
    code = environment.compile(prepare(tree, environment, roots))
    return jinja2.Template.from_code(environment, code, {})


@contextmanager
def _compiling(source: str) -> Iterator[None]:
    if len(source) > SIZE:
        raise Refused(f"is longer than {SIZE // 1024} KiB", 1)
    try:
        yield
    except TemplateSyntaxError as error:
        raise Refused((error.message or "is not a template").rstrip("."), error.lineno) from None
    except (RecursionError, MemoryError, SyntaxError):
        # Python's own compiler gives up on about 20 nested loops and 100 nested brackets.
        raise Refused("is nested too deeply", 1) from None


def _told(error: Exception) -> Exception:
    """What an evaluation that failed raises."""
    if isinstance(error, TemplateFault | MetNull):
        return error
    if isinstance(error, jinja2.UndefinedError):
        return TemplateFault("needs a value where the event has null; give one with | default(...)")
    # Its text could hold a value of the event, so only its type is told.
    return TemplateFault(f"cannot be evaluated ({type(error).__name__})")
