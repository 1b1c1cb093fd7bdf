"""Write mails into a folder of `.eml` files."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_mail(directory: Path, name: str, content: bytes) -> Path:
    """Write one file, whole or not at all, readable by its owner only; the same name is written over.

    Raises:
        OSError: the directory cannot be made or written to.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / name
    unfinished = directory / f".{name}.{secrets.token_hex(4)}.tmp"
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_directory(directory)
    return path


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
