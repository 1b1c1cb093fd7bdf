"""The receiver as it runs: `python -m receiver` on granian, with a real ledger behind it."""

from __future__ import annotations

import hashlib
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
import redis

from tests.door import BODY, SECRET, URL, Door, opened, until
from tiercast.embedded import EmbeddedServer, free_port
from tiercast.ledger import Ledger
from tiercast.ledger.model import Claim
from tiercast.oversized import Oversized
from tiercast.signature import sign


@pytest.fixture
def door(server: EmbeddedServer, client: redis.Redis, tmp_path: Path) -> Iterator[Door]:
    """A receiver with an empty ledger."""
    with opened(server, tmp_path) as door:
        yield door


def bodies(ledger: Ledger) -> dict[str, bytes]:
    """Take all deliveries of the source out of the ledger, by id."""
    exchange = ledger.exchange_deliveries("voucherify", claim=Claim(token="test", n=1000))
    return {held.id: held.body for held in exchange.claimed}


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


def test_above_the_hard_limit_is_413_before_the_body_comes_and_the_connection_is_closed(door: Door) -> None:
    # Given a client that only declares ten megabytes
    signed = f"x-voucherify-signature: {'0' * 64}".encode()
    head = b"POST %s HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: 10000000\r\n\r\n" % (URL.encode(), signed)
    with socket.create_connection(("127.0.0.1", door.port), timeout=30) as connection:
        connection.sendall(head)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")

        # When it goes on sending, then little of it is read
        sent = 0
        with suppress(OSError):
            while sent < 100_000_000:
                sent += connection.send(b"x" * 100_000)
        assert sent < 100_000_000


def test_authentic_body_above_the_limit_is_stored_as_a_note(door: Door, ledger: Ledger) -> None:
    body = b'{"text": "' + b"x" * 3_000_000 + b'"}'

    answers = [door.post(body)]
    chunks = (body[start : start + 100_000] for start in range(0, len(body), 100_000))
    answers.append(door.http.post(URL, content=chunks, headers={"x-voucherify-signature": sign(body, SECRET)}))

    assert [answer.status_code for answer in answers] == [202, 202]
    note = Oversized(size=len(body), sha256=hashlib.sha256(body).hexdigest())
    assert [Oversized.from_body(stored) for stored in bodies(ledger).values()] == [note, note]


def test_dripping_body_is_ended_in_time_and_health_is_answered_beside_a_crowd(door: Door) -> None:
    if sys.platform != "linux":
        pytest.skip("the kernel's count is Linux's")
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\nx-voucherify-signature: %s\r\n\r\n"
    with ExitStack() as stack:
        # Given more slow clients than one address has places
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", door.port), timeout=60)) for _ in range(300)]
        started = time.monotonic()
        for one in slow:
            with suppress(OSError):
                one.sendall(head % (URL.encode(), b"0" * 64))

        # When each goes on with a byte now and then
        left = slow
        while left:
            assert time.monotonic() - started < 20
            assert door.http.get("/healthz").status_code == 200
            assert door.post().status_code == 202
            left = [one for one in left if drips(one)]
            time.sleep(0.2)


def drips(connection: socket.socket) -> bool:
    """Send a byte more; False where the connection is ended."""
    try:
        connection.sendall(b"x")
        connection.settimeout(0.001)
        return bool(connection.recv(4096))
    except TimeoutError:
        return True
    except OSError:
        return False


def test_readyz_notices_that_the_ledger_refuses_writes_though_nobody_posts(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "valkey")
    server.start()
    try:
        with opened(server, tmp_path, workers=1) as door, redis.Redis.from_url(server.url) as client:
            client.config_set("min-replicas-to-write", 1)
            until(lambda: door.http.get("/readyz").status_code == 503)
            assert "NOREPLICAS" in door.http.get("/readyz").json()["reason"]
            assert [door.post().status_code for _ in range(30)] == [503] * 30
            assert door.log().count('"deliveries.unstored"') == 1

            client.config_set("min-replicas-to-write", 0)
            assert door.post().status_code == 202
            until(lambda: door.http.get("/readyz").status_code == 200)
    finally:
        server.stop()


def test_clients_that_stall_in_the_body_hold_up_no_other_and_are_ended(door: Door) -> None:
    # Given 200 clients that send half a body and then nothing
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc" % URL.encode()
    with ExitStack() as stack:
        stalled = [
            stack.enter_context(socket.create_connection(("127.0.0.1", door.port), timeout=60)) for _ in range(200)
        ]
        for connection in stalled:
            connection.sendall(head)

        # When good requests come meanwhile, then each is stored soon
        with ThreadPoolExecutor(8) as pool:
            started = time.monotonic()
            answers = list(pool.map(lambda _: door.post().status_code, range(100)))
        assert answers == [202] * 100
        assert time.monotonic() - started < 8

        # And in the end the others lose their connection
        if sys.platform == "linux":
            for connection in stalled:
                connection.settimeout(60)
                with suppress(ConnectionError):
                    while connection.recv(4096):
                        pass
            until(lambda: "connections.ended" in door.log())
            assert door.post().status_code == 202
    assert "Traceback" not in door.log()


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


def test_server_killed_while_its_processes_still_start_leaves_none_of_them(door: Door) -> None:
    second = door.start(port=free_port())
    until(lambda: len(psutil.Process(second.pid).children()) >= 2)
    workers = psutil.Process(second.pid).children(recursive=True)

    second.send_signal(signal.SIGKILL)

    second.wait()
    _, left = psutil.wait_procs(workers, timeout=15)
    for process in left:
        process.kill()
    assert left == []


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
