"""One attempt of a job: what the kind is given, and what its answer means."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import structlog

from tiercast.actions import Action, Halt, Job, Permanent, RetryLater, Skip, Unknown
from tiercast.config.model import ActionSpec
from tiercast.event import Event, StoredEvent
from tiercast.ledger.model import HeldJob, Outcome

log = structlog.get_logger()

#: The most characters of an error or a result that go on record.
_MOST_TEXT = 500

#: The longest wait, in seconds, that a kind can ask for: a week.
_LONGEST = 7 * 86400.0


@dataclass(slots=True)
class Verdict:
    """An outcome, and how long the whole lane is to wait with it: (seconds, reason) or None."""

    outcome: Outcome
    put_off: tuple[float, str] | None = None


@lru_cache(maxsize=512)
def _revived(body: bytes, id: str, type: str, at: str, created_us: int, source: str) -> Event:
    """An event is parsed at most once for all its jobs that this process performs."""
    if not body:
        raise ValueError("its body is gone")
    return StoredEvent(body, id=id, type=type, at=at, created_us=created_us, source=source)


def event_of(held: HeldJob) -> Event:
    """The event of a held job."""
    return _revived(held.body, held.event_id, held.type, held.at, held.created_us, held.source)


def key_of(held: HeldJob) -> str:
    """The idempotency key that the kind gets: the job's own, or the one that its once group shares."""
    if held.once is None:
        return held.key
    action = held.key.rpartition(":")[2]
    return f"{held.source}:once-{held.once}:{action}"


class Attempt:
    """One attempt of one held job, from preparing it to the verdict."""

    def __init__(self, spec: ActionSpec, action: Action, held: HeldJob) -> None:
        self._spec = spec
        self._action = action
        self.held = held
        self._began = time.monotonic()
        self._cleared = False

    def prepare(self) -> Job | Verdict:
        """Make the job that the kind sees; or the verdict, where the kind is not to be called."""
        self._began = time.monotonic()
        try:
            event = event_of(self.held)
            if not self._action.repeatable:
                _ = event.data  # what is wrong with it must show before the effect could have happened
            options = self._spec.render(event)
        except (Skip, Permanent) as answer:
            if self._is_to_be_confirmed():
                return self._uncertain(f"it can no longer be asked whether it happened: {_text(answer)}")
            return self.judge(answer)
        except Exception as error:
            return Verdict(self._again(f"could not be prepared: {_text(error)}"))
        job = Job(
            key=key_of(self.held),
            event=event,
            attempt=self.held.attempts + 1,
            options=options,
            timeout=self._spec.timeout,
            since=self.held.since,
        )
        return self._confirmed(job) if self._is_to_be_confirmed() else job

    def _is_to_be_confirmed(self) -> bool:
        return self.held.maybe and not self._action.repeatable

    def _confirmed(self, job: Job) -> Job | Verdict:
        """An earlier attempt ended without an answer: ask first whether it had its effect."""
        if not self._action.can_confirm():
            return self._uncertain("an earlier attempt ended without an answer")
        try:
            happened = self._action.confirm(job)
        except BaseException as error:
            return self._asked_in_vain(_tamed(error))
        if happened is None:
            return self._ask_later("not yet known whether it happened", maybe=None)
        if happened:
            return Verdict(self._outcome("done", "confirmed: an earlier attempt had done it", maybe=False))
        self._cleared = True
        return job

    def _asked_in_vain(self, error: Exception) -> Verdict:
        if isinstance(error, Halt):
            return self.judge(error)
        text = f"could not find out whether it happened: {_text(error)}"
        if not isinstance(error, RetryLater):
            return self._ask_later(text, maybe=None)
        verdict = self._ask_later(text, after=error.after, maybe=None)
        return replace(verdict, put_off=(self._off(error.after), text)) if error.everyone else verdict

    def judge(self, answer: object) -> Verdict:
        """What the kind's answer, or its exception, means.

        Whatever it returned without raising is a success: to repeat it could have the effect twice.
        """
        match answer:
            case None | str():
                return Verdict(self._outcome("done", answer, maybe=False))
            case Skip():
                return Verdict(self._outcome("skipped", _text(answer)))
            case Permanent():
                return Verdict(self._outcome("dead", _text(answer)))
            case Halt() | RetryLater():
                return self._waits(answer)
            case BaseException():
                return self._failed(_tamed(answer))
            case _:
                log.warning("job.odd_answer", job=self.held.key, type=type(answer).__name__, expected="text or None")
                return Verdict(self._outcome("done", None, maybe=False))

    def _waits(self, answer: Halt | RetryLater) -> Verdict:
        """Nothing happened: later, with the whole lane where that is the cause."""
        reason = _text(answer)
        put_off = (self._off(answer.after), reason)
        if isinstance(answer, Halt):
            return Verdict(replace(back(self.held), text=reason), put_off)
        return Verdict(self._again(reason, after=answer.after), put_off if answer.everyone else None)

    def _failed(self, error: Exception) -> Verdict:
        """Any other exception: a failure where repeating is harmless, else an unknown outcome."""
        if not isinstance(error, Unknown):
            log.warning("job.exception", job=self.held.key, error=type(error).__name__)
        if self._action.repeatable:
            return Verdict(self._again(_text(error), maybe=True if isinstance(error, Unknown) else None))
        if not self._action.can_confirm():
            return self._uncertain(f"no answer: {_text(error)}")
        return self._ask_later(f"no answer: {_text(error)}")

    def _again(self, reason: str, *, after: float | None = None, maybe: bool | None = None) -> Outcome:
        if self.held.tries + 1 >= self._spec.attempts:
            return self._outcome("dead", f"{self._spec.attempts} attempts failed; the last: {reason}", maybe=maybe)
        return self._outcome("later", reason, wait=self._pause(after), maybe=maybe)

    def _ask_later(self, reason: str, *, after: float | None = None, maybe: bool | None = True) -> Verdict:
        """Owed again, to be confirmed first; `maybe` is None where no new attempt could have had an effect."""
        if self.held.tries + 1 >= self._spec.attempts:
            return self._uncertain(reason)
        return Verdict(self._outcome("later", reason, wait=self._pause(after), maybe=maybe))

    def _uncertain(self, reason: str) -> Verdict:
        return Verdict(self._outcome("uncertain", f"{reason}; decide it: tiercast jobs resolve", maybe=True))

    def _pause(self, after: float | None) -> float:
        """Seconds until the next attempt: what was asked for, or else the backoff."""
        seconds = _seconds(after)
        return self._backoff() if seconds is None else seconds + random.uniform(0, 1)  # noqa: S311

    def _off(self, after: float | None) -> float:
        """Seconds that the lane waits: what was asked for, or else the backoff."""
        return _seconds(after) or self._backoff()

    def _backoff(self) -> float:
        """Seconds until the next attempt: exponential, with full jitter."""
        most = min(self._spec.backoff_max, self._spec.backoff * 2.0 ** min(self.held.tries, 30))
        return random.uniform(0, most)  # noqa: S311 - jitter, no secret

    def _outcome(
        self, verdict: str, text: str | None, *, wait: float | None = None, maybe: bool | None = None
    ) -> Outcome:
        duration = time.monotonic() - self._began
        return Outcome(
            job=self.held.key,
            token=self.held.token,
            verdict=verdict,
            text=text[:_MOST_TEXT].encode("utf-8", "replace").decode() if text else None,
            wait=wait,
            maybe=False if maybe is None and self._cleared else maybe,
            duration=duration,
        )


