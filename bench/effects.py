"""What every action of every participant does: one INCR, or where a delay is measured, a note of when it started.

Standard library only, since the peers' environments import it too.
"""

from __future__ import annotations

import os
import time
from typing import Any

#: Where each process finds the server, and the sender's secret.
URL_VARIABLE, SECRET_VARIABLE = "BENCH_REDIS_URL", "BENCH_SECRET"

#: The three actions of every event.
ACTIONS = ("a", "b", "c")

#: Events whose id starts so are noted with the time of their start, not counted.
STAMPED = "evcus_stamp"

#: The list of "<event id> <action> <seconds since 1970>".
STAMPS = "bench:stamps"

#: The header that carries Voucherify's signature.
SIGNATURE = "x-voucherify-signature"


def redis_url() -> str:
    """The server that this process uses."""
    return os.environ[URL_VARIABLE]


def secret() -> bytes:
    """The secret that signs the webhooks."""
    return os.environ[SECRET_VARIABLE].encode()


def counter(action: str) -> str:
    """The key that an action increments."""
    return f"bench:{action}"


def effect(client: Any, action: str, event_id: str) -> Any:
    """Have the effect. What the client returns is returned, so that an asyncio client's can be awaited."""
    if event_id.startswith(STAMPED):
        return client.rpush(STAMPS, f"{event_id} {action} {time.time():.6f}")
    return client.incr(counter(action))
