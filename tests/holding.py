"""Actions and held jobs for tests that need no ledger; an event's customer is called what its job is to do."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

from tests.stack import JOINED
from tiercast.actions import Action
from tiercast.config.model import ActionSpec
from tiercast.config.templates import Options
from tiercast.ledger.model import HeldJob
from tiercast.samples import envelope, sample_data

#: A process reads the body of a delivery once, so each has a delivery of its own.
_DELIVERIES = count(1)


def action_spec(cls: type[Action], effects: Path, **changes: Any) -> ActionSpec:
    """An action named `act` of a kind of the tests."""
    options = {
        "effects": str(effects),
        "behaviour": "{{ event.customer.name }}",
        "seconds": changes.pop("seconds", 0.0),
    }
    return ActionSpec(name="act", kind=cls.kind, cls=cls, options=Options(cls.Options(), options), **changes)


def held_job(behaviour: str = "done", number: int = 1, **changes: Any) -> HeldJob:
    """A job under our lease."""
    body = json.dumps(envelope(JOINED, sample_data(name=behaviour), event_id=f"ev{number}")).encode()
    fields: dict[str, Any] = {
        "key": f"voucherify:ev{number}:act", "token": "tok", "attempts": 0, "tries": 0, "effect_possible": False,
        "expiries": 0,
        "delay": 0.0, "delivery": f"d{next(_DELIVERIES)}", "event_id": f"ev{number}", "type": JOINED,
        "at": "2026-08-01T10:00:00.000Z", "created_us": 1, "source": "voucherify", "form": "envelope", "once": None,
        "body": body,
    }  # fmt: skip
    return HeldJob(**(fields | changes))
