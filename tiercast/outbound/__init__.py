"""What every kind that speaks HTTP shares, for plug-ins too.

A kind makes one client for its life and sends each request through `send`:

    self._client = make_client(timeout=self.timeout)
    ...
    request = self._client.build_request("POST", url, json={...})
    answer = send(self._client, request, timeout=job.timeout, secrets=[token])

`send` returns an answer of status 2xx, and raises what `Action.perform` may raise for everything else.
"""

from .addresses import AddressRefused, is_public, refuse_private_host
from .answers import classify, retry_after, vendor_message
from .call import send
from .client import make_client
from .deadline import Deadline
from .redact import personal_values, redact

__all__ = [
    "AddressRefused",
    "Deadline",
    "classify",
    "is_public",
    "make_client",
    "personal_values",
    "redact",
    "refuse_private_host",
    "retry_after",
    "send",
    "vendor_message",
]
