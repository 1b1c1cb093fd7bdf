"""A receiver as it runs, `python -m receiver`, for tests that knock at its door."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tiercast.embedded import EmbeddedServer, free_port
from tiercast.signature import sign

ROOT = Path(__file__).parents[1]
SECRET = "front-door-secret"
BODY = b'{"type": "customer.loyalty.tier.joined", "data": null}'
URL = "/webhooks/voucherify"


class Door:
    """A running receiver.

    Args:
        server: its ledger's server.
        folder: where it runs; its output goes there.
        env: more variables.
        workers: processes.
        through: a command that starts it.
    """

    def __init__(
        self,
        server: EmbeddedServer,
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        workers: int = 2,
        through: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self.output = folder / "receiver.log"
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TIERCAST_")},
            "TIERCAST_REDIS_URL": server.url,
            "TIERCAST_PREFIX": "t",
            "TIERCAST_WEBHOOK_SECRETS": SECRET,
            "TIERCAST_LOG_FORMAT": "json",
            "TMPDIR": str(folder),
            **(env or {}),
        }
        self.workers = workers
        self.folder = folder
        self.through = through
        self.process = self.start()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    def start(self, port: int | None = None) -> subprocess.Popen[bytes]:
        port = port or self.port
        with self.output.open("ab") as output:
            command = [*self.through, sys.executable, "-m", "receiver", "--port", str(port)]
            command += ["--workers", str(self.workers)]
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

    def kill(self) -> None:
        """End the server and all its processes at once, as a crash of the machine would."""
        for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
            process.kill()
        self.process.wait()

    def log(self) -> str:
        return self.output.read_text()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


@contextmanager
def opened(
    server: EmbeddedServer,
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    workers: int = 2,
    through: Sequence[str] = (),
) -> Iterator[Door]:
    """Run a receiver, and see that nothing of it is left."""
    door = Door(server, folder, env=env, workers=workers, through=through)
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
