"""The import rule: receiver, worker and console import tiercast, never one another; tiercast imports none of them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("tiercast", "receiver", "worker", "console")
ALLOWED = {"tiercast": {"tiercast"}, **{room: {"tiercast", room} for room in ROOMS[1:]}}


def imports(path: Path) -> Iterator[str]:
    """The packages that a module imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / room).rglob("*.py")
        for name in imports(path)
        if name in ROOMS and name not in ALLOWED[room]
    ]
    assert wrong == []


def test_what_runs_needs_no_package_of_the_development_group() -> None:
    """Our own environment has all of them, so an import that a user's lacks would pass every other test."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = {re.split(r"[\[<>=;! ]", text, maxsplit=1)[0] for text in project["project"]["dependencies"]}
    # What they bring along and we use, too; the kit for tests of plug-ins needs pytest; _typeshed is for mypy only.
    declared |= {"kombu", "billiard", "werkzeug", "markupsafe", "tornado", "yarl", "pytest", "_typeshed"}
    used = {
        name
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for name in imports(path)
        if name not in sys.stdlib_module_names and name not in ROOMS
    }
    assert used - declared == set()


def modules_after(code: str) -> set[str]:
    """The modules that are loaded after running some code in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(done.stdout.split())


def test_the_receiver_loads_neither_schemas_nor_kinds() -> None:
    loaded = modules_after("import receiver.wsgi, receiver.app, receiver.serve")
    assert not {name for name in loaded if name.partition(".")[0] in {"worker", "jinja2.sandbox"}}
    assert "tiercast.config.load" not in loaded


def test_help_loads_little() -> None:
    loaded = modules_after("from tiercast.cli import main")
    assert not loaded & {"celery", "redis", "jinja2", "aiohttp", "marshmallow"}
