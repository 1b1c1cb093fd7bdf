"""The processes of `tiercast up`: started, watched and stopped together. Their output goes to files and a listener."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Self

from ..embedded import EmbeddedServer
from .folder import Folder, is_full

Listener = Callable[[str, dict[str, Any]], None]

#: Seconds between two looks at the processes.
_LOOK_SECONDS = 0.2

#: Seconds that processes have to end after SIGTERM: a worker gives running jobs 8 and settles.
_GRACE_SECONDS = 25.0

#: Bytes of a log file beyond which it becomes `NAME.log.1` and a new one begins.
_MAX_LOG_BYTES = 10_000_000

#: The longest piece of a line that is handled at once.
_MAX_LINE_BYTES = 65_536


class Stopped(KeyboardInterrupt):
    """A signal asked us to stop before the supervisor ran."""


class Signals:
    """SIGINT, SIGTERM and SIGHUP all mean: stop. They stop what starts at once, and are counted once it runs."""

    def __init__(self) -> None:
        self.count = 0
        self._raising = True
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Under nohup a closed terminal is to change nothing.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def only_count(self) -> None:
        """Raise nothing from now on: somebody looks at the count."""
        self._raising = False

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self._raising:
            self._raising = False
            raise Stopped


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the supervisor ended: `process` ended with `status` by itself, the disk is `full`, or a signal came."""

    process: str | None = None
    status: int = 0
    full: bool = False


@dataclass(slots=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    reader: threading.Thread = field(init=False)


class Supervisor:
    """Runs processes until a signal, the end of one of them or of the server, or a full disk; then stops all.

    Each leads a session of its own, so a Ctrl-C in the terminal reaches only us, and each inherits the folder's lock.
    """

    def __init__(
        self, folder: Folder, env: Mapping[str, str], listener: Listener, *, server: EmbeddedServer | None = None
    ) -> None:
        self._folder = folder
        self._env = {**env, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
        self._listener = listener
        self._server = server
        self._children: list[_Child] = []
        self._endings: queue.SimpleQueue[Ending] = queue.SimpleQueue()

    def run(self, commands: Mapping[str, list[str]], signals: Signals) -> Ending:
        """Start the commands, wait for the first reason to end, and stop all of them."""
        signals.only_count()
        try:
            for name, command in commands.items():
                self._start(name, command)
            return self._watch(signals)
        except OSError as error:
            if not is_full(error):
                raise
            return Ending(full=True)
        finally:
            self._stop(signals)

    def _start(self, name: str, command: list[str]) -> None:
        process = subprocess.Popen(
            command,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(self._folder.processes.fd,),
        )
        child = _Child(name, process)
        self._children.append(child)
        child.reader = threading.Thread(target=self._read, args=(child,), name=f"output of {name}", daemon=True)
        child.reader.start()
        self._folder.processes.note(process.pid)

    def _watch(self, signals: Signals) -> Ending:
        while not signals.count:
            with contextlib.suppress(queue.Empty):
                return self._endings.get(timeout=_LOOK_SECONDS)
            if (ending := self._ended()) is not None:
                return ending
        return Ending()

    def _ended(self) -> Ending | None:
        if self._folder.is_full():
            return Ending(full=True)
        if self._server is not None and (status := self._server.status()) is not None:
            return Ending("ledger", status)
        for child in self._children:
            if (status := child.process.poll()) is not None:
                return Ending(child.name, status)
        return None

    def _stop(self, signals: Signals) -> None:
        """Ask all to end, and end them at once after a while or at another signal."""
        asked = signals.count
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.process.terminate()
        deadline = time.monotonic() + _GRACE_SECONDS
        while any(child.process.poll() is None for child in self._children):
            if time.monotonic() > deadline or signals.count > max(asked, 1):
                break
            time.sleep(0.05)
        for child in self._children:
            # What a process started goes with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
        for child in self._children:
            child.reader.join(2)

    def _read(self, child: _Child) -> None:
        """Keep what a process prints, and tell the listener of lines that are ours (JSON)."""
        output = child.process.stdout
        assert output is not None  # noqa: S101
        log = _Log(self._folder.log(child.name))
        with output, contextlib.closing(log):
            while line := output.readline(_MAX_LINE_BYTES):
                try:
                    log.write(line)
                except OSError as error:
                    # Reading goes on, so that the process is not held up while it stops.
                    self._endings.put(Ending(child.name, 1, full=is_full(error)))
                with contextlib.suppress(ValueError, RecursionError):
                    fields = json.loads(line)
                    if isinstance(fields, dict):
                        self._listener(child.name, fields)


class _Log:
    """A log file of bounded size."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def write(self, line: bytes) -> None:
        """Add a line."""
        if self._file is not None and self._file.tell() > _MAX_LOG_BYTES:
            self.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
        self._file.write(line)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def commands(*, port: int, queues: Iterable[str], concurrency: int) -> dict[str, list[str]]:
    """The command line of each process."""
    launch = [sys.executable, "-P", "-m", "tiercast.up.launch"]
    worker = ["celery", "--quiet", "-A", "worker", "worker", "--loglevel", "INFO", "--without-mingle"]
    worker += ["--without-gossip", "--concurrency", str(concurrency), "-Q", ",".join(queues)]
    return {
        "web": [*launch, "receiver", "--host", "127.0.0.1", "--port", str(port)],
        "worker": [*launch, *worker],
    }
