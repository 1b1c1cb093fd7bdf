"""The peers' environments in `.venv-bench`, from lock files of their own; each is made again when its lock changed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Literal

Environment = Literal["own", "flask", "arq", "node"]

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".venv-bench"
_LOCKS = {"flask": ROOT / "bench" / "requirements.txt", "arq": ROOT / "bench" / "requirements-arq.txt"}
_NODE = ROOT / "bench" / "peers" / "fastify_bullmq"

#: The oldest Node that the peers' packages run on.
_OLDEST_NODE = 20


class Missing(Exception):
    """An environment cannot be had; its participants are left out, with this reason."""


def python(name: str) -> str:
    """The interpreter of an environment."""
    return str(HOME / name / "bin" / "python")


def node_folder() -> Path:
    """Where the Node programs and their packages lie."""
    return HOME / "node"


def prepare(name: Environment) -> None:
    """Make an environment unless it is there.

    Raises:
        Missing: the registry or Node is not there.
    """
    if name == "own":
        return
    if name == "node":
        _prepare_node()
        return
    lock = _LOCKS[name]
    mark = HOME / name / ".lock"
    if _is_current(mark, lock):
        return
    print(f"Setting up .venv-bench/{name} (once) ...", file=sys.stderr, flush=True)
    venv.create(HOME / name, with_pip=True, clear=True)
    _run(python(name), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", lock)
    mark.write_text(_digest(lock))


def _prepare_node() -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        raise Missing("there is no Node on this machine")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < _OLDEST_NODE:
        raise Missing(f"Node {version} is older than {_OLDEST_NODE}")
    folder = node_folder()
    folder.mkdir(parents=True, exist_ok=True)
    mark, lock = folder / ".lock", _NODE / "package-lock.json"
    if not _is_current(mark, lock):
        print("Setting up .venv-bench/node (once) ...", file=sys.stderr, flush=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_NODE / name, folder)
        # Not `npm ci`: it refuses where a registry lacks an optional package of some other platform.
        _run(npm, "install", "--no-save", "--prefix", folder, "--ignore-scripts", "--no-audit", "--loglevel=error")
        mark.write_text(_digest(lock))
    for program in _NODE.glob("*.js"):
        shutil.copy(program, folder)


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise Missing(f"its packages cannot be installed: {reason[:300] or 'no reason given'}")


def _is_current(mark: Path, lock: Path) -> bool:
    return mark.exists() and mark.read_text() == _digest(lock)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
