"""Checks what could pay twice: kinds that are not repeatable, under rules on tier events, without `once`."""

from __future__ import annotations

from collections.abc import Iterator

from ...config.events import pattern
from ...config.model import Config
from ...event import TIER_EVENTS
from .finding import Finding, warning


def check_once(config: Config) -> Iterator[Finding]:
    """Warn of actions whose reward a customer gets anew each time they come back to a tier."""
    for spec in config.actions.values():
        if spec.cls.repeatable or spec.once:
            continue
        rules = (rule for rule in config.rules if spec.name in rule.actions)
        names = (on for rule in rules for on in rule.on)
        if any(pattern(on).fullmatch(type) for on in names for type in TIER_EVENTS):
            yield warning(
                f"actions.{spec.name}",
                "it is not repeatable and has no `once`, so a customer who comes back to a tier is paid again each "
                'time. To pay once for a tier: once = ["customer", "tier"]',
            )
