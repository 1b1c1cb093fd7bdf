"""The work that every participant gets: distinct signed webhooks, as bytes that are ready to be sent."""

from __future__ import annotations

import json

from tiercast.samples import envelope, new_id, sample_data
from tiercast.signature import HEADER, sign

#: The event of all measurements, and the source that it is posted to.
JOINED = "customer.loyalty.tier.joined"
PATH = "/webhooks/voucherify"


def body(event_id: str) -> bytes:
    """A tier-joined event of a customer of its own, as Voucherify would write it."""
    return json.dumps(envelope(JOINED, sample_data(JOINED), event_id=event_id), separators=(",", ":")).encode()


def request(content: bytes, secret: str, *, path: str = PATH) -> bytes:
    """A whole HTTP/1.1 request on a connection that is kept."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n{HEADER}: {sign(content, secret)}\r\n\r\n"
    )
    return head.encode() + content


def event_ids(count: int, prefix: str) -> list[str]:
    """Distinct event ids."""
    return [new_id(prefix) for _ in range(count)]


def requests(ids: list[str], secret: str, *, path: str = PATH) -> list[bytes]:
    """One request for each event id."""
    return [request(body(event_id), secret, path=path) for event_id in ids]
