"""Processes that are measured: started in a group of their own, frozen, weighed by their CPU time, ended by id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from .environments import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What one process holds.

    `rss` and `pss` are bytes: all that is resident, and the same with each shared page divided by those who share it.
    `descriptors` are open ones, `connections` TCP connections by the port that they lead to.
    """

    pid: int
    rss: int
    pss: int
    descriptors: int
    connections: Mapping[int, int]


class Process:
    """One program with all its children.

    Args:
        command: what to run, in the project's folder.
        env: variables beside PATH and HOME.
        log: where its output goes.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.log = log
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                env={**kept, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=ROOT,
            )

    def check(self) -> None:
        """Raise with the end of its log if it has ended.

        Raises:
            ChildProcessError: it has.
        """
        if self._process.poll() is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-15:]
            raise ChildProcessError(f"status {self._process.returncode}\n" + "\n".join(lines))

    def cpu(self) -> float:
        """CPU seconds so far, of it and of all its children, those that have ended included."""
        return cpu_of(self._process.pid)

    def weights(self) -> list[Weight]:
        """What it and each of its children hold now; the program itself comes first."""
        found = []
        for one in [psutil.Process(self._process.pid), *_family(self._process.pid)]:
            with contextlib.suppress(psutil.Error):
                found.append(_weigh(one))
        return found

    def freeze(self) -> None:
        """Stop it as it stands: connections stay, nothing is taken from a queue."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it and its children: asked first, then killed."""
        family = _family(self._process.pid)
        self.thaw()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(8)
        self._signal(signal.SIGKILL)
        self._process.wait()
        for one in family:  # a child that left the group
            with contextlib.suppress(psutil.Error):
                one.kill()
        psutil.wait_procs(family, timeout=5)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _weigh(one: psutil.Process) -> Weight:
    memory = one.memory_full_info()
    ports: dict[int, int] = {}
    for connection in one.net_connections("tcp"):
        if connection.raddr:
            ports[connection.raddr.port] = ports.get(connection.raddr.port, 0) + 1
    return Weight(
        pid=one.pid,
        rss=memory.rss,
        pss=getattr(memory, "pss", memory.uss),
        descriptors=one.num_fds(),
        connections=ports,
    )


def _family(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return []


def end_cleanly() -> None:
    """Have SIGTERM end this program as Ctrl-C does: with everything that it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and of its children, living and ended."""
    total = 0.0
    with contextlib.suppress(psutil.Error):
        for one in [psutil.Process(pid), *_family(pid)]:
            with contextlib.suppress(psutil.Error):
                total += sum(one.cpu_times()[:4])  # user, system, and those of children that have ended
    return total
