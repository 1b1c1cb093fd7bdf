"""The data folder of `tiercast up`: the ledger's files, the secrets made on first start, the mail, the logs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import TiercastError
from .environment import FILE
from .stale import InheritedLock

#: Seconds that processes of a killed `tiercast up` have to end: a worker gives running jobs 8.
_PATIENCE_SECONDS = 30.0

#: By these a folder is known as a data folder.
_MARKS = ("lock", "hash-key", "webhook-secret", "ledger")

#: Bytes that a disk must have free not to count as full.
_FREE_BYTES = 2**20

_FULL = (errno.ENOSPC, errno.EDQUOT)


class FolderError(TiercastError):
    """The data folder cannot be used."""


class Folder:
    """A data folder, private to its owner.

    Raises:
        FolderError: it cannot be made, belongs to somebody else, or holds other things than our data.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        #: Inherited by every process that works on the folder, but the ledger's server, which has one of its own.
        self.processes = InheritedLock(self.path / "processes")
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._make_private(path)
            (self.path / "log").mkdir(exist_ok=True, mode=0o700)
            if not (self.path / ".gitignore").exists():
                (self.path / ".gitignore").write_text("*\n")
        except OSError as error:
            if error.errno in _FULL:
                raise FolderError(self.full()) from None
            raise FolderError(
                f"Cannot use {path} for data: {error.strerror}. Name another folder with --data."
            ) from None

    def _make_private(self, shown: Path) -> None:
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise FolderError(f"{shown} belongs to another user. Name a folder of your own with --data.")
        names = {entry.name for entry in self.path.iterdir()}
        if names and not names.intersection(_MARKS) and names != {".gitignore"}:
            raise FolderError(
                f"{shown} holds other things than Tiercast's data, which needs a folder of its own. Name a new "
                "or empty one with --data."
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            self.path.chmod(0o700)

    def full(self) -> str:
        """What to say when the disk is full."""
        return f"The disk that holds {self.path} is full. Make room and start again; what was acknowledged is kept."

    def is_full(self) -> bool:
        """Whether the disk has no room left."""
        with contextlib.suppress(OSError):
            return shutil.disk_usage(self.path).free < _FREE_BYTES
        return False

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; a second `tiercast up` on it is refused, and what a killed one left behind is ended.

        The first lock is this process's own: those that it starts do not inherit it.
        """
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FolderError(
                    f"Another `tiercast up` runs on {self.path}. Stop it, or name another folder with --data."
                ) from None
            self.processes.take(patience=_PATIENCE_SECONDS)
            try:
                yield
            finally:
                self.processes.release()

    def secret(self, name: str, prefix: str = "") -> str:
        """The secret of that name; made, with mode 0600, when it is first asked for."""
        path = self.path / name
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(fd, encoding="utf-8-sig") as file:
                found = os.fstat(fd)
                if found.st_uid != os.geteuid():
                    raise FolderError(f"{path} belongs to another user, so it is not used. Remove it.")
                if stat.S_IMODE(found.st_mode) & 0o077:
                    os.fchmod(fd, 0o600)
                if kept := file.read().strip():
                    return kept
        made = prefix + secrets.token_urlsafe(32)
        _write_private(path, made + "\n")
        return made

    @contextlib.contextmanager
    def environment(self, variables: Mapping[str, str]) -> Iterator[None]:
        """While we run, tell commands in other shells how to reach us (environment.py)."""
        path = self.path / FILE
        # A value of several lines cannot be told in this form; none of ours has any.
        lines = (f"{name}={value}\n" for name, value in variables.items() if len(value.splitlines()) == 1)
        _write_private(path, "".join(lines))
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def log(self, process: str) -> Path:
        """Where the output of a process goes."""
        return self.path / "log" / f"{process}.log"


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
