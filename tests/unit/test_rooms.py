"""What a process loads. Which module may import which stands in pyproject.toml and is checked by `make lint`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


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


DATABASE = {"sqlalchemy", "alembic", "psycopg"}


def test_the_receiver_loads_no_database() -> None:
    loaded = modules_after("import receiver.wsgi, receiver.app, receiver.serve")
    assert not loaded & DATABASE


def test_what_is_filed_is_named_without_a_database() -> None:
    loaded = modules_after("import tiercast.history.rows, tiercast.history.address")
    assert not loaded & {*DATABASE, "redis"}


def test_a_history_that_is_up_to_date_is_opened_without_migrations(tmp_path: Path) -> None:
    opening = (
        "from tiercast.history.address import HistoryAddress; from tiercast.history.store import History\n"
        f"History(HistoryAddress.read('sqlite:///{tmp_path}/history.db')).close()"
    )
    assert "alembic" in modules_after(opening)
    assert not modules_after(opening) & {"alembic", "psycopg", "redis"}


def test_help_loads_little() -> None:
    loaded = modules_after("from tiercast.cli import main")
    assert not loaded & {"celery", "redis", "jinja2", "aiohttp", "marshmallow", *DATABASE}


def test_nobody_but_the_ledger_has_its_client() -> None:
    ledger = ROOT / "tiercast" / "ledger"
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for room in ("tiercast", "receiver", "worker")
        for path in (ROOT / room).rglob("*.py")
        if ledger not in path.parents
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"ledger\.client\b", line) and " import " not in line
    ]
    assert not found
