"""Who sees to a lane's suspects: the owed members that have lost a lease (see worker/alone.py)."""

from __future__ import annotations

from typing import NamedTuple

import redis

from .store import Ledger, _translate


class Suspects(NamedTuple):
    """How many members of a lane have lost a lease and are owed; how many more leases end soon, renewed by nobody."""

    lost: int
    lapsing: int


def count_suspects(ledger: Ledger, lane: str) -> Suspects:
    """Count a lane's suspects. A lease that has ended counts even while no claim has looked at it.

    Raises:
        LedgerError: the ledger fails.
    """
    try:
        seconds, us = ledger.client.time()
        now, held = seconds * 1000 + us // 1000, ledger.key(f"held:{lane}")
        pipe = ledger.client.pipeline(transaction=False)
        pipe.hlen(ledger.key(f"lapsed:{lane}"))
        pipe.zcount(held, "-inf", now)
        pipe.zcount(held, f"({now}", now + round(ledger.soon * 1000))
        lapsed, ended, lapsing = pipe.execute()
        return Suspects(lapsed + ended, lapsing)
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
