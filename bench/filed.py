"""Deliveries as they are filed, made up: the same ones for the same seed, of a shop with several campaigns."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tiercast.event import TIER_EVENTS, iso_from_us
from tiercast.history.rows import FiledAttempt, FiledDelivery, FiledJob, Named
from tiercast.samples import envelope, sample_data

#: Campaigns and tiers of the shop, and the actions of every event.
CAMPAIGNS = tuple(Named(f"camp_{i:02}", f"Programme {i}") for i in range(8))
TIERS = tuple(Named(f"ltr_{i:02}", name) for i, name in enumerate(("Bronze", "Silver", "Gold", "Platinum", "Black")))
ACTIONS = ("crm-tier", "welcome-email", "points")
SOURCES = ("voucherify", "voucherify-eu", "voucherify-us")

_HOST = "api.vendor.example"
_ERRORS = (
    "{host} answered 404: contact {n} is unknown",
    '{host} answered 400: property "tier_{n}" does not exist (request {hex})',
    "{host} answered 503 for a day",
    "no answer from {host} after the request was sent: TimeoutError",
    "{host} answered 422: e-mail u{n}@mail.example is on the suppression list",
)
_REASONS = (
    "data.customer: expected an object, got a text of {n} characters",
    "the body is no JSON (character {n})",
)


@dataclass(slots=True)
class Shop:
    """Makes deliveries, oldest first.

    Args:
        seed: of everything that is random.
        customers: how many there are.
        begin_ms: when the first delivery arrived.
        step_ms: between two deliveries.
        dead: share of jobs that are dead.
        bodies: how many different bodies there are; making one takes longer than filing it.
    """

    seed: int = 1
    customers: int = 10_000
    begin_ms: int = 1_790_000_000_000
    step_ms: float = 400.0
    dead: float = 0.01
    bodies: int = 2_000
    _random: random.Random = field(init=False)
    _bodies: list[tuple[str, bytes]] = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._bodies = [self._body(i) for i in range(self.bodies)]

    def _body(self, number: int) -> tuple[str, bytes]:
        kind = TIER_EVENTS[number % len(TIER_EVENTS)]
        data = sample_data(
            kind,
            customer_id=f"cust_{number:06}",
            email=f"someone{number}@mail{number % 37}.example",
            name=f"Someone {number}",
            source_id=f"crm-{number * 7919 % 1_000_000}",
            campaign=CAMPAIGNS[number % len(CAMPAIGNS)].name or "",
        )
        document = envelope(kind, data, event_id=f"evcus_{self._random.randbytes(12).hex()}")
        return kind, json.dumps(document, separators=(",", ":")).encode()

    def seed_from(self, number: int) -> None:
        """Continue at delivery `number`, in another process than the one that made the earlier ones."""
        self._random = random.Random(self.seed + number)

    def deliveries(self, count: int) -> Iterator[FiledDelivery]:
        """The next `count` deliveries."""
        for number in range(count):
            yield self.delivery(number)

    def delivery(self, number: int) -> FiledDelivery:
        """The next delivery; `number` places it in time."""
        rng = self._random
        at_ms = self.begin_ms + round(number * self.step_ms)
        kind, body = self._bodies[rng.randrange(len(self._bodies))]
        customer = min(rng.randrange(self.customers), rng.randrange(self.customers))
        tail = rng.getrandbits(74)
        text = f"{at_ms << 80 | 0x7 << 76 | tail >> 62 << 64 | 0b10 << 62 | tail & ((1 << 62) - 1):032x}"
        id = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
        luck = rng.random()
        state = (
            "processed" if luck < 0.9 else "ignored" if luck < 0.95 else "duplicate" if luck < 0.99 else "quarantined"
        )
        source = SOURCES[0 if rng.random() < 0.8 else rng.randrange(1, len(SOURCES))]
        if state == "quarantined":
            reason = rng.choice(_REASONS).format(n=rng.randrange(10_000))
            return FiledDelivery(id=id, source=source, state=state, settled_ms=at_ms + 30, body=body, reason=reason)
        created = (at_ms - 1500) * 1000 + rng.randrange(1000)
        event = f"evcus_{rng.getrandbits(96):024x}"
        return FiledDelivery(
            id=id,
            source=source,
            state=state,
            settled_ms=at_ms + 900,
            body=body,
            event_id=event,
            type=kind,
            at=iso_from_us(created),
            created_us=created,
            form="envelope",
            project="proj_teahouse",
            customer=(f"{customer:014x}Ai", f"{customer:014x}Bs", f"{customer:014x}Ce"),
            campaign=CAMPAIGNS[min(rng.randrange(8), rng.randrange(8))],
            tier=TIERS[rng.randrange(len(TIERS))],
            names=ACTIONS if state == "processed" else (),
            first=id if state == "duplicate" else None,
            reason=None if state != "ignored" else "no rule is for this type",
            jobs=tuple(self._job(f"{source}:{event}", action, at_ms) for action in ACTIONS)
            if state == "processed"
            else (),
        )

    def _job(self, event: str, action: str, at_ms: int) -> FiledJob:
        rng = self._random
        luck = rng.random()
        if luck < self.dead:
            error = rng.choice(_ERRORS)
            error = error.format(host=_HOST, n=rng.randrange(10**6), hex=f"{rng.getrandbits(64):016x}")
            tries = tuple(
                FiledAttempt(
                    number=n,
                    started_ms=at_ms + n * 60_000,
                    duration_ms=rng.randrange(20, 900),
                    outcome="later" if n < 4 else "dead",
                    error=error,
                )
                for n in range(1, 5)
            )
            return FiledJob(
                key=f"{event}:{action}",
                action=action,
                state="dead",
                changed_ms=at_ms + 300_000,
                attempts=4,
                text=error,
                failing_ms=at_ms + 60_000,
                history=tries,
            )
        if luck < self.dead + 0.03:
            return FiledJob(
                key=f"{event}:{action}",
                action=action,
                state="superseded" if action == "crm-tier" else "skipped",
                changed_ms=at_ms + 200,
                text="a newer event was done" if action == "crm-tier" else "option to is empty for this event",
            )
        took = rng.randrange(20, 400)
        return FiledJob(
            key=f"{event}:{action}",
            action=action,
            state="done",
            changed_ms=at_ms + 100 + took,
            attempts=1,
            history=(FiledAttempt(number=1, started_ms=at_ms + 100, duration_ms=took, outcome="done"),),
        )
