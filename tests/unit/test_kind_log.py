"""The log kind."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from tiercast.runner import perform
from tiercast.testing import make_action, make_job
from worker.actions.log import Log


def test_a_line_is_written() -> None:
    action = make_action(Log, {"message": "x"}, name="announce")
    job = make_job(action, message="Ines is Gold now")
    with capture_logs() as lines:
        assert perform(action, job) == "Ines is Gold now"
    assert lines == [
        {
            "event": "action.log",
            "log_level": "info",
            "action": "announce",
            "job": job.key,
            "message": "Ines is Gold now",
        }
    ]


def test_its_effect_stays_here() -> None:
    assert Log.outside is False


def test_a_character_that_the_output_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a log whose output is in Latin-1
    lines: list[str] = []

    def info(_event: str, *, message: str, **_: object) -> None:
        message.encode("latin-1")
        lines.append(message)

    monkeypatch.setattr("worker.actions.log._log", SimpleNamespace(info=info))
    action = make_action(Log, {"message": "x"})
    # When the line holds what that lacks, then it is written all the same
    assert perform(action, make_job(action, message="hi Bo \U0001f389")) == "hi Bo \U0001f389"
    assert lines == ["hi Bo \\U0001f389"]
