"""`tiercast up` as a newcomer starts it: in an empty folder, without any configuration."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest
import redis

from tests.disk import NoNamespaces, SmallDisk
from tests.stack import wait_for
from tests.working import is_gone
from tiercast.embedded import free_port

ENV = {name: value for name, value in os.environ.items() if not name.startswith("TIERCAST_")}


class Up:
    """A running `tiercast up`, in a session of its own as in a terminal."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        command: Sequence[str] = (sys.executable, "-m", "tiercast.cli"),
        through: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        if config is not None:
            (folder / "tiercast.toml").write_text(config)
        self.output = folder / f"up-{self.port}-{len(list(folder.glob('up-*')))}.txt"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*through, *command, "up", "--port", str(self.port), *options],
                cwd=folder,
                env=ENV | {"TMPDIR": str(folder)} | dict(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, text: str) -> None:
        def said() -> bool:
            assert self.process.poll() is None or text in self.text(), self.text()
            return text in self.text()

        wait_for(said, seconds=90)

    def interrupt(self) -> int:
        """Ctrl-C: the signal goes to everything in the terminal's foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(30)

    def left(self) -> list[str]:
        """Processes of ours that are still there: they name the folder or the port."""
        marks = (str(self.folder), f"--port {self.port}")
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if any(mark in line for mark in marks):
                found.append(line)
        return found

    def cli(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tiercast.cli", *arguments],
            cwd=self.folder,
            env=ENV,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        for process in (
            [*psutil.Process(self.process.pid).children(recursive=True)] if self.process.poll() is None else []
        ):
            process.kill()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def ups(tmp_path: Path) -> Iterator[list[Up]]:
    running: list[Up] = []
    yield running
    for up in running:
        up.close()


def test_the_sample_goes_all_the_way_and_is_there_again_after_a_restart(tmp_path: Path, ups: list[Up]) -> None:
    # Given
    first = Up(tmp_path)
    ups.append(first)
    first.wait_for("Ctrl-C stops everything.")

    # Then the sample's whole way was told
    told = first.text()
    assert "202, stored after" in told
    assert "announce        done" in told
    (mail,) = (tmp_path / ".tiercast" / "mail").glob("*.eml")
    assert f"wrote .tiercast/mail/{mail.name}" in told
    assert "welcome-email   skipped   option to is empty for this event" in told
    assert (tmp_path / ".tiercast" / "webhook-secret").stat().st_mode & 0o777 == 0o600

    # and commands in another terminal find it
    jobs = json.loads(first.cli("jobs", "list", "--json"))["jobs"]
    assert sorted(job["state"] for job in jobs) == ["done", "done", "done", "skipped"]
    first.cli("trigger", "--email", "kim@example.com", "--yes")
    first.wait_for("customer.loyalty.tier.joined\n")

    # When stopped, nothing is left
    assert first.interrupt() == 0
    wait_for(lambda: first.left() == [])
    assert "Traceback" not in first.text()

    # and the next start has it all
    second = Up(tmp_path, "--no-sample")
    ups.append(second)
    second.wait_for("Ctrl-C stops everything.")
    assert len(json.loads(second.cli("deliveries", "list", "--json"))["deliveries"]) == 3
    assert second.interrupt() == 0


def test_a_refusal_gets_a_line(tmp_path: Path, ups: list[Up]) -> None:
    import httpx

    up = Up(tmp_path, "--no-sample")
    ups.append(up)
    up.wait_for("Ctrl-C stops everything.")
    httpx.post(f"http://127.0.0.1:{up.port}/webhooks/voucherify", content=b"{}", trust_env=False)
    up.wait_for("refused for voucherify: no header")
    assert up.interrupt() == 0


def test_a_killed_one_leaves_its_folder_usable(tmp_path: Path, ups: list[Up]) -> None:
    up = Up(tmp_path, "--no-sample")
    ups.append(up)
    up.wait_for("Ctrl-C stops everything.")
    children = psutil.Process(up.process.pid).children(recursive=True)
    up.process.kill()
    up.process.wait()
    again = Up(tmp_path, "--no-sample")
    ups.append(again)
    again.wait_for("Ctrl-C stops everything.")
    assert again.interrupt() == 0
    for child in children:
        if child.is_running():
            child.kill()


@pytest.mark.parametrize(
    ("options", "config", "expected"),
    [
        pytest.param(["--config", "none.toml"], None, "There is no configuration file none.toml", id="missing"),
        pytest.param([], "[actions.a]\nkind = 'emial'\n", "Did you mean email?", id="wrong"),
        pytest.param([], "[[rules]", "no valid TOML", id="no toml"),
    ],
)
def test_a_broken_configuration_starts_nothing(
    tmp_path: Path, options: list[str], config: str | None, expected: str
) -> None:
    up = Up(tmp_path, *options, config=config)
    assert up.process.wait(60) == 1
    assert expected in up.text()
    assert "Traceback" not in up.text()
    assert up.left() == []


def test_a_busy_port_names_the_flag(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "tiercast.cli", "up", "--port", str(port)],
            cwd=tmp_path,
            env=ENV,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "--port" in done.stderr
    assert str(port) in done.stderr


def test_it_starts_again_on_the_same_port_after_it_was_killed(tmp_path: Path, ups: list[Up]) -> None:
    """Two servers on one append-only file, as `COLUMNS` once led to, are seen by the lock that a server inherits."""
    first = Up(tmp_path, "--no-sample", env={"COLUMNS": "40"})
    ups.append(first)
    first.wait_for("Ctrl-C stops everything.")
    left = psutil.Process(first.process.pid).children(recursive=True)
    first.process.kill()
    first.process.wait()

    second = Up(tmp_path, "--no-sample", env={"COLUMNS": "40"}, port=first.port)
    ups.append(second)
    second.wait_for("Ctrl-C stops everything.")
    assert [process for process in left if not is_gone(process)] == []
    assert second.interrupt() == 0


def test_a_stale_note_of_a_process_ends_nobody(tmp_path: Path, ups: list[Up]) -> None:
    first = Up(tmp_path, "--no-sample")
    ups.append(first)
    first.wait_for("Ctrl-C stops everything.")
    assert first.interrupt() == 0
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)", "-m", "celery"]
    bystander = subprocess.Popen(sleeping, start_new_session=True)
    try:
        for name in ("pids", "processes", "ledger/valkey.pid", "ledger/lock"):
            (tmp_path / ".tiercast" / name).write_text(f"{bystander.pid}\n{bystander.pid} 12345\n")
        second = Up(tmp_path, "--no-sample")
        ups.append(second)
        second.wait_for("Ctrl-C stops everything.")
        assert bystander.poll() is None
        assert second.interrupt() == 0
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGTERM], ids=["closed terminal", "terminated"])
def test_each_way_to_stop_it_leaves_nothing(tmp_path: Path, ups: list[Up], how: signal.Signals) -> None:
    up = Up(tmp_path, "--no-sample")
    ups.append(up)
    up.wait_for("Ctrl-C stops everything.")
    up.process.send_signal(how)
    assert up.process.wait(40) == 0
    wait_for(lambda: up.left() == [])
    assert "Traceback" not in up.text()


def test_modules_in_the_folder_do_not_take_the_place_of_ours(tmp_path: Path, ups: list[Up]) -> None:
    for name in ("worker", "receiver", "redis", "tiercast", "celery", "kombu", "granian", "flask", "email"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the folder was loaded')")
    up = Up(tmp_path, command=[str(Path(sys.executable).with_name("tiercast"))])
    ups.append(up)
    up.wait_for("Ctrl-C stops everything.")
    assert "announce        done" in up.text()
    assert up.interrupt() == 0


def test_a_kind_in_the_folder_is_found(tmp_path: Path, ups: list[Up]) -> None:
    (tmp_path / "mine.py").write_text(
        "from tiercast.actions import Action\nclass Mine(Action):\n    kind = 'mine'\n    outside = False\n"
        "    def perform(self, job):\n        return 'done by mine'\n"
    )
    config = "[actions.a]\nkind = 'mine:Mine'\n[[rules]]\non = '*'\ndo = ['a']\n"
    up = Up(tmp_path, config=config)
    ups.append(up)
    up.wait_for("Ctrl-C stops everything.")
    up.cli("trigger", "--yes")
    up.wait_for("done by mine")
    assert up.interrupt() == 0


def test_nobody_else_can_reach_the_ledger(tmp_path: Path, ups: list[Up]) -> None:
    data = tmp_path / ".tiercast"
    data.mkdir(mode=0o755)
    data.chmod(0o755)
    up = Up(tmp_path, "--no-sample")
    ups.append(up)
    up.wait_for("Ctrl-C stops everything.")
    assert data.stat().st_mode & 0o777 == 0o700
    (server,) = [p for p in psutil.Process(up.process.pid).children() if "valkey" in p.name() or "redis" in p.name()]
    if len(str(data / "ledger" / "valkey.sock")) <= 103:
        assert server.net_connections("tcp") == []
        assert (data / "ledger" / "valkey.sock").stat().st_mode & 0o777 == 0o600
    assert up.interrupt() == 0


def test_a_deep_folder_has_a_password_for_its_ledger(tmp_path: Path, ups: list[Up]) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    up = Up(deep)
    ups.append(up)
    up.wait_for("Ctrl-C stops everything.")
    assert len(json.loads(up.cli("deliveries", "list", "--json"))["deliveries"]) == 2
    (server,) = [p for p in psutil.Process(up.process.pid).children() if "valkey" in p.name() or "redis" in p.name()]
    (port,) = {c.laddr.port for c in server.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=port).ping()
    assert "requirepass" not in " ".join(server.cmdline())
    assert up.interrupt() == 0


def test_a_folder_of_other_things_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    up = Up(tmp_path, "--data", ".")
    assert up.process.wait(60) == 1
    assert "holds other things than Tiercast's data" in up.text()
    assert not (tmp_path / ".gitignore").exists()


def test_a_full_disk_is_one_line_and_an_end(tmp_path: Path) -> None:
    try:
        disk = SmallDisk(tmp_path / "disk", size=8 * 2**20)
        with disk:
            up = Up(tmp_path, "--data", str(disk.folder / "data"), "--no-sample", through=disk.enter(tmp_path))
            try:
                up.wait_for("Ctrl-C stops everything.")
                disk.fill()
                up.process.wait(60)
            finally:
                up.close()
            assert up.process.returncode == 1
            assert "is full. Make room and start again" in up.text()
            assert "Traceback" not in up.text()

            again = Up(tmp_path, "--data", str(disk.folder / "data"), "--no-sample", through=disk.enter(tmp_path))
            assert again.process.wait(60) == 1
            assert "Traceback" not in again.text()
            assert len([line for line in again.text().splitlines() if line and line != "Starting ..."]) == 1
    except NoNamespaces as error:
        pytest.skip(str(error))
