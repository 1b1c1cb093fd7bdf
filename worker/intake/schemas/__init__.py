"""marshmallow schemas of Voucherify's webhook: the envelope, the tier events' `data`, and anything else's.

They check and change nothing: what a template sees is the sender's own object. Only times are loaded as
another value (microseconds since 1970), for the reader's use. All are built once, since building one costs as
much as loading an event.
"""

from __future__ import annotations

from collections.abc import Mapping

from marshmallow import Schema

from tiercast.event import TIER_EVENTS

from .envelope import Envelope, Named
from .generic import Anything
from .tier_events import OneTier, TwoTiers

__all__ = ["ENVELOPE", "NAMED", "data_schema"]

ENVELOPE: Schema = Envelope()
NAMED: Schema = Named()

_ANYTHING: Schema = Anything()
_ONE_TIER: Schema = OneTier()
_TWO_TIERS: Schema = TwoTiers()
_BY_TYPE: Mapping[str, Schema] = {
    name: _TWO_TIERS if name.endswith(("upgraded", "downgraded")) else _ONE_TIER for name in TIER_EVENTS
}


def data_schema(type: str) -> Schema:
    """The schema of an event's `data`, by the event's type."""
    return _BY_TYPE.get(type, _ANYTHING)
