"""System calls of a process, as strace tells them, in the order in which they happened."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

#: Reading, writing, and having the disk keep what was written.
_CALLS = "read,recvfrom,recvmsg,write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync"

#: Bytes of each call's data that are told.
_DATA = 8192

_LINE = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)$")
_RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$")
_RESULT = re.compile(r"\) += (-?\d+)")
_UNFINISHED = " <unfinished ...>"


@dataclass(slots=True)
class Call:
    """One system call. `began` and `ended` are places in the order of all; `ended` is None for one that did not."""

    name: str
    text: str
    began: int
    ended: int | None = None
    result: int | None = None

    @property
    def file(self) -> str:
        """What is read or written: a path, or `socket:[...]`."""
        found = re.match(r"\d+<(.*?)>", self.text)
        return found[1] if found else ""

    @property
    def syncs(self) -> bool:
        """Whether it had the disk keep what was written to its file."""
        return self.name in ("fsync", "fdatasync") and self.result == 0


def strace(output: Path) -> list[str]:
    """What stands before a command that is to be traced; skips the test where this machine cannot."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    # -D: what is traced is our own child, so that it gets our signals and is waited for.
    command = [program, "-D", "-f", "-y", "-s", str(_DATA), "-e", f"trace={_CALLS}", "-e", "signal=none"]
    probe = subprocess.run([*command, "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if probe.returncode or probe.stderr:
        pytest.skip(f"strace may not trace here: {probe.stderr.strip()}")
    return [*command, "-o", str(output)]


def calls(output: Path) -> list[Call]:
    """All calls that were told so far, by when they began."""
    found: list[Call] = []
    open_: dict[str, Call] = {}
    for place, line in enumerate(output.read_text(errors="replace").splitlines()):
        if match := _LINE.match(line):
            call = Call(match["name"], match["rest"], place)
            found.append(call)
            if line.endswith(_UNFINISHED):
                open_[match["pid"]] = call
                continue
        elif (match := _RESUMED.match(line)) and (resumed := open_.pop(match["pid"], None)):
            call = resumed
            call.text = call.text.removesuffix(_UNFINISHED) + match["rest"]
        else:
            continue
        call.ended = place
        results = _RESULT.findall(line)
        call.result = int(results[-1]) if results else None
    return found


def first(among: Iterable[Call], which: Callable[[Call], bool]) -> Call | None:
    """The first of the calls of which that is true."""
    return next((call for call in among if which(call)), None)


def synced_after(among: Iterable[Call], text: str, *, file: str) -> int | None:
    """When a sync ended that began after `text` was written to a file whose name ends so; None where none did."""
    ours = [call for call in among if call.file.endswith(file)]
    wrote = first(ours, lambda call: call.name in ("write", "writev", "pwrite64", "pwritev") and text in call.text)
    if wrote is None or wrote.ended is None:
        return None
    written = wrote.ended
    sync = first(ours, lambda call: call.syncs and call.began > written)
    return sync.ended if sync else None
