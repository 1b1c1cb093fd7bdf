"""The sink: a server of its own, never disturbed, that keeps every effect in the order in which it happened."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Happened:
    """One effect. Times are milliseconds since 1970 on this machine's clock, which the ledger shares."""

    at: int
    began: int
    attempt: int


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
        client: Any = connect(self.url)
        for entry, fields in client.xrange(EFFECTS):
            at = int(entry.partition(b"-")[0])
            happened = Happened(at, int(fields[b"began"]), int(fields[b"attempt"]))
            found[fields[b"key"].decode()].append(happened)
        client.close()
        return dict(found)

    def __enter__(self) -> Sink:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
