"""The processes of `tiercast up`, run by honcho; their output goes to files, and to the narrator what matters."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

from honcho.manager import SYSTEM_PRINTER_NAME, Manager

from .folder import Folder

Listener = Callable[[str, dict[str, Any]], None]

#: How honcho says that it has started a process.
_STARTED = re.compile(r" started \(pid=(\d+)\)")

#: Bytes of a log file beyond which it begins anew at the next start.
_MOST_LOG = 10_000_000


def commands(*, port: int, queues: Iterable[str], concurrency: int) -> dict[str, str]:
    """The command line of each process."""
    python = shlex.quote(sys.executable)
    return {
        "web": f"exec {python} -m receiver --host 127.0.0.1 --port {port}",
        "worker": (
            f"exec {python} -m celery --quiet -A worker worker --loglevel INFO --without-mingle --without-gossip "
            f"--concurrency {concurrency} -Q {shlex.quote(','.join(queues))}"
        ),
    }


class Output:
    """Takes honcho's messages in the place of its printer."""

    width = 0

    def __init__(self, folder: Folder, listener: Listener) -> None:
        self._folder = folder
        self._listener = listener
        self._files: dict[str, IO[bytes]] = {}

    def write(self, message: Any) -> None:
        """Keep a line; tell the listener of those that are ours (JSON)."""
        if message.name == SYSTEM_PRINTER_NAME:
            if started := _STARTED.search(str(message.data)):
                self._folder.note_process(int(started[1]))
            return
        line = message.data if isinstance(message.data, bytes) else message.data.encode()
        self._file(message.name).write(line)
        self._file(message.name).flush()
        with contextlib.suppress(ValueError):
            fields = json.loads(line)
            if isinstance(fields, dict):
                self._listener(message.name, fields)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _file(self, name: str) -> IO[bytes]:
        if name not in self._files:
            path = self._folder.log(name)
            large = path.exists() and path.stat().st_size > _MOST_LOG
            self._files[name] = path.open("wb" if large else "ab")
        return self._files[name]


class Processes:
    """All processes; when one ends, the others are stopped."""

    def __init__(self, folder: Folder, env: Mapping[str, str], listener: Listener) -> None:
        self.output = Output(folder, listener)
        self._manager = Manager(printer=self.output)
        self._env = dict(env)

    def add(self, name: str, command: str) -> None:
        """Add one, before `run`."""
        self._manager.add_process(name, command, env=self._env)

    def run(self) -> int:
        """Run until SIGINT, SIGTERM or the end of one process; returns the status that the first one ended with.

        A status of 130 or 143 is the signal that we were stopped by.
        """
        try:
            self._manager.loop()
        finally:
            self.output.close()
        return int(self._manager.returncode or 0)

    def stop(self) -> None:
        """Stop all."""
        self._manager.terminate()
