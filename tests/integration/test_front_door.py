"""The receiver as it runs: `python -m receiver` on granian, with a real ledger behind it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from tiercast.embedded import EmbeddedServer, free_port
from tiercast.ledger import Ledger
from tiercast.ledger.model import Claim
from tiercast.signature import sign

ROOT = Path(__file__).parents[2]
SECRET = "front-door-secret"
BODY = b'{"type": "customer.loyalty.tier.joined", "data": null}'
URL = "/webhooks/voucherify"


class Door:
    """A running receiver."""

    def __init__(self, server: EmbeddedServer, folder: Path) -> None:
        self.port = free_port()
        self.output = folder / "receiver.log"
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TIERCAST_")},
            "TIERCAST_REDIS_URL": server.url,
            "TIERCAST_PREFIX": "t",
            "TIERCAST_WEBHOOK_SECRETS": SECRET,
            "TIERCAST_LOG_FORMAT": "json",
        }
        self.folder = folder
        self.process = self.start()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    def start(self) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as output:
            command = [sys.executable, "-m", "receiver", "--port", str(self.port), "--workers", "2"]
            path = os.pathsep.join([str(ROOT), *filter(None, [self.environ.get("PYTHONPATH")])])
            return subprocess.Popen(
                command, cwd=self.folder, env={**self.environ, "PYTHONPATH": path}, stdout=output, stderr=output
            )

    def post(self, body: bytes = BODY, **headers: str) -> httpx.Response:
        return self.http.post(URL, content=body, headers={"x-voucherify-signature": sign(body, SECRET), **headers})

    def answers(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def raw(self, request: bytes) -> bytes:
        """Send exactly these bytes and return the first that come back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(request)
            return connection.recv(4096)

    def log(self) -> str:
        return self.output.read_text()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


@contextmanager
def opened(server: EmbeddedServer, folder: Path) -> Iterator[Door]:
    """Run a receiver, and see that nothing of it is left."""
    door = Door(server, folder)
    children: list[psutil.Process] = []
    try:
        until(lambda: door.answers() or door.process.poll() is not None)
        assert door.process.poll() is None, door.log()
        children = psutil.Process(door.process.pid).children(recursive=True)
        yield door
    finally:
        door.http.close()
        door.process.terminate()
        door.process.wait(10)
        _, left = psutil.wait_procs(children, timeout=10)
        for process in left:
            process.kill()
    assert not left


@pytest.fixture
def door(server: EmbeddedServer, client: redis.Redis, tmp_path: Path) -> Iterator[Door]:
    """A receiver with an empty ledger."""
    with opened(server, tmp_path) as door:
        yield door


def bodies(ledger: Ledger) -> dict[str, bytes]:
    """Take all deliveries of the source out of the ledger, by id."""
    turn = ledger.deliveries("voucherify", claim=Claim(token="test", n=1000))
    return {held.id: held.body for held in turn.lent}


def test_acknowledged_deliveries_are_in_the_ledger_byte_for_byte(door: Door, ledger: Ledger) -> None:
    # Given bodies of every sort, signed
    sent = [b"", b"null", b"\x00\xff\xfe", b'{\n "pretty": 1 }', b"x" * 256 * 1024, *[b"%d" % n for n in range(50)]]

    # When they are posted at once
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(door.post, sent))

    # Then each is acknowledged, and stored as it came
    assert {answer.status_code for answer in answers} == {202}
    stored = bodies(ledger)
    assert [stored[answer.json()["delivery"]] for answer in answers] == sent
    assert len(stored) == len(sent)


def test_chunked_body_is_stored(door: Door, ledger: Ledger) -> None:
    answer = door.http.post(
        URL, content=iter([BODY[:9], BODY[9:]]), headers={"x-voucherify-signature": sign(BODY, SECRET)}
    )

    assert answer.status_code == 202
    assert list(bodies(ledger).values()) == [BODY]


@pytest.mark.parametrize(
    "signature", [b"", b"\xff\xe9" * 32, sign(BODY, SECRET).upper().encode(), b"0" * 64, b"0" * 63]
)
def test_bad_signatures_are_refused_and_nothing_is_stored(door: Door, ledger: Ledger, signature: bytes) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % (URL.encode(), len(BODY))

    answer = door.raw(head + b"x-voucherify-signature: " + signature + b"\r\n\r\n" + BODY)

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert bodies(ledger) == {}
    assert "Traceback" not in door.log()
    assert "delivery.refused" in door.log()


def test_too_large_is_answered_before_the_body_comes_and_to_clients_that_send_it_all(door: Door) -> None:
    # Given a client that only declares ten megabytes
    declared = door.raw(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n" % URL.encode())
    assert declared.startswith(b"HTTP/1.1 413 ")

    # And one that listens for an answer only after it has sent them
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=20)
    connection.request("POST", URL, b"x" * 10_000_000)
    assert connection.getresponse().status == 413
    connection.close()

    # And one that sends them in chunks
    chunks = (b"x" * 100_000 for _ in range(100))
    assert door.http.post(URL, content=chunks).status_code == 413


def test_clients_that_stall_in_the_body_hold_up_no_other(door: Door) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc" % URL.encode()
    stalled = [socket.create_connection(("127.0.0.1", door.port), timeout=10) for _ in range(40)]
    try:
        for connection in stalled:
            connection.sendall(head)
        started = time.monotonic()
        assert [door.post().status_code for _ in range(10)] == [202] * 10
        assert time.monotonic() - started < 5
    finally:
        for connection in stalled:
            connection.close()


def test_second_receiver_on_the_port_says_which_option_to_change(door: Door) -> None:
    second = door.start()

    assert second.wait(30) == 1
    assert f"Port {door.port} is in use. Name another with --port." in door.log()


def test_killed_server_leaves_no_process_that_holds_the_port(door: Door) -> None:
    workers = psutil.Process(door.process.pid).children(recursive=True)
    assert workers

    door.process.send_signal(signal.SIGKILL)

    _, left = psutil.wait_procs(workers, timeout=15)
    assert left == []
    assert not door.answers()


def test_killed_worker_is_replaced(door: Door) -> None:
    before = {child.pid for child in psutil.Process(door.process.pid).children()}
    for child in psutil.Process(door.process.pid).children():
        child.kill()

    until(lambda: bool({child.pid for child in psutil.Process(door.process.pid).children()} - before))
    until(door.answers)
    assert door.post().status_code == 202


def test_without_the_ledger_it_answers_503_at_once_and_stores_again_when_it_is_back(tmp_path: Path) -> None:
    # Given a receiver whose ledger goes away
    server = EmbeddedServer(tmp_path / "valkey")
    server.start()
    try:
        with opened(server, tmp_path) as door:
            assert door.post().status_code == 202
            server.stop()

            # When something is posted meanwhile
            started = time.monotonic()
            refused = door.post()

            # Then it is refused for now, quickly, and the receiver is alive but not ready
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
            assert time.monotonic() - started < 3
            assert (door.http.get("/healthz").status_code, door.http.get("/readyz").status_code) == (200, 503)
            assert "Traceback" not in door.log()

            # And stored again once the ledger is back
            server.start()
            until(lambda: door.post().status_code == 202)
    finally:
        server.stop()
