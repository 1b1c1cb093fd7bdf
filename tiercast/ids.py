"""Delivery ids: UUIDv7, which sort by the time of arrival (RFC 9562, section 5.7)."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable

#: Characters of a delivery's id; the ledger's scripts count on it.
DELIVERY_ID_LENGTH = 36

_FORM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

#: The bits of a UUIDv7 that are not time, version or variant: 12 of `rand_a` and 62 of `rand_b`.
_TAIL_BITS = 74
_TAIL_MASK = (1 << _TAIL_BITS) - 1
_LOW_MASK = (1 << 62) - 1
_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62


class DeliveryIds:
    """Makes ids that rise strictly within a process, whatever its threads and its clock do.

    Within one millisecond, and while the clock is behind an id already given, the last id's random tail is
    raised by a random step instead of drawn anew (RFC 9562, section 6.2, method 2). An id's time is therefore
    never earlier than that of the id before it.

    Args:
        clock: nanoseconds since 1970.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ms = -1
        self._tail = 0

    def new(self) -> str:
        """Return the next id in its text form, 36 characters."""
        random = int.from_bytes(os.urandom(10), "big")
        with self._lock:
            ms = self._clock() // 1_000_000
            if ms > self._ms:
                self._ms = ms
                # Half of the range is kept free above the first tail, so that raising it has room.
                self._tail = random & (_TAIL_MASK >> 1)
            else:
                self._tail += 1 + (random & 0xFFFF_FFFF)
                if self._tail > _TAIL_MASK:
                    self._ms += 1
                    self._tail = random & (_TAIL_MASK >> 1)
            ms, tail = self._ms, self._tail
        number = ms << 80 | _VERSION | tail >> 62 << 64 | _VARIANT | tail & _LOW_MASK
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


#: Makes the next delivery id of this process.
new_delivery_id = DeliveryIds().new


def received_ms(delivery_id: str) -> int:
    """Return when a delivery arrived, in milliseconds since 1970, from its id.

    Raises:
        ValueError: this is not the id of a delivery.
    """
    if not _FORM.fullmatch(delivery_id):
        raise ValueError(f"{delivery_id[:64]!r} is not a delivery id; expected a UUIDv7 such as {EXAMPLE}.")
    return int(delivery_id[:8] + delivery_id[9:13], 16)


#: What a delivery id looks like, for messages and help.
EXAMPLE = "01980a3c-7d52-7c1e-9a44-3f2b8d0e6c71"
