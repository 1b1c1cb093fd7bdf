"""What a job waits for, in words."""

from __future__ import annotations

import time
from typing import Any

from ..errors import ConfigError
from ..ledger import keys
from ..ledger.model import JobInfo, JobState, Wait
from ..ledger.reading import Reader
from .context import Context
from .times import iso, span

#: Milliseconds for which a job is due before it is asked whether a worker hears its queue.
_LONG = 10_000


def waits_of(context: Context, reader: Reader, job: JobInfo) -> list[tuple[Wait | None, str]]:
    """Each thing that a job waits for, and the same in words; a wait that the ledger does not know of is None."""
    config = context.config_if_any
    spec = None if isinstance(config, ConfigError) else config.actions.get(job.action)
    limits = [limit.name for limit in spec.limits] if spec else []
    found: list[tuple[Wait | None, str]] = [(wait, words(wait)) for wait in reader.waits_of(job, limits)]
    is_due = job.state is JobState.OWED and not job.held and job.due_ms is not None
    if not isinstance(config, ConfigError) and is_due and spec is None:
        return [*found, (None, f"an action {job.action} in the configuration, which has none of that name")]
    if is_due and all(wait and wait.cause == "turn" for wait, _ in found) and _is_long_due(reader, job):
        nobody = _nobody_hears(context, spec.queue if spec else None)
        return [*found, (None, nobody)] if nobody else found
    return found


def _is_long_due(reader: Reader, job: JobInfo) -> bool:
    lane = reader.lane(keys.jobs_lane(job.action))
    return lane.held == 0 and job.due_ms is not None and reader.now_ms() - job.due_ms > _LONG


def _nobody_hears(context: Context, queue: str | None) -> str | None:
    """Say so where no worker hears the queue that bells of the action ring on."""
    from ..bells import QUEUE
    from .checks.queues import BrokerAway, heard_queues

    try:
        heard = heard_queues(context.settings)
    except BrokerAway:
        return "a worker: the broker does not answer, so bells reach none; see `tiercast check`"
    name = queue or QUEUE
    if not heard:
        return "a worker: none answers"
    if not any(name in queues for queues in heard.values()):
        return f"a worker that hears the queue {name}; start one with: celery -A worker worker -n {name}@%h -Q {name}"
    return None


def words(wait: Wait) -> str:
    """One thing that a job waits for, as a person reads it."""
    until = f"until {iso(wait.until_ms)}{_ahead(wait.until_ms)}"
    by = f" by {wait.by}" if wait.by else ""
    since = f" since {iso(wait.since_ms)}" if wait.since_ms is not None else ""
    are = "is" if wait.number == 1 else "are"
    texts = {
        "paused": f"its lane, which is paused{by}{since}: {wait.reason}",
        "hold": f"its lane, which is on hold {until}: {wait.reason}",
        "later": f"its next attempt, at {iso(wait.until_ms)}{_ahead(wait.until_ms)}",
        "rate": f"the rate limit {(wait.reason or '').removeprefix('rate:')}, {until}",
        "concurrency": f"a place: its action's concurrency of {wait.number} is used up",
        "turn": f"its turn: {wait.number} of its action {are} due before it",
        "order": f"{wait.job}, which is {wait.state} and goes first in its order group",
        "once": f"{wait.job}, which is {wait.state} and holds their once place",
    }
    return texts[wait.cause]


def _ahead(until_ms: int | None) -> str:
    if until_ms is None:
        return ""
    seconds = until_ms / 1000 - time.time()
    return f" (in {span(seconds)})" if seconds > 0 else ""


def as_dict(wait: Wait | None, text: str) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "cause": wait.cause if wait else "worker",
        "text": text,
        "by": wait.by if wait else None,
        "since": iso(wait.since_ms) if wait else None,
        "until": iso(wait.until_ms) if wait else None,
        "job": wait.job if wait else None,
    }
