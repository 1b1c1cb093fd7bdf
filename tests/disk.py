"""A disk that is really full when it is full: a small file system of its own, in a namespace that needs no rights."""

from __future__ import annotations

import contextlib
import errno
import subprocess
from pathlib import Path
from typing import Self

#: What the harness wrote to leave no room.
_FILLING = "filling"


class NoNamespaces(Exception):
    """This machine lets nobody make a file system without rights, or has no `unshare` and `nsenter`."""


class SmallDisk:
    """A file system in memory that holds `size` bytes, for processes that are started through `enter`.

    It lasts as long as the context. Others see it below `path` only.

    Raises:
        NoNamespaces: it cannot be made here.
    """

    def __init__(self, folder: Path, *, size: int = 16 * 2**20) -> None:
        self.folder = folder.resolve()
        self._size = size

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        script = f'mount -t tmpfs -o size={self._size},mode=700 none "$0" && echo made && exec cat'
        try:
            self._keeper = subprocess.Popen(
                ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(self.folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise NoNamespaces(f"unshare: {error.strerror}") from None
        assert self._keeper.stdout
        assert self._keeper.stderr
        if self._keeper.stdout.readline() != b"made\n":
            said = self._keeper.stderr.read().decode(errors="replace").strip()
            self.__exit__()
            raise NoNamespaces(f"no small file system can be made here ({said})")
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.kill()
        self._keeper.wait()
        for stream in (self._keeper.stdin, self._keeper.stdout, self._keeper.stderr):
            if stream is not None:
                stream.close()

    @property
    def path(self) -> Path:
        """The disk, for who has not entered."""
        return Path(f"/proc/{self._keeper.pid}/root{self.folder}")

    def enter(self, folder: Path) -> list[str]:
        """What stands before a command that is to see the disk at `self.folder`, and to run in `folder`."""
        target = ("--target", str(self._keeper.pid), "--user", "--mount", "--preserve-credentials")
        return ["nsenter", *target, f"--wd={folder}", "--"]

    def fill(self, *, leave: int = 0) -> None:
        """Take all the room there is but so many bytes; what was taken before stays so."""
        with (self.path / _FILLING).open("ab", buffering=0) as filling:
            size = filling.tell()
            for step in (2**16, 2**12):
                with contextlib.suppress(OSError):
                    while filling.write(b"\0" * step):
                        pass
            if leave:
                filling.truncate(max(size, filling.tell() - leave))

    def clear(self) -> None:
        """Give back what was taken."""
        (self.path / _FILLING).unlink(missing_ok=True)

    def is_full(self) -> bool:
        """Whether a page more finds no room."""
        try:
            with (self.path / "probe").open("wb", buffering=0) as probe:
                probe.write(b"\0" * 4096)
        except OSError as error:
            return error.errno == errno.ENOSPC
        finally:
            (self.path / "probe").unlink(missing_ok=True)
        return False
