"""Kind `log`: a line in the log."""

from __future__ import annotations

import structlog
from marshmallow import fields

from tiercast.actions import Action, Job

_log = structlog.get_logger()

#: The most characters of the line that go on record as the job's result.
_MOST_SHOWN = 200


class Log(Action):
    """Write a line to the worker's log.

    The message may hold personal data if its template does: this kind alone is exempt from the rule that logs hold
    ids only.
    """

    kind = "log"
    outside = False

    class Options(Action.Options):
        message = fields.String(required=True, metadata={"description": "the line; a template"})

    async def perform(self, job: Job) -> str | None:
        message: str = job.options.message
        try:
            _log.info("action.log", action=self.name, job=job.key, message=message)
        except UnicodeEncodeError:
            # Standard output is in an encoding that lacks a character of it; half a name is better than no line.
            escaped = message.encode("ascii", "backslashreplace").decode()
            _log.info("action.log", action=self.name, job=job.key, message=escaped)
        return message[:_MOST_SHOWN]
