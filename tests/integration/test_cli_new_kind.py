"""`tiercast kinds new`: a package that is green from the start, and earns its level at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tiercast.cli import main

ROOT = Path(__file__).parents[2]


def test_a_new_kind_is_green_and_silver(tmp_path: Path) -> None:
    # Given what the command has written
    folder = tmp_path / "tiercast-badge-club"
    result = CliRunner().invoke(main, ["kinds", "new", "badge-club", "--into", str(folder)])
    assert result.exit_code == 0, result.output
    assert not [path for path in folder.rglob("*") if path.is_file() and "CLASS" in path.read_text(encoding="utf-8")]
    # When its tests are run as its README says
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tiercast.testing.recording", "--record-kinds", "tests"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{ROOT}:{folder}", "PATH": "/usr/bin:/bin"},
    )
    # Then all are green, and it has earned silver
    assert done.returncode == 0, done.stdout[-3000:]
    record = json.loads((folder / "tiercast_badge_club" / "conformance" / "badge-club.json").read_text("utf-8"))
    assert record["level"] == "silver"


@pytest.mark.parametrize("name", ["Badges", "1st", "a_b", "../x", ""])
def test_a_name_that_no_configuration_could_hold_is_refused(name: str, tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["kinds", "new", name, "--into", str(tmp_path / "x")]).exit_code == 2
    assert not (tmp_path / "x").exists()


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["kinds", "new", "badges", "--into", str(tmp_path)])
    assert result.exit_code == 1
    assert not list(tmp_path.iterdir())
