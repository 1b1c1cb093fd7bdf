"""The configuration as values, after it was read and validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..event import Event

if TYPE_CHECKING:
    from ..actions import Action, Values
    from .rules import Condition
    from .templates import Options

#: What the parts of an order or once key can be.
OncePart = Literal["customer", "campaign", "tier", "type"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where webhooks come from. `secrets` are resolved; `event` is what a bare object of this source means.

    `project` is the Voucherify project of bodies that name none; by default the source stands for a project of its own.
    """

    name: str
    secrets: tuple[str, ...] = field(repr=False)
    event: str | None = None
    project: str | None = None

    @property
    def own_project(self) -> str:
        """The project of bodies that name none."""
        return self.project or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most `calls` vendor calls in `seconds`, over all workers and all actions that share its name."""

    name: str
    calls: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpec:
    """One configured action. Durations are seconds.

    `cls` is the kind's code, `options` what it is made with and how they are rendered for a job. `limits` are the
    limit that is named `limit` and the action's own `rate`, if any. `concurrency` is the most calls at once over all
    workers, None for as many as the vendor is found to bear. `batch` is the most jobs one bulk call takes. `give_up` is
    how long a job may go on failing by itself; `attempts` is an optional cap on top.
    """

    name: str
    kind: str
    cls: type[Action]
    options: Options
    order: Literal["latest"] | None = None
    once: tuple[OncePart, ...] = ()
    limit: str | None = None
    limits: tuple[Limit, ...] = ()
    concurrency: int | None = None
    batch: int = 100
    timeout: float = 10.0
    attempts: int | None = None
    give_up: float = 86400.0
    backoff: float = 2.0
    backoff_max: float = 3600.0
    queue: str | None = None

    def make(self) -> Action:
        """Make the action's instance for this process."""
        return self.cls(self.name, self.options.raw, timeout=self.timeout)

    def render(self, event: Event, key: str = "") -> Values:
        """Render the options for one event and a job's key; raises Skip or Permanent with the option's name."""
        return self.options.render(event, key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which events lead to which actions. `on` are names or patterns; `when` is None for "always".

    `name` is what the rule is called where a delivery says what became of it.
    """

    on: tuple[str, ...]
    actions: tuple[str, ...]
    when: Condition | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration. `path` is None for the built-in demo; `warnings` are what is allowed but odd."""

    path: Path | None
    sources: Mapping[str, Source]
    limits: Mapping[str, Limit]
    actions: Mapping[str, ActionSpec]
    rules: tuple[Rule, ...]
    warnings: tuple[str, ...] = ()
