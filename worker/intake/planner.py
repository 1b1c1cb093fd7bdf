"""From a held delivery to its plan: read it, match the rules, name the jobs and their groups."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from tiercast.config.model import ActionSpec, Config, OncePart
from tiercast.config.rules import match
from tiercast.event import Event, campaign_object, customer_ids, tier_object
from tiercast.ids import DELIVERY_ID_LENGTH, received_ms
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
        self._keeps_names = any(spec.once or spec.order for spec in config.actions.values())

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
        project = reading.project or source.own_project
        matched = match(self._config, event)
        notes = reading.notes
        if not matched.actions:
            notes = ("no rule holds for this event" if matched.outcomes else "no rule for this event", *notes)
        facts = _Facts(event, project, self._customer(event, project))
        jobs = tuple(self._job(self._config.actions[name], facts) for name in matched.actions)
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
            project=project,
            customer=facts.customer,
            keeps_names=self._keeps_names,
            rank=rank_of(event) if any(job.order for job in jobs) else None,
            jobs=jobs,
            rules=matched.outcomes,
        )

    def _settled(self, held: HeldDelivery, state: DeliveryState, reason: str) -> Plan:
        return Plan(delivery=held.id, token=held.token, state=state, reason=reason)

    def _customer(self, event: Event, project: str) -> tuple[str, ...]:
        """Digests of the customer's names, the strongest first: the index is kept under that one."""
        refs = customer_ids(event)
        named = (("id", refs.id), ("source_id", refs.source_id), ("email", refs.email))
        return tuple(self._digests.customer(project, kind, value) for kind, value in named if value)

    def _job(self, spec: ActionSpec, facts: _Facts) -> PlannedJob:
        order, unordered = None, False
        if spec.order == "latest":
            unordered = not facts.customer
            if facts.customer:
                order = facts.customer[0] + self._digests.short("order", facts.part("campaign") or "")
        if not spec.once:
            return PlannedJob(action=spec.name, order=order, unordered=unordered)
        parts = {name: facts.part(name) for name in spec.once}
        missing = [name for name, value in parts.items() if value is None]
        if missing:
            reason = f"once: this event names no {' and no '.join(missing)}"
            return PlannedJob(action=spec.name, unordered=unordered, skipped=reason)
        return PlannedJob(action=spec.name, order=order, unordered=unordered, once=self._once(parts, facts))

    def _once(self, parts: Mapping[OncePart, str | None], facts: _Facts) -> str:
        """The digest of a once group. Where the customer is a part, it begins with the digest of their strongest name.

        The ledger puts another name's digest there if it knows the customer by that one.
        """
        pairs = [text for name, value in sorted(parts.items()) for text in (name, value or "") if name != "customer"]
        if "customer" in parts:
            return facts.customer[0] + self._digests.short("once", *pairs)
        return self._digests.of("once", facts.project, *pairs)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the jobs of one event are planned by."""

    event: Event
    project: str
    customer: tuple[str, ...]

    def part(self, name: str) -> str | None:
        """One part of an order or once key: the type, or what stands for customer, campaign or the tier moved to."""
        if name == "type":
            return self.event.type
        if name == "customer":
            return self.customer[0] if self.customer else None
        found = campaign_object(self.event) if name == "campaign" else tier_object(self.event)
        value = found.get("id") if found else None
        return value.strip() or None if isinstance(value, str) else None


#: An id of Voucherify's that begins with its time, in steps of 4 ms since the fourth of May 2016.
_TIMED_ID = re.compile(r"evcus_([0-9a-f]{10})([0-9a-f]{8})")
_TIMED_SINCE_MS = 1_462_320_000_000

#: How far the time in an id may be from the event's own, in milliseconds, to be believed: two days.
_TIMED_WITHIN_MS = 2 * 86_400_000


def rank_of(event: Event) -> str | None:
    """What orders events of one time: text that stands in for the delivery's id, where the event's id carries a time.

    It has the form of a delivery's id: the event's time, then its id. So events whose ids carry a time are ordered by
    those, and come before events of the same time that are ordered by their arrival.
    """
    found = _TIMED_ID.fullmatch(event.id)
    ms = event.created_us // 1000
    if not found or abs(int(found[1], 16) * 4 + _TIMED_SINCE_MS - ms) > _TIMED_WITHIN_MS:
        return None
    time = f"{ms:012x}"
    return f"{time[:8]}-{time[8:]}-{found[1]}{found[2]}".ljust(DELIVERY_ID_LENGTH, "0")


def _place(error: Exception) -> str:
    """Where an exception was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
