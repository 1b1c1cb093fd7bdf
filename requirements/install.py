"""Makes the virtual environment of the Makefile: python3 requirements/install.py FOLDER LOCKFILE

A set-up that was interrupted begins anew: only a whole one leaves the stamp `.installed`. pip's output becomes a few
lines; where pip fails, its last ones are shown.
"""

from __future__ import annotations

import collections
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

#: Seconds between two lines about progress.
_EVERY_SECONDS = 5.0

#: The last lines of pip's output that a failure shows.
_SHOWN_LINES = 15


def main(folder: Path, lock: Path) -> int:
    """Make or renew the environment; returns the exit status."""
    stamp = folder / ".installed"
    python = folder / "bin" / "python"
    if stamp.exists() and _works(python):
        say(f"Renewing {folder}, since what it is made from has changed ...")
    else:
        say(f"Setting up {folder} (once, about a minute) ...")
        if folder.exists():
            shutil.rmtree(folder)
        # Captured: what an interrupt makes it print helps nobody.
        made = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
        if made.returncode:
            say(made.stderr or made.stdout)
            say("Python's venv module is missing. On Debian and Ubuntu: apt install python3-venv")
            return 1
    stamp.unlink(missing_ok=True)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-color", "--progress-bar", "off"]
    count = len(re.findall(r"^[A-Za-z0-9]", lock.read_text(encoding="utf-8"), re.MULTILINE))
    status = run([*pip, "--require-hashes", "-r", str(lock)], count)
    status = status or run([*pip, "--no-deps", "--no-build-isolation", "--editable", "."], 0)
    if status == 0:
        stamp.touch()
    return status


def _works(python: Path) -> bool:
    try:
        done = subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def run(command: list[str], count: int) -> int:
    """Run pip, and say how far it is with so many packages."""
    last: collections.deque[str] = collections.deque(maxlen=_SHOWN_LINES)
    seen, told = 0, time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None  # noqa: S101
        for line in process.stdout:
            last.append(line.rstrip())
            seen += line.startswith(("Collecting ", "Requirement already", "Ignoring "))
            if line.startswith("Installing collected") and count:
                say("  all packages are there; unpacking them ...")
                count = 0
            elif count and time.monotonic() - told > _EVERY_SECONDS:
                told = time.monotonic()
                say(f"  {min(seen, count)} of {count} packages ...")
    if process.returncode:
        say("\n".join(last))
        say("The packages could not be installed; pip's own words are above. To try again: the same command.")
    return process.returncode


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except KeyboardInterrupt:
        say("\nInterrupted. The same command begins the set-up anew.")
        sys.exit(130)
