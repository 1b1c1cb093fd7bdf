"""The sink: a server of its own, never disturbed, that keeps every effect in the order in which it happened."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tiercast.embedded import EmbeddedServer

#: A stream: one entry an effect, its id the millisecond in which it happened.
EFFECTS = "effects"

#: A set: the keys that had their effect.
SEEN = "seen"

#: A hash: when, in milliseconds of the monotonic clock, a job asked to be repeated later.
ASKED = "asked"


@dataclass(frozen=True, slots=True)
class Happened:
    """One effect. Times are milliseconds since 1970 on this machine's clock, which the ledger shares.

    Args:
        ahead: how far the clock of the process that made it was ahead.
    """

    at: int
    began: int
    attempt: int
    ahead: int


def entry(key: str, *, attempt: int, began: float) -> dict[Any, Any]:
    """What an effect puts into the stream; `began` is seconds of the monotonic clock, which no process has wrong."""
    return {
        "key": key,
        "attempt": attempt,
        "began": round(began * 1000),
        "clock": round(time.time() * 1000),
    }


def connect(url: str) -> redis.Redis:
    """A client that sends nothing twice by itself: that would be a double of our own making."""
    return redis.Redis.from_url(url, socket_timeout=8, retry=Retry(NoBackoff(), 0))


class Sink:
    """A Valkey without a file, and what it has seen. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedServer(folder, appendonly="no", appendfsync="no")

    @property
    def url(self) -> str:
        """Where the kinds connect."""
        return self._server.url

    def effects(self) -> dict[str, list[Happened]]:
        """Every effect by the job's key, in the order in which they happened."""
        found: dict[str, list[Happened]] = defaultdict(list)
        since_1970 = _since_1970()
        client: Any = connect(self.url)
        for entry, fields in client.xrange(EFFECTS):
            at = int(entry.partition(b"-")[0])
            happened = Happened(
                at=at,
                began=int(fields[b"began"]) + since_1970,
                attempt=int(fields[b"attempt"]),
                ahead=int(fields[b"clock"]) - at,
            )
            found[fields[b"key"].decode()].append(happened)
        client.close()
        return dict(found)

    def asked(self) -> dict[str, int]:
        """When each job that asked for it last asked to be repeated later: milliseconds since 1970."""
        client: Any = connect(self.url)
        since_1970 = _since_1970()
        found = {key.decode(): int(at) + since_1970 for key, at in client.hgetall(ASKED).items()}
        client.close()
        return found

    def __enter__(self) -> Sink:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()


def _since_1970() -> int:
    """What is to be added to milliseconds of the monotonic clock."""
    return round((time.time() - time.monotonic()) * 1000)
