"""The sample event of `tiercast up`: signed, through the front door, like Voucherify's own."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from ..errors import TiercastError
from ..http_client import HttpClient, NoAnswer, NotConnected
from ..samples import envelope, sample_data
from ..signature import HEADER, sign


class SampleRefused(TiercastError):
    """The receiver did not accept a sample."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A sample was stored: its delivery id, and how many milliseconds the answer took."""

    delivery: str
    ms: float


def send_sample(url: str, secret: str, *, email: str | None = "ines.okafor@example.com") -> Sent:
    """Post one signed "joined" event.

    Raises:
        SampleRefused: it was not accepted.
    """
    type = "customer.loyalty.tier.joined"
    body = json.dumps(envelope(type, sample_data(type, email=email), target_url=url), separators=(",", ":")).encode()
    headers = {"content-type": "application/json", HEADER: sign(body, secret)}
    with HttpClient(url, timeout=10) as client:
        try:
            # The connection's beginning is no part of what the answer takes.
            client.request("GET", url.partition("/webhooks/")[0] + "/healthz")
            began = time.perf_counter()
            answer = client.request("POST", url, body=body, headers=headers)
            ms = (time.perf_counter() - began) * 1000
        except (NotConnected, NoAnswer) as error:
            raise SampleRefused(f"no answer ({error})") from None
    if answer.status != 202:
        raise SampleRefused(str(answer))
    try:
        return Sent(str(json.loads(answer.body)["delivery"]), ms)
    except (ValueError, KeyError, TypeError):
        raise SampleRefused("what answers on this port is no receiver of Tiercast") from None


def is_ready(base: str) -> bool:
    """Whether the receiver can store."""
    try:
        with HttpClient(base, timeout=1) as client:
            return client.request("GET", f"{base}/readyz").status == 200
    except (NotConnected, NoAnswer):
        return False
