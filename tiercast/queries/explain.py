"""Why a job is where it is, and what would move it, in one sentence."""

from __future__ import annotations

from collections.abc import Iterable

from ..event import iso_from_us
from ..ledger import keys
from ..ledger.model import JobInfo, Wait
from ..ledger.states import JobState


def explain(job: JobInfo, waits: Iterable[Wait] = ()) -> str:
    """One sentence about a job: the cause, and behind a semicolon what would move it.

    Args:
        job: as it was read.
        waits: what it waits for, by `Reader.waits_of`.
    """
    cause, remedy = _of_state(job, next(iter(waits), None))
    return f"{cause}; {remedy}." if remedy else f"{cause}."


def _of_state(job: JobInfo, wait: Wait | None) -> tuple[str, str | None]:
    text = f": {job.text}" if job.text else ""
    at = iso_from_us(job.changed_ms * 1000)
    tries = "after one attempt" if job.attempts == 1 else f"after {job.attempts} attempts"
    match job.state:
        case JobState.DONE:
            return f"It was done {tries} at {at}{text}", None
        case JobState.SKIPPED:
            return f"It was skipped at {at}{text}", None
        case JobState.SUPERSEDED:
            return f"It became needless at {at}{text}", None
        case JobState.DEAD:
            return f"It gave up {tries} at {at}{text}", f"once the cause is mended: tiercast jobs retry {job.key}"
        case JobState.UNCERTAIN:
            look = f"look at the vendor for {job.sent_as}, then: tiercast jobs resolve {job.key} done, or retry"
            return f"Nobody knows since {at} whether it happened{text}", look
        case _:
            return _of_open(job, wait)


def _of_open(job: JobInfo, wait: Wait | None) -> tuple[str, str | None]:
    """Of a job that is owed or parked."""
    if job.held:
        return "It is being performed right now", None
    if wait is None:
        if job.state is JobState.PARKED:
            return "It waits for another job of its order or once group", None
        return "It is due, and the next free worker takes it", None
    return _of_wait(job, wait)


def _of_wait(job: JobInfo, wait: Wait) -> tuple[str, str | None]:
    until = None if wait.until_ms is None else iso_from_us(wait.until_ms * 1000)
    by = f" by {wait.by}" if wait.by else ""
    since = f" since {iso_from_us(wait.since_ms * 1000)}" if wait.since_ms is not None else ""
    failed = f" since the last one failed: {wait.reason}" if wait.reason else ""
    resume = f"tiercast lanes resume {keys.jobs_lane(job.action)}"
    group = "goes first in its order group" if wait.cause == "order" else "holds its once place"
    undecided = wait.state in (JobState.UNCERTAIN, JobState.DEAD)
    before = f"decide that one: tiercast jobs show {wait.job}" if undecided else "it goes on when that one is settled"
    limit = (wait.reason or "").removeprefix("rate:")
    sentences: dict[str, tuple[str, str | None]] = {
        "paused": (f"Its lane is paused{by}{since}: {wait.reason}", f"to go on: {resume}"),
        "hold": (f"Its lane is on hold until {until}: {wait.reason}", f"to try at once: {resume}"),
        "later": (f"Its next attempt is at {until}{failed}", f"to try at once: tiercast jobs retry {job.key}"),
        "rate": (f"The rate limit {limit} lets no call start before {until}", None),
        "concurrency": (
            f"All {wait.number} places of its action's concurrency are taken",
            "it starts when one is free",
        ),
        "turn": (f"{wait.number} of its action are due before it", None),
    }
    return sentences.get(wait.cause) or (f"It waits for {wait.job}, which is {wait.state} and {group}", before)
