"""Which actions pay again where a done job is done again: those whose kind is not repeatable."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ConfigError
from . import output
from .context import Context
from .group import Failure


def pays_again(context: Context) -> Callable[[str], bool]:
    """Say of an action whether doing it again repeats its effect; without a configuration, each may."""
    config = context.config_if_any
    if isinstance(config, ConfigError):
        output.note(f"Without a configuration, it is not known which actions are repeatable. {config}")
        return lambda _: True
    repeatable = {name for name, spec in config.actions.items() if spec.cls.repeatable}
    return lambda action: action not in repeatable


def actions_that_pay(context: Context) -> tuple[str, ...]:
    """The actions whose done jobs a request by filter leaves alone, unless it names one.

    Raises:
        Failure: it is not known, since there is no configuration.
    """
    config = context.config_if_any
    if isinstance(config, ConfigError):
        raise Failure(
            f"Without a configuration, it is not known which actions pay again: name one with --action. {config}"
        )
    return tuple(sorted(name for name, spec in config.actions.items() if not spec.cls.repeatable))
