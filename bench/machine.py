"""What the measurements ran on: without it a figure means nothing."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import psutil

from tiercast.embedded import find_server

from .environments import python


def describe(folder: Path) -> dict[str, str]:
    """Processor, memory, system, disk and versions, by name; `folder` is where the servers keep their data."""
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "fsync": f"{_fsync_ms(folder):.2f} ms (median of 50, 4 KiB appended)",
        "load before": f"{os.getloadavg()[0]:.2f} (1 minute)",
        "Python": platform.python_version(),
        "server": _server(),
        "Tiercast": ", ".join(f"{name} {version(name)}" for name in ("tiercast", "celery", "redis", "granian")),
        "peers": ", ".join(filter(None, (_peers("flask"), _peers("arq"), _node()))),
    }


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def _fsync_ms(folder: Path) -> float:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fsync"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    path.unlink()
    return sorted(times)[25] * 1000


def _server() -> str:
    said = _said(find_server(), "--version")
    found = re.search(r"v=([0-9.]+)", said)
    return f"{Path(find_server()).name} {found[1]}" if found else said


def _peers(name: str) -> str:
    wanted = {"flask": ("celery", "dramatiq", "flask"), "arq": ("arq", "fastapi", "uvicorn")}[name]
    code = f"from importlib.metadata import version as v; print(', '.join(n + ' ' + v(n) for n in {wanted!r}))"
    return _said(python(name), "-c", code) if Path(python(name)).exists() else ""


def _node() -> str:
    said = _said("node", "--version")
    return f"Node {said}" if said else ""


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
