"""Finding the code of a kind: by entry point, or by `package.module:ClassName`."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import marshmallow

from ..actions import Action
from .document import nearest

GROUP = "tiercast.actions"

_PLACE = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


class KindError(ValueError):
    """A kind cannot be had; the message says why and what to do."""


@cache
def find_kinds() -> Mapping[str, EntryPoint]:
    """The kinds that installed packages offer, by name; none of them is imported."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def load_kind(text: str) -> type[Action]:
    """Import a kind.

    Raises:
        KindError: there is none of that name, its import fails, or it is no kind.
    """
    kinds = find_kinds()
    if text in kinds:
        return _checked(text, _imported(text, kinds[text].value))
    if not text.strip():
        raise KindError(f"is empty; expected one of {', '.join(kinds)}, or package.module:ClassName")
    if ":" in text and not _PLACE.fullmatch(text):
        raise KindError(f"expected package.module:ClassName; found {text}")
    if ":" in text:
        return _checked(text, _imported(text, text))
    hint = nearest(text, kinds) or f" Installed: {', '.join(kinds)}."
    raise KindError(
        f"there is no kind {text}.{hint} A kind of your own is named package.module:ClassName, or comes with a package "
        "that is installed beside Tiercast."
    )


def _imported(kind: str, place: str) -> object:
    module, _, name = place.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        # As the `celery` command does, so that each command finds a kind that stands beside the configuration file.
        sys.path.append(here)
    try:
        found: object = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise KindError(f"kind {kind} cannot be imported: {type(error).__name__}: {error}") from error
    return found


def _checked(kind: str, found: object) -> type[Action]:
    if not (inspect.isclass(found) and issubclass(found, Action)) or found is Action:
        raise KindError(f"kind {kind} is no class derived from tiercast.actions.Action")
    if not found.kind:
        raise KindError(f'kind {kind} has no name: give the class {found.__name__} an attribute kind = "..."')
    if not (inspect.isclass(found.Options) and issubclass(found.Options, marshmallow.Schema)):
        raise KindError(f"kind {kind}: its Options are no marshmallow schema; derive them from Action.Options")
    return found
