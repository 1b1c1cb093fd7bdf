"""The usual set-up: one task reads the event, one for each action does it. Celery's defaults throughout."""

from __future__ import annotations

import json
import os
import time

from celery import Celery
from flask import Flask, request

from tests.chaos.sink import EFFECTS, connect, entry
from tiercast.signature import verify

SECRET = os.environ.get("BASELINE_SECRET", "")
SLOW = 0.3

celery = Celery("baseline", broker=os.environ.get("BASELINE_BROKER", "redis://127.0.0.1:6379/0"))
app = Flask("baseline")


@app.post("/webhook")
def receive() -> tuple[dict[str, str], int]:
    """Check the signature, hand the body to Celery, acknowledge."""
    raw = request.get_data()
    if not verify(raw, request.headers.get("x-voucherify-signature"), [SECRET]).ok:
        return {"error": "signature"}, 401
    process.delay(raw.decode())
    return {"delivery": ""}, 202


@celery.task  # type: ignore[untyped-decorator]
def process(body: str) -> None:
    """Read the event, and hand each action to Celery."""
    event = json.loads(body)["event"]
    upgraded = event["type"].endswith("upgraded")
    for action in ("quick", "slow", "paid") if upgraded else ("quick", "bulk"):
        perform.delay(f"voucherify:{event['id']}:{action}")


@celery.task  # type: ignore[untyped-decorator]
def perform(key: str) -> None:
    """Have the effect; the slow one takes as long as ours."""
    slow = SLOW if key.endswith(":slow") else 0.0
    began = time.monotonic()
    time.sleep(slow / 2)
    client = connect(os.environ["BASELINE_SINK"])
    client.xadd(EFFECTS, entry(key, attempt=1, began=began))
    client.close()
    time.sleep(slow / 2)
