"""Which rounds a replay makes that also does done jobs again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..ledger import keys
from ..ledger.model import JobInfo
from ..ledger.states import JobState


def done_in_last_round(jobs: Iterable[JobInfo], action: str | None = None) -> Iterator[JobInfo]:
    """Of an event's jobs, the last round of each action where it is done: what can be done again.

    Args:
        jobs: of one event.
        action: of this action only.
    """
    last: dict[str, JobInfo] = {}
    for job in jobs:
        known = last.get(job.action)
        if action in (None, job.action) and (known is None or keys.round_of(job.key) >= keys.round_of(known.key)):
            last[job.action] = job
    return (job for job in last.values() if job.state is JobState.DONE)


def next_round(job: JobInfo) -> str:
    """The name of the round after a job's: `<action>:r2`."""
    return f"{job.action}:r{keys.round_of(job.key) + 1}"
