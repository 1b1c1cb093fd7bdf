"""What the receiver needs of the place where deliveries are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .commit import Triple


class Recorded(Protocol):
    """What became of a batch that was stored."""

    @property
    def bells(self) -> Sequence[str]:
        """The lanes that have become due and are to be rung."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """What became of a batch that went to the spool, and why; there is nothing to ring for yet."""

    reason: str
    bells: Sequence[str] = ()


class Recorder(Protocol):
    """Where deliveries can be stored."""

    def record(self, deliveries: Sequence[Triple], *, due_ms: Sequence[int] | None = None) -> Recorded:
        """Store all of (source, delivery id, raw body) durably, or none and raise a LedgerError.

        `due_ms` is when each arrived, milliseconds since 1970; by default now.
        """


class Store(Recorder, Protocol):
    """The ledger, or the ledger with the spool behind it."""

    def ping(self) -> str | None:
        """Return soon if it could store now, with a word on what is amiss; else raise a LedgerError."""
