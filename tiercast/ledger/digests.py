"""Keyed digests: how customers stand in the ledger's indexes and groups without being named there.

The key is a secret of its own (`TIERCAST_HASH_KEY`, or made once and kept in the ledger). Back it up: without it,
once places and the search for a customer no longer match.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import blake2b

from ..references import canonical

#: Bytes of a digest: 96 bits. A customer's has 90, so that a chance collision among 10^9 is one in 10^9.
_SIZE = 12

#: Characters of a digest that tells apart what one customer has: 48 bits.
_SHORT = 8


class Digests:
    """Makes digests under one key."""

    def __init__(self, key: str) -> None:
        self._keyed = blake2b(digest_size=_SIZE, key=blake2b(key.encode(), digest_size=32).digest())
        # Few campaigns and tiers, told by many events.
        self.short = lru_cache(maxsize=4096)(self._short)

    def of(self, *parts: str) -> str:
        """Digest a list of texts: 16 characters of base64url. Different lists never run together."""
        message = b""
        for part in parts:
            text = part.encode()
            message += len(text).to_bytes(4, "big") + text
        digest = self._keyed.copy()
        digest.update(message)
        return urlsafe_b64encode(digest.digest()).decode()

    def _short(self, *parts: str) -> str:
        """Digest a list of texts to 8 characters: for what needs to be told apart among few, such as one customer's."""
        return self.of(*parts)[:_SHORT]

    def customer(self, project: str, kind: str, value: str) -> str:
        """Digest one name of a customer within a Voucherify project, in the form in which it is compared.

        The last character is the first letter of `kind` (id, source_id or email), so that the ledger knows an id.
        """
        return self.of("customer", project, kind, canonical(kind, value))[:-1] + kind[0]

    def check(self) -> str:
        """Digest a constant: equal for processes that use the same key."""
        return self.of("check")
