"""What commands share: settings, configuration and ledger, each opened when it is first needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError, LedgerUnavailable
from ..redis_address import place
from ..up.environment import environment

if TYPE_CHECKING:
    from ..config.model import Config, Source
    from ..control import Control
    from ..history.store import History
    from ..ledger import Ledger
    from ..ledger.reading import Reader
    from ..operations.requests import Operations
    from ..settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The ledger, open."""

    ledger: Ledger
    reader: Reader
    control: Control
    operations: Operations


class Context:
    """One call of a command."""

    @cached_property
    def environ(self) -> dict[str, str]:
        """Our own environment and, beneath it, that of a `tiercast up` on this machine."""
        return environment()

    @cached_property
    def settings(self) -> Settings:
        """The settings; raises SettingsError."""
        from ..settings import load_settings

        return load_settings(self.environ)

    @cached_property
    def config(self) -> Config:
        """The configuration; raises ConfigError."""
        from ..config import load_config

        return load_config(self.settings)

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        """The sources with their secrets, without loading any kind; raises ConfigError."""
        from ..config import load_sources

        return load_sources(self.settings)

    @cached_property
    def config_if_any(self) -> Config | ConfigError:
        """The configuration, or why there is none: for commands that do without."""
        try:
            return self.config
        except ConfigError as error:
            return error

    @contextlib.contextmanager
    def history(self) -> Iterator[History | None]:
        """The history, open; None where there is none yet.

        Raises:
            HistoryUnavailable, HistoryRefused: with what to do about it.
        """
        address = self.settings.history
        if address.path is not None and not address.path.exists():
            yield None
            return
        # Loads the database library.
        from ..history.store import History

        with History(address) as opened:
            yield opened

    @contextlib.contextmanager
    def opened(self) -> Iterator[Opened]:
        """Open the ledger; rings for what became due when the command is through.

        Raises:
            LedgerUnavailable, LedgerUnsuited: with what to do about it.
        """
        from ..control.actor import local_user
        from ..control.changes import Control
        from ..history.lazy import LazyHistory
        from ..ledger import open_ledger, prepare
        from ..ledger.reading import Reader
        from ..operations.requests import Operations

        lanes: dict[str, None] = {}
        ledger = open_ledger(self.settings, role="operator")
        history = LazyHistory(self.settings.history)
        try:
            filed = history.reading if self.settings.files else None
            reader = Reader(ledger, prepare(ledger, self.settings), filed)
            control = Control(ledger, local_user(), lambda more: lanes.update(_set(more)), filed)
            operations = Operations(ledger, reader, control.ring)
            yield Opened(ledger=ledger, reader=reader, control=control, operations=operations)
        except LedgerUnavailable as error:
            raise self._explained(error) from error
        finally:
            ledger.close()
            history.close()
        self._ring(lanes)

    def ring_for_operations(self) -> None:
        """Ring now, for a command that waits for what workers do."""
        from ..ledger import keys

        self._ring([keys.OPERATIONS])

    def _explained(self, error: Exception) -> Exception:
        if not isinstance(error, LedgerUnavailable):
            return error
        text = str(error)
        where = place(self.settings.redis_url)
        return LedgerUnavailable(
            f"{text[:1].upper()}{text[1:]}, at {where}. Is Tiercast running? Start it with `tiercast up`, or say where "
            "its ledger is with TIERCAST_REDIS_URL."
        )

    def _ring(self, lanes: Iterable[str]) -> None:
        """Ring if that is quickly done: the workers' timer rings for what time has made due anyway."""
        known = self.config_if_any if lanes else None
        if known is None or isinstance(known, ConfigError):
            return
        from ..bells import publisher, queue_of

        # Whatever a broker's library raises, the work is owed and the timer rings for it.
        with contextlib.suppress(Exception):
            ring = publisher(self.settings, lambda lane: queue_of(known, lane))
            for lane in lanes:
                ring(lane)


#: Hands the context to a command, as its first argument.
pass_context = click.make_pass_decorator(Context, ensure=True)


def _set(lanes: Iterable[str]) -> dict[str, None]:
    return dict.fromkeys(lanes)
