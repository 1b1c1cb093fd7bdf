"""The sample event of `tiercast up`: signed, through the front door, like Voucherify's own."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import httpx

from ..samples import envelope, sample_data
from ..signature import sign


@dataclass(frozen=True, slots=True)
class Sent:
    """A sample was stored: its delivery id, and how many milliseconds the answer took."""

    delivery: str
    ms: float


def send_sample(url: str, secret: str, *, email: str | None = "ines.okafor@example.com") -> Sent:
    """Post one signed "joined" event.

    Raises:
        httpx.HTTPError: it was not accepted.
    """
    type = "customer.loyalty.tier.joined"
    body = json.dumps(envelope(type, sample_data(type, email=email), target_url=url), separators=(",", ":")).encode()
    headers = {"content-type": "application/json", "x-voucherify-signature": sign(body, secret)}
    with httpx.Client(timeout=10, trust_env=False) as client:
        client.get(url.partition("/webhooks/")[0] + "/healthz")
        began = time.perf_counter()
        answer = client.post(url, content=body, headers=headers)
        ms = (time.perf_counter() - began) * 1000
        answer.raise_for_status()
        return Sent(answer.json()["delivery"], ms)


def is_ready(base: str) -> bool:
    """Whether the receiver can store."""
    try:
        return httpx.get(f"{base}/readyz", timeout=1, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
