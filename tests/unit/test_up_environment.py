"""What `tiercast up` tells to commands in another shell counts only where nobody else could have written it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiercast.up.environment import EnvironmentFileError, environment, local_environment


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / "env").touch(mode=0o600)
    (folder / "env").write_text(
        "TIERCAST_REDIS_URL=redis://local/0\nTIERCAST_CONFIG=/mine.toml\nPATH=/evil\nnonsense\n"
    )
    return folder


def test_it_is_read_as_far_as_it_is_ours(data: Path) -> None:
    assert local_environment({"TIERCAST_DATA": str(data)}) == {
        "TIERCAST_REDIS_URL": "redis://local/0",
        "TIERCAST_CONFIG": "/mine.toml",
    }


@pytest.mark.parametrize("what", ["folder", "file"])
@pytest.mark.parametrize("mode", [0o020, 0o002], ids=["group", "others"])
def test_what_others_can_write_is_refused(data: Path, what: str, mode: int) -> None:
    changed = data if what == "folder" else data / "env"
    changed.chmod(changed.stat().st_mode | mode)
    with pytest.raises(EnvironmentFileError, match=r"can be written by other users.*TIERCAST_DATA"):
        environment({"TIERCAST_DATA": str(data)})
    # An environment that names its own ledger does not need it.
    named = {"TIERCAST_DATA": str(data), "TIERCAST_REDIS_URL": "redis://other/0"}
    assert environment(named) == named


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_belongs_to_another_user_is_refused(data: Path, what: str) -> None:
    os.chown(data if what == "folder" else data / "env", 4711, 4711)
    with pytest.raises(EnvironmentFileError, match=r"belongs to another user.*TIERCAST_DATA"):
        environment({"TIERCAST_DATA": str(data)})


def test_a_link_or_a_pipe_in_its_place_is_not_read(data: Path, tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere"
    (data / "env").rename(kept)
    (data / "env").symlink_to(kept)
    assert local_environment({"TIERCAST_DATA": str(data)}) == {}
    (data / "env").unlink()
    os.mkfifo(data / "env", 0o600)
    assert local_environment({"TIERCAST_DATA": str(data)}) == {}
