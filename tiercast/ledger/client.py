"""The client of the ledger's server: redis-py's, with its errors as ours, so that nobody outside knows redis-py."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from ..errors import LedgerError, LedgerFull, LedgerUnavailable
from ..redis_address import RedisAddress
from .refusal import REMEDIES, error_code


class LedgerClient(redis.Redis):
    """A client whose commands raise a LedgerError; redis-py's own error is its cause."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command."""
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            raise translate(error) from error

    def close(self) -> None:
        """Close its connections, those to sentinels, too."""
        super().close()
        if isinstance(self.connection_pool, SentinelConnectionPool):
            self.connection_pool.sentinel_manager.close()

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """Make a pipeline, which raises a LedgerError, too."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Pipeline(Pipeline):
    def execute(self, raise_on_error: bool = True) -> list[Any]:
        try:
            return super().execute(raise_on_error)
        except redis.RedisError as error:
            raise translate(error) from error


def connect(url: str, *, timeout: float, connections: int = 64) -> LedgerClient:
    """Open a client that never retries by itself: repeating is decided where its meaning is known.

    `timeout` is seconds, for connecting and for each answer.
    """
    address = RedisAddress.read(url)
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": connections,
        "health_check_interval": 0,
        **address.client_options(),
    }
    if address.primary is None:
        return LedgerClient(**options)
    sentinels = _Sentinels(address.sentinels, sentinel_kwargs=sentinel_options(address, min(timeout / 2, 1.0)))
    pool = SentinelConnectionPool(address.primary, sentinels, **options)  # type: ignore[no-untyped-call]
    return cast(LedgerClient, LedgerClient.from_pool(pool))


def sentinel_options(address: RedisAddress, timeout: float) -> dict[str, Any]:
    """What a client of each sentinel takes; none is asked twice, since another may know. `timeout` is seconds."""
    return address.sentinel_options() | {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
    }


class _Sentinels(Sentinel):
    """The sentinels, asked one after the other where the primary is.

    redis-py moves the one that answered to the front of their list, which two threads at once must not do: one
    sentinel would take another's place.
    """

    def __init__(self, sentinels: Sequence[tuple[str, int]], **options: Any) -> None:
        super().__init__(sentinels, **options)  # type: ignore[no-untyped-call]
        self._asking = threading.Lock()

    def discover_master(self, service_name: str) -> Any:
        """Where the primary is: host and port."""
        with self._asking:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]


def translate(error: redis.RedisError) -> LedgerError:
    """What an error of redis-py means to us."""
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return LedgerFull("the ledger's server is at its maxmemory")
    if isinstance(error, redis.exceptions.ReadOnlyError):
        return LedgerUnavailable("the ledger's server is a replica and takes no writes")
    if isinstance(error, (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)):
        return LedgerUnavailable(f"the ledger does not answer ({type(error).__name__})")
    code = error_code(error)
    if code is not None and code in REMEDIES:
        # The server's state, and nothing that is wrong with the command: the same may be asked again later.
        return LedgerUnavailable(f"the ledger's server refuses ({code}): {REMEDIES[code]}")
    return LedgerError(f"the ledger refused a command: {error}")
