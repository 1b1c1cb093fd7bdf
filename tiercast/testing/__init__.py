"""What the author of a kind tests it with: a conformance kit, and vendors that run on this machine.

`KindKit` (`tiercast.testing.kit`) has the checks by which a kind earns its level. `ActionContract`, `make_action`,
`make_job` and the samples are of `tiercast.testing.contract`. All of these need pytest.
`tiercast.testing.vendors` needs nothing beyond Tiercast: `tiercast actions test NAME --against fake` uses it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contract import ActionContract, envelope, make_action, make_job, sample_data, sample_event
    from .kit import KindKit

__all__ = ["ActionContract", "KindKit", "envelope", "make_action", "make_job", "sample_data", "sample_event"]


def __getattr__(name: str) -> Any:
    """Load the kit, and with it pytest, only where it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import contract, kit

    return getattr(kit if name == "KindKit" else contract, name)
