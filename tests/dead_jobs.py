"""Dead jobs in a ledger, made without a worker."""

from __future__ import annotations

import json

from tests.stack import JOINED
from tiercast.ids import new_delivery_id
from tiercast.ledger import Ledger, keys, new_token
from tiercast.ledger.model import Claim, DeliveryState, HeldDelivery, Outcome, Plan, PlannedJob
from tiercast.samples import envelope, sample_data, sample_event

#: How many are made in one step.
_STEP = 100


def make_dead(ledger: Ledger, action: str, count: int) -> set[str]:
    """Store so many events, each with a job of the action that is dead after one attempt; returns the jobs' keys."""
    made: set[str] = set()
    lane = keys.jobs_lane(action)
    while len(made) < count:
        events = [envelope(JOINED, sample_data(name="done")) for _ in range(min(_STEP, count - len(made)))]
        ledger.record([("voucherify", new_delivery_id(), json.dumps(event).encode()) for event in events])
        held = ledger.exchange_deliveries("voucherify", claim=Claim(token=new_token(), n=_STEP)).claimed
        ledger.exchange_deliveries("voucherify", [_plan(one, action) for one in held])
        jobs = ledger.exchange_jobs(lane, claim=Claim(token=new_token(), n=_STEP)).claimed
        outcomes = [
            Outcome(job=job.key, token=job.token, verdict="dead", text="answered 500", duration=0.01) for job in jobs
        ]
        ledger.exchange_jobs(lane, outcomes)
        made |= {job.key for job in jobs}
    return made


def _plan(held: HeldDelivery, action: str) -> Plan:
    """What a worker makes of a sample event."""
    event = sample_event(JOINED, id=json.loads(held.body)["event"]["id"])
    return Plan(
        delivery=held.id, token=held.token, state=DeliveryState.PROCESSED, event_id=event.id, type=event.type,
        at=event.at, created_us=event.created_us, form="envelope", jobs=(PlannedJob(action=action),),
    )  # fmt: skip
