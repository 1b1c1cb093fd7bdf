"""What every kind that speaks HTTP shares, for plug-ins too.

A kind makes one client for its life and sends each request through it:

    self._client = Client(timeout=timeout)
    ...
    answer = await self._client.send("POST", url, json={...}, timeout=job.timeout, secrets=[token], personal=job.event)

`send` returns an answer of status 2xx, and raises what `Action.perform` may raise for everything else.
"""

from .addresses import AddressRefused, is_public, refuse_private_host
from .answers import FIXED_PATH, Answer, classify, vendor_message
from .client import MAX_CONNECTIONS, Client
from .deadline import Deadline
from .encoding import encode_json
from .redact import personal_values, redact, without_values
from .waits import Waits, retry_after

__all__ = [
    "FIXED_PATH",
    "MAX_CONNECTIONS",
    "AddressRefused",
    "Answer",
    "Client",
    "Deadline",
    "Waits",
    "classify",
    "encode_json",
    "is_public",
    "personal_values",
    "redact",
    "refuse_private_host",
    "retry_after",
    "vendor_message",
    "without_values",
]
