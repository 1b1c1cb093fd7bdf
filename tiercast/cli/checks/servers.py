"""Checks that the servers that actions name can be reached: connects, and says nothing to them."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterator

from ...config.model import Config
from ...runner import close
from .finding import Finding, ok, warning

#: Seconds to connect.
_TIMEOUT = 3.0


def check_servers(config: Config) -> Iterator[Finding]:
    """Connect to every server that an action says it needs."""
    for (host, port), actions in _named(config).items():
        about = f"server {host}:{port}"
        whose = ", ".join(actions)
        try:
            socket.create_connection((host, port), timeout=_TIMEOUT).close()
        except OSError as fault:
            why = fault.strerror or type(fault).__name__
            yield warning(about, f"cannot be reached from here ({why}); jobs of {whose} would be tried again later.")
        else:
            yield ok(about, f"can be reached, for {whose}")


def _named(config: Config) -> dict[tuple[str, int], list[str]]:
    named = defaultdict(list)
    for spec in config.actions.values():
        try:
            action = spec.make()
        except Exception:  # noqa: S112 - told by the check of templates
            continue
        for place in action.servers():
            named[place].append(spec.name)
        close(action)
    return named
