"""Who sees to a lane's suspects: the owed members that have lost a lease (see worker/alone.py)."""

from __future__ import annotations

import redis

from .store import Ledger, _translate


def count_suspects(ledger: Ledger, lane: str) -> int:
    """How many owed members of a lane have lost a lease.

    Raises:
        LedgerError: the ledger fails.
    """
    try:
        return int(ledger.client.hlen(ledger.key(f"lapsed:{lane}")))
    except redis.RedisError as error:
        raise _translate(error) from error


def may_see_to_suspects(ledger: Ledger, lane: str, seconds: float) -> bool:
    """Whether nobody else has begun to see to a lane's suspects within so many seconds; if so, the caller does.

    Raises:
        LedgerError: the ledger fails.
    """
    try:
        return bool(ledger.client.set(ledger.key(f"aside:{lane}"), 1, nx=True, px=round(seconds * 1000)))
    except redis.exceptions.OutOfMemoryError:
        return True
    except redis.RedisError as error:
        raise _translate(error) from error
