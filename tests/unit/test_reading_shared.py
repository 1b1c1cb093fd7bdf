"""Voucherify's own documented bodies, where they are at hand (they are not ours to carry)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tiercast.event import customer_ids
from tiercast.stored import revive
from worker.intake.reader import Preview, Read, Unreadable, read

SHARED = Path(os.environ.get("TIERCAST_SHARED") or Path(__file__).parents[3] / "shared") / "voucherify"
DATA = sorted((SHARED / "data").glob("*.json"))
ENVELOPES = SHARED / "envelopes"

pytestmark = pytest.mark.skipif(not DATA, reason="Voucherify's documented bodies are not at hand")


def outcome(body: bytes, event: str | None = None) -> Read | Unreadable | Preview:
    return read(body, source="voucherify", bare_event=event, delivery_id="d-1", received_us=1_000_000)


def enveloped(type: str, data: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "type": "free text",
            "event": {"id": "evcus_1", "type": type, "created_at": data["created_at"]},
            "data": data,
            "source": {"id": "distr_1", "object": "distribution", "target_url": "https://x.example"},
            "id": "whs_1",
            "project_id": "proj_1",
            "created_at": "2020-01-01T00:00:00.000Z",
        }
    ).encode()


@pytest.mark.parametrize("form", ["envelope", "raw"])
@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_documented_tier_events(path: Path, form: str) -> None:
    type = path.stem
    data = json.loads(path.read_bytes())
    body = path.read_bytes() if form == "raw" else enveloped(type, data)
    reading = outcome(body, type if form == "raw" else None)
    assert isinstance(reading, Read), reading
    event = reading.event
    assert (reading.form, reading.notes) == (form, ())
    assert (event.type, event.at, event.data) == (type, data["created_at"], data)
    assert (event.customer, event.campaign) == (data["customer"], data["campaign"])
    after = data.get("loyalty_tier_to") or data.get("loyalty_tier")
    assert event.tier == (None if type.endswith("left") else after)
    assert customer_ids(event).id == data["customer"]["id"]
    assert revive(body, **event.head()) == event


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("distribution_full_customer.redemption.succeeded", "customer.redemption.succeeded"),
        ("project_full_voucher.published", "voucher.published"),
    ],
)
def test_documented_envelopes(name: str, type: str) -> None:
    reading = outcome((ENVELOPES / f"{name}.json").read_bytes())
    assert isinstance(reading, Read), reading
    assert (reading.event.type, reading.form, reading.notes) == (type, "envelope", ())
    assert customer_ids(reading.event).id == "cust_ID"


def test_documented_preview() -> None:
    body = (ENVELOPES / "distribution_payload_designer_sample_output.json").read_bytes()
    assert isinstance(outcome(body), Preview)


@pytest.mark.parametrize(
    "name",
    ["distribution_payload_designer_raw_payload", "distribution_payload_designer_template_customer_summary"],
)
def test_documented_raw_payloads(name: str) -> None:
    body = (ENVELOPES / f"{name}.json").read_bytes()
    assert isinstance(outcome(body), Unreadable)
    reading = outcome(body, "customer.publication.succeeded")
    assert isinstance(reading, Read)
    assert (reading.form, reading.event.data) == ("raw", json.loads(body))
