"""A configuration that cannot be used, met by every process: its message, status 1, and nothing started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tiercast.embedded import free_port

ROOT = Path(__file__).parents[2]

GOOD = """
[actions.announce]
kind = "log"
message = "{{ event.type }}"

[[rules]]
on = "customer.loyalty.tier.*"
do = ["announce"]
"""

SOURCE = '[sources.shop]\nsecrets = ["env:NOT_SET_ANYWHERE"]\n'
SOURCE_SAYS = "sources.shop.secrets[0]: the environment variable NOT_SET_ANYWHERE is not set"

SECRET = "hunter-two-of-the-test"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it left in its data folder."""

    status: int
    said: str
    left: set[str]


def run(command: str, folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Ended:
    """Run a process of ours with a configuration, in an environment without a ledger."""
    (folder / "tiercast.toml").write_text(text)
    port, data = str(free_port()), folder / "data"
    words = {
        "worker": ["celery", "-A", "worker", "worker", "--concurrency", "1"],
        "receiver": ["receiver", "--port", port, "--workers", "1"],
        "check": ["tiercast.cli", "check", "--offline"],
        "up": ["tiercast.cli", "up", "--port", port, "--data", str(data)],
    }[command]
    env = {name: value for name, value in os.environ.items() if not name.startswith("TIERCAST_")}
    env |= {"TIERCAST_CONFIG": str(folder / "tiercast.toml"), "TIERCAST_WEBHOOK_SECRETS": SECRET}
    env |= {"TIERCAST_DATA": str(data), "NO_COLOR": "1", "COLUMNS": "200"}
    if command != "up":
        # Nothing listens there; `up` is to get no further than to where it would start a ledger of its own.
        env["TIERCAST_REDIS_URL"] = "redis://127.0.0.1:1/0"
    ended = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=env | dict(environ or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    left = {path.name for path in data.iterdir()} if data.exists() else set()
    return Ended(ended.returncode, ended.stdout + ended.stderr, left)


def assert_refused(ended: Ended, *messages: str) -> None:
    assert ended.status == 1, ended.said
    for message in messages:
        assert ended.said.count(message) == 1, ended.said
    assert "Traceback" not in ended.said
    assert SECRET not in ended.said
    # Nothing was started: no ledger of its own, no process with a log.
    assert "Starting the ledger" not in ended.said
    assert "ready" not in ended.said
    assert "ledger" not in ended.left


EVERYONE = ("worker", "receiver", "check", "up")


@pytest.mark.parametrize("command", EVERYONE)
def test_a_fault_of_a_source_stops_everyone(command: str, tmp_path: Path) -> None:
    assert_refused(run(command, tmp_path, GOOD + SOURCE), SOURCE_SAYS)


@pytest.mark.parametrize("command", EVERYONE)
def test_a_file_that_is_no_toml_stops_everyone(command: str, tmp_path: Path) -> None:
    assert_refused(run(command, tmp_path, GOOD + "[actions.announce\n"), "tiercast.toml: no valid TOML: ")


@pytest.mark.parametrize("command", EVERYONE)
def test_a_setting_stops_everyone(command: str, tmp_path: Path) -> None:
    ended = run(command, tmp_path, GOOD, {"TIERCAST_LEASE": "soon"})
    assert_refused(ended, "TIERCAST_LEASE is 'soon'; expected a number (seconds)")


@pytest.mark.parametrize("command", EVERYONE)
def test_a_named_file_that_is_missing_stops_everyone(command: str, tmp_path: Path) -> None:
    ended = run(command, tmp_path, GOOD, {"TIERCAST_CONFIG": str(tmp_path / "none.toml")})
    assert_refused(ended, "There is no configuration file")


@pytest.mark.parametrize("command", ["worker", "check", "up"])
def test_faults_of_actions_and_rules_are_told_all_at_once(command: str, tmp_path: Path) -> None:
    text = GOOD.replace("event.type", "event.tpye").replace('["announce"]', '["anounce"]') + "timeout = 3\n"
    ended = run(command, tmp_path, text)
    assert_refused(ended, "actions.announce.message: ", "rules[0].do: ", "rules[0].timeout: unknown key")
