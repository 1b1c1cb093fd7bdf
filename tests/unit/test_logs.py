"""Logs tell where an exception was raised and of which type, and never its text."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from worker import celery
from worker import process as worker_process

ROOT = Path(__file__).parents[2]

#: Raises in every way in which a line about an exception can come to be.
PROGRAM = """
import logging, threading
import structlog
from tiercast.logs import set_up_logs
from tiercast.settings import load_settings

set_up_logs(load_settings({"TIERCAST_LOG_FORMAT": %r, "TIERCAST_LOG_LEVEL": "debug"}), process="test")

def fail():
    try:
        raise KeyError("ada@example.com")
    except KeyError as error:
        raise ValueError("no such ada@example.com") from error

try:
    fail()
except ValueError as error:
    structlog.get_logger().exception("ours.fault", delivery="d-1")
    structlog.get_logger().error("ours.other", exc_info=error)
    logging.getLogger("library").exception("theirs")
thread = threading.Thread(target=fail, name="perform")
thread.start()
thread.join()
fail()
"""


def run(form: str) -> str:
    done = subprocess.run([sys.executable, "-c", PROGRAM % form], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    return done.stdout + done.stderr


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_text_of_an_exception_is_logged(form: str) -> None:
    said = run(form)
    assert "ada" not in said
    assert "Traceback" not in said
    assert said.count("ValueError at ") == 5


def test_type_place_and_cause_are_told() -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in run("json").splitlines()]
    assert [line["event"] for line in lines] == ["ours.fault", "ours.other", "theirs", "process.fault", "process.fault"]
    assert lines[0]["delivery"] == "d-1"
    first, after = lines[0]["exception"].split("; after ")
    assert first.startswith("ValueError at <string>:")
    assert after.startswith("KeyError at <string>:")
    assert [line.get("thread") for line in lines[3:]] == ["perform", "MainThread"]


def test_a_drain_raises_no_text_for_celery_to_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError("no such ada@example.com")

    monkeypatch.setattr(worker_process, "process", fail)
    with pytest.raises(celery.DrainFault) as raised:
        celery.perform.run("jobs/x")
    told = "".join(traceback.format_exception(raised.value))
    assert "ValueError at test_logs.py:" in told
    assert "ada" not in told


BROKEN = """
import logging, os, sys, time
import structlog
from tiercast.logs import set_up_logs
from tiercast.settings import load_settings

reader, writer = os.pipe()
sys.stdout = os.fdopen(writer, "w")
set_up_logs(load_settings({"TIERCAST_LOG_FORMAT": %r}), process="test")
log = structlog.get_logger()

class Broken:
    def __repr__(self):
        raise RuntimeError
    __str__ = __repr__

# A value that cannot be shown, a pipe that nobody reads, and one whose reader is gone
log.info("broken", value=Broken())
started = time.monotonic()
for _ in range(3000):
    log.info("line", pad="x" * 100)
    logging.getLogger("library").warning("theirs")
assert time.monotonic() - started < 10
taken = b""
while b"line" not in taken[-200:]:
    taken += os.read(reader, 2**20)
log.info("after")
logged = os.read(reader, 2**20).decode()
os.close(reader)
log.error("gone")
logging.getLogger("library").error("gone")
print(logged, file=sys.stderr)
os._exit(0)
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_line_that_cannot_be_written_is_dropped_counted_and_never_raised(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN % form], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "logs.dropped" in done.stderr
    assert "after" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("sign", ["\x1b", "\x9b", "\u202e", "\u2066", "\u200f", "\ufeff", "\x85", "\u2028", "\n"])
def test_what_a_terminal_would_obey_is_escaped(sign: str) -> None:
    code = (
        "import structlog, sys; from tiercast.logs import set_up_logs; from tiercast.settings import load_settings\n"
        "set_up_logs(load_settings({}), process='test')\n"
        f"structlog.get_logger().info('a' + {sign!r}, value='b' + {sign!r}, values=['c' + {sign!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=True)
    line = done.stdout.decode().removesuffix("\n")
    assert sign not in line
    assert line.count(repr(sign)[1:-1]) == 3
