"""From a held delivery to its plan: read it, match the rules, name the jobs and their groups."""

from __future__ import annotations

import traceback
from pathlib import Path

import structlog

from tiercast.config.model import ActionSpec, Config
from tiercast.config.rules import match
from tiercast.event import Event, customer_ids
from tiercast.ids import received_ms
from tiercast.ledger import Digests
from tiercast.ledger.model import DeliveryState, HeldDelivery, Plan, PlannedJob
from tiercast.oversized import Oversized

from .reader import Preview, Unreadable, read

log = structlog.get_logger()


class Planner:
    """Plans the deliveries of one source."""

    def __init__(self, config: Config, digests: Digests, source: str) -> None:
        self._config = config
        self._digests = digests
        self._source = config.sources[source]

    def plan(self, held: HeldDelivery) -> Plan:
        """Plan one delivery. A fault of ours puts that delivery into quarantine and holds up nothing else."""
        try:
            return self._plan(held)
        except Exception as error:
            # No traceback: its last line may quote the customer's data.
            log.error("plan.fault", delivery=held.id, error=type(error).__name__, at=_place(error))
            reason = f"a fault of Tiercast's own while planning it ({type(error).__name__}); see the worker's log"
            return self._settled(held, DeliveryState.QUARANTINED, reason)

    def _plan(self, held: HeldDelivery) -> Plan:
        source = self._source
        if oversized := Oversized.from_body(held.body):
            return self._settled(held, DeliveryState.QUARANTINED, oversized.reason)
        reading = read(
            held.body,
            source=source.name,
            bare_event=source.event,
            delivery_id=held.id,
            received_us=received_ms(held.id) * 1000,
        )
        if isinstance(reading, Unreadable):
            return self._settled(held, DeliveryState.QUARANTINED, str(reading))
        if isinstance(reading, Preview):
            return self._settled(held, DeliveryState.TEST, reading.reason)
        event = reading.event
        matched = match(self._config, event)
        notes = [*reading.notes, *matched.notes]
        jobs = tuple(self._job(self._config.actions[name], event) for name in matched.actions)
        if not jobs:
            notes.insert(0, "no rule for this event" if not matched.notes else "no rule holds for this event")
        return Plan(
            delivery=held.id,
            token=held.token,
            state=DeliveryState.PROCESSED if jobs else DeliveryState.IGNORED,
            reason="; ".join(notes),
            event_id=event.id,
            type=event.type,
            at=event.at,
            created_us=event.created_us,
            form=reading.form,
            customer=self._customer(event),
            jobs=jobs,
        )

    def _settled(self, held: HeldDelivery, state: DeliveryState, reason: str) -> Plan:
        return Plan(delivery=held.id, token=held.token, state=state, reason=reason)

    def _customer(self, event: Event) -> tuple[str, ...]:
        """Digests of the customer's names: the first is the one that the index is kept under."""
        refs = customer_ids(event)
        named = (("id", refs.id), ("source_id", refs.source_id), ("email", refs.email))
        return tuple(self._digests.customer(event.source, kind, value) for kind, value in named if value)

    def _job(self, spec: ActionSpec, event: Event) -> PlannedJob:
        order, unordered = None, False
        if spec.order == "latest":
            customer = _part(event, "customer")
            unordered = customer is None
            if customer is not None:
                order = self._digests.of("order", event.source, customer, _part(event, "campaign") or "")
        if not spec.once:
            return PlannedJob(action=spec.name, order=order, unordered=unordered)
        parts = {name: _part(event, name) for name in spec.once}
        missing = [name for name, value in parts.items() if value is None]
        if missing:
            reason = f"once: this event names no {' and no '.join(missing)}"
            return PlannedJob(action=spec.name, unordered=unordered, skipped=reason)
        pairs = [text for name, value in sorted(parts.items()) for text in (name, value or "")]
        return PlannedJob(
            action=spec.name,
            order=order,
            unordered=unordered,
            once=self._digests.of("once", event.source, *pairs),
        )


def _place(error: Exception) -> str:
    """Where an exception was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"


def _part(event: Event, name: str) -> str | None:
    """One part of an order or once key: the type, or the id of customer, campaign or the tier moved to."""
    if name == "type":
        return event.type
    if name == "customer":
        refs = customer_ids(event)
        return refs.id or refs.source_id or (refs.email.lower() if refs.email else None)
    found = getattr(event, name)
    value = found.get("id") if found else None
    return value if isinstance(value, str) and value else None
