"""Short words for tests that perform jobs of a kind against a fake vendor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tiercast.actions import Action, Job, Values
from tiercast.runner import ActionRunner, Answer, close, perform, perform_many
from tiercast.samples import sample_event
from tiercast.testing import make_action, make_job


@contextmanager
def acting(kind: type[Action], options: dict[str, Any], *, timeout: float = 5.0) -> Iterator[Action]:
    """An action of a kind, closed afterwards."""
    made = make_action(kind, options, timeout=timeout)
    try:
        yield made
    finally:
        close(made)


def job_for(action: Action, *, key: str | None = None, attempt: int = 1, **rendered: Any) -> Job:
    """A job with what its event renders some options to; `time` is the event's, where the kind has one."""
    event = sample_event()
    if "time" in action.options:
        rendered = {"time": event.at, **rendered}
    made = make_job(action, event, key=key, attempt=attempt)
    return replace(made, options=Values({**made.options, **rendered}))


def outcome_of(action: Action, job: Job) -> Answer:
    """What became of one job."""
    try:
        return perform(action, job)
    except Exception as error:
        return error


def outcomes_of(action: Action, jobs: list[Job]) -> list[Answer]:
    """What became of jobs that are performed together; `left out` where the kind did not say."""
    told = {job.key: outcome for job, outcome in perform_many(action, jobs)}
    return [told.get(job.key, "left out") for job in jobs]


def verified(action: Action) -> str | None:
    """What the action proves of its credential; what it raises is raised."""
    with ActionRunner(action) as runner:
        return runner.verify()
