"""Histories for tests: an SQLite file, and a schema in PostgreSQL where a server is found."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import sqlalchemy as sa

from tiercast.history.address import HistoryAddress
from tiercast.history.rows import FiledAttempt, FiledDelivery, FiledJob, Named

#: Where tests find PostgreSQL, unless TIERCAST_TEST_POSTGRESQL names another. Each test makes a schema and drops it.
POSTGRESQL = "postgresql://postgres@127.0.0.1:5432/postgres"

DIALECTS = ("sqlite", "postgresql")


@cache
def postgresql() -> str | None:
    """The address of a PostgreSQL that answers; None where there is none."""
    url = os.environ.get("TIERCAST_TEST_POSTGRESQL") or POSTGRESQL
    parts = urlsplit(url)
    with suppress(OSError), socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 5432), timeout=1):
        return url
    return None


@contextmanager
def address_of(dialect: str, folder: Path) -> Iterator[HistoryAddress]:
    """The address of a history that is not there yet; what is there afterwards is dropped."""
    if dialect == "sqlite":
        yield HistoryAddress.read(f"sqlite:///{quote(str(folder))}/history.db")
        return
    url = postgresql()
    if url is None:
        pytest.skip("no PostgreSQL on 127.0.0.1:5432; name one with TIERCAST_TEST_POSTGRESQL")
    schema = f"tiercast_{uuid.uuid4().hex}"
    with _administering(url) as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    try:
        yield HistoryAddress.read(f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}")
    finally:
        with _administering(url) as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")


@contextmanager
def _administering(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(HistoryAddress.read(url).url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def sql(address: HistoryAddress) -> Iterator[sa.Connection]:
    """A plain connection to a history, as somebody has who looks at it with SQL."""
    engine = sa.create_engine(address.url if address.path is None else f"sqlite:///{address.path}")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


BEGIN_MS = 1_790_000_000_000


def delivery_id(number: int, ms: int | None = None) -> str:
    """The id of delivery `number`, a second after the one before it unless `ms` says otherwise."""
    text = f"{BEGIN_MS + number * 1000 if ms is None else ms:012x}"
    return f"{text[:8]}-{text[8:]}-7000-8000-{number:012x}"


def a_job(
    number: int = 0, action: str = "welcome", *, source: str = "voucherify", again: int = 1, **more: Any
) -> FiledJob:
    """A job that was done at once, unless told otherwise."""
    name = f"{action}:r{again}" if again > 1 else action
    state = more.setdefault("state", "done")
    more.setdefault("changed_ms", BEGIN_MS + number * 1000 + 500)
    if "history" not in more:
        started = BEGIN_MS + number * 1000 + 100
        more["history"] = (
            FiledAttempt(number=1, started_ms=started, duration_ms=40, outcome=state, error=more.get("text")),
        )
        more.setdefault("attempts", 1)
    return FiledJob(key=f"{source}:evcus_{number:04}:{name}", action=action, **more)


def a_delivery(number: int = 0, *jobs: FiledJob, **more: Any) -> FiledDelivery:
    """A delivery that was processed, with these jobs."""
    values: dict[str, Any] = {
        "id": delivery_id(number),
        "source": "voucherify",
        "state": "processed",
        "settled_ms": BEGIN_MS + number * 1000 + 600,
        "body": b'{"number": %d, "data": {"customer": {"id": "cust_%d"}}}' % (number, number % 10),
        "event_id": f"evcus_{number:04}",
        "type": "customer.loyalty.tier.joined",
        "at": "2026-09-21T14:13:20.000Z",
        "created_us": 1_790_000_000_000_000,
        "form": "envelope",
        "project": "proj_teahouse",
        "customer": (f"{number % 10:015}i", f"{number % 10:015}s"),
        "campaign": Named("camp_1", "Tea house"),
        "tier": Named("ltr_1", "Silver leaf"),
        "names": tuple(job.key.split(":", 2)[2] for job in jobs),
        "jobs": jobs,
    }
    return FiledDelivery(**values | more)
