"""What a worker's process needs: settings, configuration, ledger, bells. Made once, after the fork."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiercast.bells import publisher, queue_of
from tiercast.config import load_config
from tiercast.config.model import ActionSpec, Config
from tiercast.errors import ConfigError
from tiercast.ledger import Digests, Ledger, keys, open_ledger, prepare
from tiercast.ringer import BellRinger
from tiercast.settings import Settings, load_settings

if TYPE_CHECKING:
    from .desk import Desk


def known_lanes(config: Config) -> list[str]:
    """The lanes that the configuration knows: the only ones that a worker rings for."""
    return [keys.deliveries_lane(name) for name in config.sources] + [keys.jobs_lane(name) for name in config.actions]


@dataclass
class Runtime:
    """One process's share of the worker."""

    settings: Settings
    config: Config
    ledger: Ledger
    digests: Digests
    ringer: BellRinger
    desks: dict[str, Desk]

    @classmethod
    def build(cls, settings: Settings, config: Config) -> Runtime:
        """Connect and check the ledger, and prepare every action.

        Raises:
            LedgerUnsuited, LedgerUnavailable: as they say.
        """
        from .desk import Desk

        ledger = open_ledger(settings, role="worker")
        digests = prepare(ledger, settings)
        ringer = BellRinger(publisher(settings, lambda lane: queue_of(config, lane)))
        runtime = cls(settings, config, ledger, digests, ringer, {})
        for name, spec in config.actions.items():
            runtime.desks[keys.jobs_lane(name)] = Desk(spec, ledger)
        return runtime

    def ring(self, lanes: Iterable[str]) -> None:
        """Have bells rung, by a thread of its own; only for lanes that the configuration knows."""
        self.ringer.ring(lane for lane in lanes if self.knows(lane))

    def knows(self, lane: str) -> bool:
        """Whether the configuration has that source or action."""
        if lane.startswith(keys.DELIVERIES):
            return lane.removeprefix(keys.DELIVERIES) in self.config.sources
        return lane in self.desks


_lock = threading.Lock()
_runtime: Runtime | None = None
_config: tuple[Settings, Config] | None = None


def load() -> tuple[Settings, Config]:
    """Read settings and configuration, once; a forked process inherits them."""
    global _config
    if _config is None:
        settings = load_settings()
        config = load_config(settings)
        for spec in config.actions.values():
            _try_out(spec)
        _config = settings, config
    return _config


def _try_out(spec: ActionSpec) -> None:
    """Make the action once, so that options which contradict one another are found at start."""
    try:
        spec.make().close()
    except ValueError as error:
        raise ConfigError(f"actions.{spec.name}: {error}") from None


def runtime() -> Runtime:
    """The runtime of this process, made at its first use."""
    global _runtime
    with _lock:
        if _runtime is None:
            _runtime = Runtime.build(*load())
            from .keeper import Keeper

            Keeper(_runtime).start()
        return _runtime


def close(grace: float) -> None:
    """Hand back what has not begun, and give what runs `grace` seconds to end and be settled."""
    from .aside import end_all
    from .keeper import finish

    with _lock:
        if _runtime is not None:
            finish(_runtime, grace)
            end_all()
