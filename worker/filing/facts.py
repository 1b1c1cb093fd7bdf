"""What a row says of its event beside what the ledger keeps: campaign and tier, read from the body once more."""

from __future__ import annotations

from tiercast.event import Event, Json, campaign_object, previous_tier_object, tier_object
from tiercast.history.rows import FiledDelivery, Named
from tiercast.stored import StoredEvent


def complete(row: FiledDelivery) -> None:
    """Fill in campaign and tier of a row, in place; a body that cannot be read leaves them out."""
    if row.event_id is None or row.body is None or row.type is None:
        return
    event = StoredEvent(
        row.body,
        id=row.event_id,
        type=row.type,
        at=row.at or "",
        created_us=row.created_us,
        source=row.source,
        form=row.form,
    )
    try:
        row.campaign = _named(campaign_object(event))
        row.tier = _named(_tier(event))
    except (ValueError, RecursionError):
        row.campaign = row.tier = None


def _tier(event: Event) -> Json | None:
    """The tier that the customer is in after the event, or else the one that they left."""
    return tier_object(event) or previous_tier_object(event)


def _named(thing: Json | None) -> Named | None:
    if not thing:
        return None
    id, name = (value if isinstance(value := thing.get(key), str) else None for key in ("id", "name"))
    return Named(id=id, name=name) if id is not None or name is not None else None
