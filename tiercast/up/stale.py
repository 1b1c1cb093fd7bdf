"""Processes that an earlier owner of a folder left behind when it was killed.

They are known by a lock that they inherited, so a number that the system gave to another process since ends nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import TiercastError

#: Seconds that processes have to end after SIGKILL.
_KILL_SECONDS = 5.0


class StaleError(TiercastError):
    """Processes of an earlier owner are still there, or the lock's file is not ours."""


class InheritedLock:
    """A lock on a file that started processes inherit: it is held until the last of them has ended.

    Each process is noted in the file with its number and the moment of its start. They lead sessions of their own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def take(self, *, patience: float) -> None:
        """Take the lock; end the processes that hold it, first gently for `patience` seconds.

        Raises:
            StaleError: they do not end, or the file belongs to somebody else.
        """
        self._fd = _open(self._path)
        if not self._try():
            self._end(patience)
        os.ftruncate(self._fd, 0)

    @property
    def fd(self) -> int:
        """What a process has to inherit."""
        assert self._fd is not None, "the lock is not taken"  # noqa: S101
        return self._fd

    def note(self, pid: int) -> None:
        """Note a process that inherited the lock."""
        os.write(self.fd, f"{pid} {_started(pid)}\n".encode())

    def release(self) -> None:
        """Let go of it; who inherited it still holds it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _try(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._try():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _end(self, patience: float) -> None:
        left = list(self._noted())
        for pid in left:
            _signal(pid, signal.SIGTERM)
        # Where the leaders are gone already, only their children are left, and those are not asked gently.
        if left and self._wait(patience):
            return
        for pid in self._noted():
            _signal_group(pid)
        for pid in _holders(self.fd):
            _signal(pid, signal.SIGKILL)
        if self._wait(_KILL_SECONDS):
            return
        numbers = ", ".join(str(pid) for pid in sorted({*self._noted(), *_holders(self.fd)})) or "unknown numbers"
        self.release()
        raise StaleError(
            f"Processes of an earlier start still use {self._path.parent} and do not end ({numbers}). End them, or "
            "name another folder."
        )

    def _noted(self) -> Iterator[int]:
        """The noted processes that are still the same ones."""
        for line in os.pread(self.fd, 1_000_000, 0).decode(errors="replace").splitlines():
            number, _, started = line.partition(" ")
            if number.isdecimal() and started and _started(int(number)) == started:
                yield int(number)


def _open(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StaleError(f"{path} cannot be opened: {error.strerror}.") from error
    if os.fstat(fd).st_uid != os.geteuid():
        os.close(fd)
        raise StaleError(f"{path} belongs to another user. Name a folder of your own.")
    return fd


def _started(pid: int) -> str:
    """When a process started, in the system's own words; empty where there is none of that number."""
    try:
        # The command's name, in parentheses, may hold anything; the start is the 20th word after it.
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        fields = stat.rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"LC_ALL": "C", "PATH": "/bin"})
    return " ".join(done.stdout.split())


def _holders(fd: int) -> list[int]:
    """The processes, but us, that have the lock's file open, where the system shows them."""
    ours = os.fstat(fd)
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for link in (entry / "fd").iterdir():
                with contextlib.suppress(OSError):
                    one = link.stat()
                    if (one.st_dev, one.st_ino) == (ours.st_dev, ours.st_ino) and int(entry.name) != os.getpid():
                        found.append(int(entry.name))
                        break
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _signal_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(leader) == leader:
            os.killpg(leader, signal.SIGKILL)
