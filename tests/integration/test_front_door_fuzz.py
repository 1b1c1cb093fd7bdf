"""Hostile bytes at the front door, for a bounded time and from a fixed seed: no fault, no traceback, no hang."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import psutil
import pytest
import redis

from tests.door import BODY, SECRET, URL, Door, opened
from tiercast.embedded import EmbeddedServer
from tiercast.signature import sign

SEED = int(os.environ.get("TIERCAST_TEST_SEED", "20261123"))
SECONDS = 8.0

METHODS = [
    b"POST",
    b"POST",
    b"POST",
    b"GET",
    b"HEAD",
    b"PUT",
    b"OPTIONS",
    b"CONNECT",
    b"post",
    b"P\x00ST",
    b"",
    b"POST " * 50,
]
PATHS = [
    URL.encode(), URL.encode(), b"/", b"/healthz", b"/readyz", b"*", b"", b"//", b"/webhooks/", b"/webhooks/%00",
    b"/webhooks/%ff%fe", b"/webhooks/../voucherify", b"/webhooks/voucherify?" + b"a=b&" * 500, b"/" + b"x" * 9000,
    b"/webhooks/voucherify/", b"http://evil.example/webhooks/voucherify", b"/webhooks/\xe2\x98\x83", b"/%",
]  # fmt: skip
VERSIONS = [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"", b"http/1.1"]
LENGTHS = [
    b"0",
    b"-1",
    b"+5",
    b"5, 5",
    b"5, 6",
    b"1e3",
    b"0x10",
    b"9" * 30,
    b"262145",
    b"10000000",
    b"",
    b"\xd9\xa3",
    b" 7 ",
]
ENCODINGS = [b"chunked", b"gzip, chunked", b"chunked, chunked", b"identity", b"xchunked", b"\x0bchunked", b""]
HEADERS = [
    b"Expect: 100-continue", b"Connection: close", b"Connection: upgrade\r\nUpgrade: h2c", b"Host: ",
    b"Host: a\r\nHost: b",
    b"Content-Type: application/json; charset=\xff", b"Content-Encoding: gzip", b"Cookie: " + b"a=b; " * 2000,
    b"X-Forwarded-For: " + b"1.1.1.1, " * 200, b" folded: x", b"no colon", b": empty", b"a\x00b: c",
    b"x-long: " + b"y" * 70_000,
    b"x-voucherify-signature: " + b"0" * 64, b"x_voucherify_signature: " + b"0" * 64, b"Range: bytes=0-", b"Trailer: x",
    b"X-HTTP-Method-Override: DELETE", b"x: \r\n\tfolded",
]  # fmt: skip


def request(random: Random) -> bytes:
    """A request that is wrong in up to a few places."""
    if random.random() < 0.05:
        return random.randbytes(random.randrange(1, 3000))
    body = random.choice([b"", b"x", BODY, random.randbytes(500), b"{" * 5000, b'"' + b"\\" * 999, b" " * 100_000])
    head = [random.choice(METHODS if random.random() < 0.3 else METHODS[:1]) + b" "
            + random.choice(PATHS if random.random() < 0.4 else PATHS[:1]) + b" "
            + random.choice(VERSIONS if random.random() < 0.2 else VERSIONS[:1])]  # fmt: skip
    if random.random() < 0.9:
        head.append(b"Host: x")
    if random.random() < 0.6:
        head.append(b"x-voucherify-signature: " + sign(body, SECRET).encode())
    kind = random.random()
    if kind < 0.5:
        head.append(b"Content-Length: %d" % len(body))
    elif kind < 0.7:
        head.append(b"Content-Length: " + random.choice(LENGTHS))
    elif kind < 0.9:
        head.append(b"Transfer-Encoding: " + random.choice(ENCODINGS))
        body = chunks(random, body)
    head += random.sample(HEADERS, random.choice([0, 0, 1, 2]))
    raw = b"\r\n".join(head) + b"\r\n\r\n" + body
    if random.random() < 0.2:
        raw = raw[: random.randrange(len(raw))]
    if random.random() < 0.1:
        at = random.randrange(len(raw) + 1)
        raw = raw[:at] + random.randbytes(3) + raw[at:]
    return raw * (2 if random.random() < 0.1 and len(raw) < 10_000 else 1)


def chunks(random: Random, body: bytes) -> bytes:
    """The body in chunks, some of them wrong."""
    size = random.choice(
        [b"%x" % len(body), b"%X" % len(body), b"0", b"-1", b"f" * 20, b"", b"%x;ext=1" % len(body), b"g"]
    )
    return (
        size + b"\r\n" + body + random.choice([b"\r\n0\r\n\r\n", b"\r\n0\r\nx: y\r\n\r\n", b"", b"\r\n", b"0\r\n\r\n"])
    )


def knock(door: Door, raw: bytes) -> bytes:
    """Send the bytes, say that no more will come, and return the first line of the answer, if any."""
    with socket.create_connection(("127.0.0.1", door.port), timeout=15) as connection:
        try:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(65536).partition(b"\r\n")[0]
        except TimeoutError:
            raise AssertionError(f"no answer to {raw[:2000]!r}") from None
        except OSError:
            return b""  # the server has hung up, which is an answer, too


@pytest.fixture
def door(server: EmbeddedServer, client: redis.Redis, tmp_path: Path) -> Iterator[Door]:
    with opened(server, tmp_path, workers=1, env={"TIERCAST_SPOOL_DIR": str(tmp_path / "spool")}) as door:
        yield door


def test_hostile_bytes_cause_no_fault_no_traceback_and_no_hang(door: Door) -> None:
    processes = {child.pid for child in psutil.Process(door.process.pid).children()}
    deadline = time.monotonic() + SECONDS

    def client(number: int) -> Counter[bytes]:
        random = Random(SEED + number)
        seen: Counter[bytes] = Counter()
        while time.monotonic() < deadline:
            raw = request(random)
            line = knock(door, raw)
            assert line == b"" or line.startswith(b"HTTP/1."), line
            status = line[9:12]
            assert status[:1] != b"5" or status == b"503", (line, raw[:2000])
            seen[status] += 1
        return seen

    # When four clients send what they should not, for a while
    with ThreadPoolExecutor(4) as pool:
        seen = sum(pool.map(client, range(4)), Counter[bytes]())

    # Then every sort of answer was given, nothing failed, and good deliveries are stored as ever
    assert {b"202", b"400", b"401", b"404", b"405", b"413"} <= set(seen), seen
    log = door.log()
    assert not [word for word in ("Traceback", "receiver.failed", "panicked", SECRET) if word in log]
    assert {child.pid for child in psutil.Process(door.process.pid).children()} == processes
    started = time.monotonic()
    assert [door.post().status_code for _ in range(5)] == [202] * 5
    assert time.monotonic() - started < 5
