"""The data folder of `tiercast up`: the ledger's files, the secrets made on first start, the mail, the logs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import TiercastError
from ..forsaken import end_process
from ..local import FILE


class FolderError(TiercastError):
    """The data folder cannot be used."""


class Folder:
    """A data folder, private to its owner."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.path / "log").mkdir(exist_ok=True)
            if not (self.path / ".gitignore").exists():
                (self.path / ".gitignore").write_text("*\n")
        except OSError as error:
            raise FolderError(
                f"Cannot use {path} for data: {error.strerror}. Name another folder with --data."
            ) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; a second `tiercast up` on it is refused.

        The lock is this process's own: those that it forks do not keep it when it is killed.
        """
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FolderError(
                    f"Another `tiercast up` runs on {self.path}. Stop it, or name another folder with --data."
                ) from None
            self._end_forsaken()
            yield
            self._pids.unlink(missing_ok=True)

    @property
    def _pids(self) -> Path:
        return self.path / "pids"

    def note_process(self, pid: int) -> None:
        """Remember a process, so that the next start can end it if we are killed."""
        with self._pids.open("a") as file:
            file.write(f"{pid}\n")

    def _end_forsaken(self) -> None:
        """End what an earlier `tiercast up` left behind when it was killed."""
        with contextlib.suppress(OSError, ValueError):
            for pid in self._pids.read_text().split():
                end_process(int(pid), "-m receiver", "-m celery")
        self._pids.unlink(missing_ok=True)

    def secret(self, name: str, prefix: str = "") -> str:
        """The secret of that name; made, with mode 0600, when it is first asked for."""
        path = self.path / name
        with contextlib.suppress(FileNotFoundError):
            if kept := path.read_text().strip():
                return kept
        made = prefix + secrets.token_urlsafe(32)
        _write_private(path, made + "\n")
        return made

    @contextlib.contextmanager
    def environment(self, variables: Mapping[str, str]) -> Iterator[None]:
        """While we run, tell commands in other shells how to reach us (tiercast/local.py)."""
        path = self.path / FILE
        _write_private(path, "".join(f"{name}={value}\n" for name, value in variables.items()))
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def log(self, process: str) -> Path:
        """Where the output of a process goes."""
        return self.path / "log" / f"{process}.log"


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
