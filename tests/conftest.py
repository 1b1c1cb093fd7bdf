"""Fixtures that all tests share: a real embedded server for each test process, emptied between tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.histories import DIALECTS, address_of
from tiercast import embedded
from tiercast.embedded import EmbeddedServer
from tiercast.history.address import HistoryAddress
from tiercast.history.store import History
from tiercast.ledger import Ledger
from tiercast.ledger.client import LedgerClient, connect


@pytest.fixture(scope="session", autouse=True)
def other_server() -> None:
    """Run everything on another server than the wheel's: TIERCAST_TEST_SERVER=/usr/bin/redis-server make test."""
    if program := os.environ.get("TIERCAST_TEST_SERVER"):
        embedded.find_server = lambda: program


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A Valkey of this test process, without a file (quick)."""
    with EmbeddedServer(tmp_path_factory.mktemp("valkey"), appendonly="no", appendfsync="no") as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[LedgerClient]:
    """A client of an empty server."""
    opened = connect(server.url, timeout=5)
    opened.flushall()
    yield opened
    opened.close()


@pytest.fixture
def ledger(client: LedgerClient) -> Ledger:
    """An empty ledger on the server's own clock."""
    return Ledger(client, prefix="t")


class Clock:
    """Sets the ledger's clock: `now` is milliseconds."""

    def __init__(self, client: LedgerClient, prefix: str) -> None:
        self._client, self._key = client, f"{prefix}:clock"
        self.now = 1_790_000_000_000
        self.set(self.now)

    def set(self, now: int) -> None:
        self.now = now
        self._client.set(self._key, now)

    def pass_(self, seconds: float) -> None:
        self.set(self.now + round(seconds * 1000))


@pytest.fixture
def clock(client: LedgerClient) -> Clock:
    """The clock of `timed`."""
    return Clock(client, "t")


@pytest.fixture
def timed(client: LedgerClient, clock: Clock) -> Ledger:
    """An empty ledger whose clock the test sets."""
    return Ledger(client, prefix="t", test_clock=True)


@pytest.fixture
def shared() -> Path:
    """The reference material of the sender; skips the test where it is not present."""
    folder = Path(os.environ.get("TIERCAST_SHARED") or Path(__file__).parents[1].parent / "shared") / "voucherify"
    if not folder.is_dir():
        pytest.skip("the sender's reference material is not present")
    return folder


@pytest.fixture(params=DIALECTS)
def history_at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HistoryAddress]:
    """The address of a history that nobody opened yet: SQLite, and PostgreSQL where there is one."""
    with address_of(request.param, tmp_path) as address:
        yield address


@pytest.fixture
def history(history_at: HistoryAddress) -> Iterator[History]:
    """An empty history."""
    with History(history_at) as opened:
        yield opened
