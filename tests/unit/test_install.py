"""The set-up behind `make run` and `make test`: interrupted, it begins anew."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.stack import wait_for

SCRIPT = Path(__file__).parents[2] / "requirements" / "install.py"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a pip that is not run."""
    spec = importlib.util.spec_from_file_location("install_script", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "run", lambda command, count: 0)
    return module


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "lock.txt"
    path.write_text("# nothing\n")
    return path


def test_an_interrupted_set_up_begins_anew(
    tmp_path: Path, lock: Path, install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given one that was interrupted while pip ran
    def interrupted(command: list[str], count: int) -> int:
        raise KeyboardInterrupt

    folder = tmp_path / "env"
    with monkeypatch.context() as patch:
        patch.setattr(install, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            install.main(folder, lock)
    assert not (folder / ".installed").exists()
    (folder / "half").write_text("of a package")

    # When it is called again, then nothing of the half is left
    assert install.main(folder, lock) == 0
    assert (folder / ".installed").exists()
    assert not (folder / "half").exists()


def test_a_whole_one_is_renewed_and_a_broken_one_made_anew(tmp_path: Path, lock: Path, install: ModuleType) -> None:
    folder = tmp_path / "env"
    assert install.main(folder, lock) == 0
    (folder / "mark").write_text("kept")
    assert install.main(folder, lock) == 0
    assert (folder / "mark").exists()

    # Its Python is gone, as after an upgrade of the system's.
    for name in ("python", "python3"):
        (folder / "bin" / name).unlink()
        (folder / "bin" / name).symlink_to(tmp_path / "nowhere")
    assert install.main(folder, lock) == 0
    assert not (folder / "mark").exists()
    assert (folder / ".installed").exists()


def test_a_failed_installation_leaves_no_stamp(
    tmp_path: Path, lock: Path, install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "run", lambda command, count: 1)
    assert install.main(tmp_path / "env", lock) == 1
    assert not (tmp_path / "env" / ".installed").exists()


def test_ctrl_c_is_one_line_and_no_traceback(tmp_path: Path, lock: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path / "env"), str(lock)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    wait_for(lambda: (tmp_path / "env").exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted. The same command begins the set-up anew." in said
    assert "Traceback" not in said
    assert not (tmp_path / "env" / ".installed").exists()
