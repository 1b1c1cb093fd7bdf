"""What the receiver needs of the place where deliveries are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tiercast.errors import LedgerError

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


class Store(Protocol):
    """The ledger, or the ledger with the spool behind it."""

    def record(self, deliveries: Sequence[Triple], *, due_ms: Sequence[int] | None = None) -> Recorded:
        """Store all of (source, delivery id, raw body) durably, or none and raise a LedgerError.

        `due_ms` is when each arrived, milliseconds since 1970; by default now.
        """

    def ping(self) -> str | None:
        """Return soon if it could store now, with a word on what is amiss; else raise a LedgerError."""


def reason_of(error: LedgerError) -> str:
    """Say in words for a public page why something cannot be stored.

    A plain LedgerError quotes the server, which may name users and keys; its subclasses hold words of ours only.
    """
    return str(error) if type(error) is not LedgerError else "the ledger refuses a command; see the log"