def back(held: HeldJob) -> Outcome:
    """Hand a job back as if it had not been claimed."""
    return Outcome(job=held.key, token=held.token, verdict="back")


def perform_one(spec: ActionSpec, action: Action, held: HeldJob) -> Verdict:
    """Make one attempt of one job."""
    attempt = Attempt(spec, action, held)
    job = attempt.prepare()
    if isinstance(job, Verdict):
        return job
    try:
        answer: object = action.perform(job)
    except BaseException as error:
        answer = _tamed(error)
    return attempt.judge(answer)


def perform_many(spec: ActionSpec, action: Action, helds: list[HeldJob]) -> Iterator[tuple[HeldJob, Verdict]]:
    """Make one attempt of several jobs by the kind's bulk call; yields each with its verdict as it comes."""
    open_: dict[str, Attempt] = {}
    jobs: list[Job] = []
    for held in helds:
        attempt = Attempt(spec, action, held)
        job = attempt.prepare()
        if isinstance(job, Verdict):
            yield held, job
        elif job.key in open_:
            # Two jobs of one once group are never held at once; a kind of ours would still mix them up.
            yield held, Verdict(back(held))
        else:
            open_[job.key] = attempt
            jobs.append(job)
    if not jobs:
        return
    missing: Exception = RetryLater("the bulk call left it out")
    try:
        answers = action.perform_many(jobs)
        assert isinstance(answers, Iterable)  # noqa: S101
        for job, answer in answers:
            done = open_.pop(job.key, None)
            if done is not None:
                yield done.held, done.judge(answer)
    except GeneratorExit:
        raise
    except BaseException as error:
        missing = _tamed(error)
    for left in open_.values():
        yield left.held, left.judge(missing)


def _tamed(error: BaseException) -> Exception:
    """What a kind raised, as an exception that ends the attempt and not its thread."""
    return error if isinstance(error, Exception) else RuntimeError(f"the kind raised {type(error).__name__}")


def _seconds(after: object) -> float | None:
    """A wait that a kind asked for; None where it names no usable time."""
    if not isinstance(after, (int, float)) or not math.isfinite(after):
        return None
    return min(max(0.0, float(after)), _LONGEST)


def _text(error: Exception) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    return (text if text else type(error).__name__)[:_MOST_TEXT]
