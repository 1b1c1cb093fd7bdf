"""What is stored of an authentic body that was too large to keep: its size and its SHA-256 digest.

The receiver stores such a note in place of the body, like any other body, so the delivery takes the same way: group
commit, spool, lane, claim. The planner puts it into quarantine. A note begins with a byte that no JSON document begins
with, so no event can be taken for one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NOTE = re.compile(rb"\x00tiercast oversized (\d{1,12}) ([0-9a-f]{64})\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Oversized:
    """A body that was not kept. `size` is bytes, `sha256` the lower-case hexadecimal digest of the raw bytes."""

    size: int
    sha256: str

    def to_body(self) -> bytes:
        """The note that is stored in place of the body."""
        return b"\x00tiercast oversized %d %s\n" % (self.size, self.sha256.encode())

    @classmethod
    def from_body(cls, body: bytes) -> Oversized | None:
        """Read a note back; None for every other body."""
        if body[:1] != b"\x00":
            return None
        found = _NOTE.fullmatch(body)
        return cls(size=int(found[1]), sha256=found[2].decode()) if found else None

    @property
    def reason(self) -> str:
        """Why the delivery is in quarantine, and what to do."""
        return (
            f"a body of {self.size} bytes, above TIERCAST_MAX_BODY, was not kept; its SHA-256 digest is {self.sha256}. "
            "Raise TIERCAST_MAX_BODY and have Voucherify send it again"
        )
