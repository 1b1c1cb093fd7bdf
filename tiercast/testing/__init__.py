"""What the author of a kind tests it with: a conformance kit, and vendors that run on this machine.

`ActionContract`, `make_action`, `make_job` and the samples are of `tiercast.testing.contract` and need pytest.
`tiercast.testing.vendors` needs nothing beyond Tiercast: `tiercast actions test NAME --against fake` uses it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contract import ActionContract, envelope, make_action, make_job, sample_data, sample_event

__all__ = ["ActionContract", "envelope", "make_action", "make_job", "sample_data", "sample_event"]


def __getattr__(name: str) -> Any:
    """Load the kit, and with it pytest, only where it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import contract

    return getattr(contract, name)
