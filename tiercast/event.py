"""The event: what a delivery tells, after it was validated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

#: The tier events that Voucherify's distributions send (its OpenAPI, August 2026).
TIER_EVENTS = tuple(
    f"customer.loyalty.tier.{what}" for what in ("joined", "left", "upgraded", "downgraded", "prolonged")
)

#: Where the tier after the event, and the tier before it, stand in `data`, by the event's last word.
_TIER_FIELDS = {
    "joined": ("loyalty_tier", None),
    "prolonged": ("loyalty_tier", None),
    "left": (None, "loyalty_tier"),
    "upgraded": ("loyalty_tier_to", "loyalty_tier_from"),
    "downgraded": ("loyalty_tier_to", "loyalty_tier_from"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One validated fact of a source.

    `at` is when it happened as ISO 8601 in UTC with milliseconds, `created_us` the same in microseconds since
    1970 (what orders events). `customer`, `campaign`, `tier` and `previous_tier` are the sender's own objects or
    None; `tier` is the tier that the customer is in after the event.
    """

    id: str
    type: str
    at: str
    created_us: int
    source: str
    data: Json

    @property
    def key(self) -> str:
        """The event's name in the ledger: `<source>:<event id>`."""
        return f"{self.source}:{self.id}"

    @property
    def customer(self) -> Json | None:
        return _object(self.data, "customer")

    @property
    def campaign(self) -> Json | None:
        return _object(self.data, "campaign")

    @property
    def tier(self) -> Json | None:
        return self._tier(0)

    @property
    def previous_tier(self) -> Json | None:
        return self._tier(1)

    def _tier(self, which: int) -> Json | None:
        if self.type not in TIER_EVENTS:
            return None
        name = _TIER_FIELDS[self.type.rpartition(".")[2]][which]
        return _object(self.data, name) if name else None


def _object(data: Json, name: str) -> Json | None:
    value = data.get(name)
    return value if isinstance(value, dict) else None
