"""A job's idempotency key in the form that needs more than the key."""

from __future__ import annotations

from ..actions import Job
from ..idempotency import ulid_key


def ulid_of(job: Job) -> str:
    """The ULID of a job: its event's time, and its key."""
    return ulid_key(job.key, job.event.created_us // 1000)
