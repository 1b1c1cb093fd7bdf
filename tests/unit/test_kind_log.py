"""The log kind."""

from __future__ import annotations

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
