"""marshmallow schemas of Voucherify's webhook: the envelope, the tier events' `data`, and anything else's.

What a template sees is the sender's own object. Values of a wrong type on which nothing depends count as null, and
numbers in quotes as numbers: they are changed in place, when a delivery is read and when its event is made again. All
schemas are built once, since building one costs as much as loading an event.
"""

from __future__ import annotations

from collections.abc import Mapping

from marshmallow import ValidationError

from ..event import TIER_EVENTS, Json
from .base import Tolerant
from .envelope import Envelope, Named
from .generic import Anything
from .tier_events import OneTier, TwoTiers

__all__ = ["ENVELOPE", "NAMED", "data_schema", "settle_shapes"]

ENVELOPE: Tolerant = Envelope()
NAMED: Tolerant = Named()

_ANYTHING: Tolerant = Anything()
_ONE_TIER: Tolerant = OneTier()
_TWO_TIERS: Tolerant = TwoTiers()
_BY_TYPE: Mapping[str, Tolerant] = {
    name: _TWO_TIERS if name.endswith(("upgraded", "downgraded")) else _ONE_TIER for name in TIER_EVENTS
}


def data_schema(type: str) -> Tolerant:
    """The schema of an event's `data`, by the event's type."""
    return _BY_TYPE.get(type, _ANYTHING)


def settle_shapes(type: str, data: Json) -> None:
    """Change `data` in place to what it counted as when it was read; it was read before, so nothing in it is fatal."""
    try:
        data_schema(type).load(data)
    except ValidationError:
        return  # A body that was never read: what calls this has no promise to keep about it.
