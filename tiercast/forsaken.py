"""Processes that an earlier owner left behind when it was killed: found by their number, known by their command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time


def command_of(pid: int) -> str:
    """The command line of a process; empty where there is none of that number."""
    done = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def end_process(pid: int, *marks: str, timeout: float = 20.0) -> bool:
    """End a process whose command line holds one of `marks`, first gently; a number may have been given anew since.

    Returns whether it is gone. It is the leader of a session, so what it started goes with it.
    """
    if not any(mark in command_of(pid) for mark in marks):
        return True
    deadline = time.monotonic() + timeout
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.05)
        os.killpg(pid, signal.SIGKILL)
        time.sleep(0.1)
        os.kill(pid, 0)
        return False
    return True
