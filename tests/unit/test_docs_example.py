"""The example of a kind: the page shows the very code, its tests pass, and it is found when it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STARS = ROOT / "examples" / "stars"


def run(*command: str, cwd: Path, path: Path) -> str:
    """Run a command of this Python with a folder of packages; its output."""
    env = os.environ | {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120"}
    ended = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_page_shows_the_examples_code() -> None:
    page = (ROOT / "docs" / "writing-a-kind.md").read_text(encoding="utf-8")
    code = (STARS / "tiercast_stars" / "__init__.py").read_text(encoding="utf-8")
    assert code.partition("from __future__ import annotations\n\n")[2].strip() in page


def test_the_page_shows_the_examples_configuration() -> None:
    page = (ROOT / "docs" / "writing-a-kind.md").read_text(encoding="utf-8")
    assert (STARS / "stars.toml").read_text(encoding="utf-8").partition("\n\n")[2].strip() in page


def test_the_examples_own_tests_pass() -> None:
    told = run(
        "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-c", "pyproject.toml", cwd=STARS, path=STARS
    )
    assert " passed" in told


def test_once_installed_the_kind_is_found_by_its_entry_point(tmp_path: Path) -> None:
    # Given the package, installed into a folder of its own
    packages = tmp_path / "packages"
    command = "pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --target"
    run("-m", *command.split(), str(packages), str(STARS), cwd=tmp_path, path=tmp_path)

    # When the kinds are listed, then it is one of them
    assert "Grant stars to a customer." in run("-m", "tiercast.cli", "kinds", "list", cwd=tmp_path, path=packages)
