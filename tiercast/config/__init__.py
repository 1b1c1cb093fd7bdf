"""The configuration: which sources there are, which actions, and which events lead to which.

`load_sources` is all that the receiver needs: it reads no action and loads no kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .sources import load_sources

if TYPE_CHECKING:
    from .load import load_config

__all__ = ["load_config", "load_sources"]


def __getattr__(name: str) -> Any:
    """Load what needs Jinja and the kinds only for those who ask for it."""
    if name == "load_config":
        from .load import load_config

        return load_config
    raise AttributeError(name)
