"""Kind `log`: a line in the log."""

from __future__ import annotations

import structlog
from marshmallow import fields

from tiercast.actions import Action, Job

_log = structlog.get_logger()


class Log(Action):
    """Write a line to the worker's log.

    The message may hold personal data if its template does: this kind alone is exempt from the rule that logs hold
    ids only.
    """

    kind = "log"
    outside = False

    class Options(Action.Options):
        message = fields.String(required=True, metadata={"description": "the line; a template"})

    def perform(self, job: Job) -> str | None:
        _log.info("action.log", action=self.name, job=job.key, message=job.options.message)
        return None
