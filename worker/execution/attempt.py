"""One attempt of a job: what the kind is given, and what its answer means."""

from __future__ import annotations

import asyncio
import inspect
import shlex
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import structlog

from tiercast.actions import Action, Done, Halt, Job, Permanent, RetryLater, Skip, Unavailable, Unknown
from tiercast.config.model import ActionSpec
from tiercast.faults import fault_text
from tiercast.ledger.keys import sent_key
from tiercast.ledger.model import Alike, HeldJob, Hold, Outcome

from .events import EventCache
from .retry import RetryPolicy, usable_seconds

log = structlog.get_logger()

#: The most characters of an error or a result that go on record.
MAX_TEXT_CHARACTERS = 500

#: So many jobs of an action may die of one code of the vendor's with none done between; then its lane is held.
ALIKE_JOBS = 20

#: The most characters of a vendor's code.
MAX_CODE_CHARACTERS = 200

#: Seconds beyond an attempt's time-out after which an async call is cancelled: a kind's own deadline, which knows more
#: of what happened, comes first.
CANCEL_GRACE_SECONDS = 0.5

#: Seconds that a plain function waits for an async method of its kind.
BRIDGE_SECONDS = 3600.0


#: The events of this process's jobs.
_EVENTS = EventCache()


def policy_of(spec: ActionSpec) -> RetryPolicy:
    """An action's retry policy."""
    return RetryPolicy(backoff=spec.backoff, backoff_max=spec.backoff_max, give_up=spec.give_up, attempts=spec.attempts)


class Attempt:
    """One attempt of one held job, from preparing it to its outcome."""

    def __init__(self, spec: ActionSpec, action: Action, held: HeldJob) -> None:
        self._spec = spec
        self._action = action
        self.held = held
        self._began = time.monotonic()
        self._key = sent_key(held.key, held.once)
        self._cleared = False
        self._called = False

    @property
    def asks_first(self) -> bool:
        """Whether the kind is asked to confirm before it is called: an earlier attempt may have had its effect."""
        return self.held.effect_possible and not self._action.repeatable

    def prepare(self) -> Job | Outcome:
        """Make the job that the kind sees; or the outcome, where the kind is not to be called."""
        self._began = time.monotonic()
        try:
            event = _EVENTS.event_of(self.held)
            if not self._action.repeatable:
                _ = event.data  # what is wrong with it must show before the effect could have happened
            options = self._spec.render(event, self._key)
        except (Skip, Permanent) as answer:
            if self.asks_first:
                return self._uncertain(f"it can no longer be asked whether it happened: {_text(answer)}")
            return self.judge(answer)
        except Exception as error:
            return self._again(f"could not be prepared: {_text(error)}")
        if self.asks_first and not self._action.can_confirm():
            return self._uncertain("an earlier attempt ended without an answer")
        return Job(
            key=self._key,
            event=event,
            attempt=self.held.attempts + 1,
            options=options,
            timeout=self._spec.timeout,
            since=self.held.since,
        )

    def judge_confirmation(self, answer: object) -> Outcome | None:
        """What the answer to `confirm` means; None where the job is to be performed."""
        if isinstance(answer, BaseException):
            return self._asked_in_vain(_tamed(answer))
        if answer is None:
            return self._ask_later("not yet known whether it happened", effect_possible=None)
        if answer:
            return self._outcome("done", "confirmed: an earlier attempt had done it", effect_possible=False)
        self._cleared = True
        return None

    def _asked_in_vain(self, error: Exception) -> Outcome:
        if isinstance(error, Halt):
            return self._held_back(error)
        text = f"could not find out whether it happened: {_text(error)}"
        if not isinstance(error, RetryLater):
            return self._ask_later(text, effect_possible=None)
        if error.everyone:
            return self._held_back(error, text)
        outcome = self._ask_later(text, after=error.after, effect_possible=None)
        outcome.signal = "outage" if isinstance(error, Unavailable) else None
        return outcome

    def judge(self, answer: object) -> Outcome:
        """What the kind's answer, or its exception, means.

        Whatever it returned without raising is a success: to repeat it could have the effect twice.
        """
        match answer:
            case None | str() | Done():
                return self._outcome("done", answer if answer is None else str(answer), effect_possible=False)
            case Skip():
                return self._outcome("skipped", _text(answer), answered=self._called)
            case Permanent():
                return self._dead(answer)
            case Halt() | RetryLater(everyone=True):
                return self._held_back(answer)
            case BaseException():
                return self._failed(_tamed(answer))
            case _:
                log.warning("job.odd_answer", job=self.held.key, type=type(answer).__name__, expected="text or None")
                return self._outcome("done", None, effect_possible=False)

    def _dead(self, answer: Permanent) -> Outcome:
        outcome = self._outcome("dead", _text(answer), answered=self._called)
        if answer.code and answer.code.strip():
            outcome.alike = Alike(answer.code[:MAX_CODE_CHARACTERS], self._reason_of_all(answer), ALIKE_JOBS)
        return outcome

    def _reason_of_all(self, answer: Permanent) -> str:
        """What is said of the lane when many jobs have died in the same way, with the command that tries them again."""
        text = _text(answer)
        parts = (answer.code or "").split()
        words = [*parts[1:], f"answered {parts[0]}"] if parts[0].isdigit() else parts
        word = next((word for word in words if word in text), None)
        command = f"tiercast jobs retry --action {self._spec.name}{f' --error {shlex.quote(word)}' if word else ''}"
        return _storable(f"{ALIKE_JOBS} jobs failed alike, none was done between. Mend it, then: {command} | {text}")

    def _held_back(self, answer: Halt | RetryLater, text: str | None = None) -> Outcome:
        """The cause holds for every job: release this one, and hold the lane or limit, or learn a rate."""
        reason = text or _text(answer)
        outcome = replace(release(self.held), text=reason, effect_possible=False if self._cleared else None)
        seconds = usable_seconds(answer.after)
        if isinstance(answer, Halt):
            outcome.hold = Hold(
                seconds=300.0 if seconds is None else seconds,
                cause="setting" if answer.cause == "setting" else "credential",
                reason=reason,
            )
        elif seconds is None and not isinstance(answer, Unavailable):
            outcome.signal = "rate"
        else:
            pause = policy_of(self._spec).pause(0) if seconds is None else seconds
            outcome.hold = Hold(seconds=pause, cause="vendor", reason=reason, limit=self._spec.limit)
        return outcome

    def _failed(self, error: Exception) -> Outcome:
        """A failure where nothing happened or repeating is harmless, else an unknown outcome."""
        if isinstance(error, RetryLater):
            away: Literal["outage"] | None = "outage" if isinstance(error, Unavailable) else None
            return self._again(_text(error), after=error.after, signal=away)
        reason = _text(error)
        if not isinstance(error, Unknown):
            log.warning("job.exception", job=self.held.key, error=type(error).__name__)
            if error.__traceback__ is not None:
                reason = f"{reason} ({fault_text(error)})"
        signal: Literal["outage"] | None = "outage" if isinstance(error, Unknown) and error.unavailable else None
        if self._action.repeatable:
            return self._again(reason, effect_possible=True if isinstance(error, Unknown) else None, signal=signal)
        if not self._action.can_confirm():
            outcome = self._uncertain(f"no answer: {reason}")
        else:
            outcome = self._ask_later(f"no answer: {reason}")
        outcome.signal = signal
        return outcome

    def _again(
        self,
        reason: str,
        *,
        after: object = None,
        effect_possible: bool | None = None,
        signal: Literal["outage"] | None = None,
    ) -> Outcome:
        decision = policy_of(self._spec).decide(self.held.tries, self.held.failing, after)
        if decision.action == "give up":
            outcome = self._outcome("dead", f"{decision.reason}; the last: {reason}", effect_possible=effect_possible)
        else:
            outcome = self._outcome("later", reason, wait=decision.wait, effect_possible=effect_possible)
        outcome.signal = signal
        return outcome

    def _ask_later(self, reason: str, *, after: object = None, effect_possible: bool | None = True) -> Outcome:
        """Owed again, to be confirmed first; `effect_possible` is None where this attempt can have had no effect."""
        decision = policy_of(self._spec).decide(self.held.tries, self.held.failing, after)
        if decision.action == "give up":
            return self._uncertain(reason)
        return self._outcome("later", reason, wait=decision.wait, effect_possible=effect_possible)

    def _uncertain(self, reason: str) -> Outcome:
        sent = f", which was sent as {self._key}" if self._key != self.held.key else ""
        return self._outcome(
            "uncertain",
            f"{reason}; look at the vendor for this job{sent}, then: tiercast jobs resolve",
            effect_possible=True,
        )

    def _outcome(
        self,
        verdict: str,
        text: str | None,
        *,
        wait: float | None = None,
        effect_possible: bool | None = None,
        answered: bool = False,
    ) -> Outcome:
        return Outcome(
            job=self.held.key,
            token=self.held.token,
            verdict=verdict,
            text=_storable(text) if text else None,
            wait=wait,
            effect_possible=False if effect_possible is None and self._cleared else effect_possible,
            duration=time.monotonic() - self._began,
            answered=answered,
        )

    def will_call(self) -> None:
        """Note that the kind's `perform` is called now: its answers from here on are the vendor's."""
        self._called = True


def release(held: HeldJob) -> Outcome:
    """Give a job back as if it had not been claimed."""
    return Outcome(job=held.key, token=held.token, verdict="released")


# --- plain kinds


def perform_one(
    spec: ActionSpec, action: Action, held: HeldJob, *, loop: asyncio.AbstractEventLoop | None = None
) -> Outcome:
    """Make one attempt of one job of a plain kind; `loop` runs what of it is async."""
    attempt = Attempt(spec, action, held)
    job = _prepared(attempt, action, loop)
    if isinstance(job, Outcome):
        return job
    attempt.will_call()
    return attempt.judge(_called(action.perform, job, loop))


def perform_many(
    spec: ActionSpec, action: Action, helds: list[HeldJob], *, loop: asyncio.AbstractEventLoop | None = None
) -> Iterator[tuple[HeldJob, Outcome]]:
    """Make one attempt of several jobs by a plain kind's bulk call; yields each with its outcome as it comes."""
    batch = _Batch()
    for held in helds:
        attempt = Attempt(spec, action, held)
        outcome = batch.add(attempt, _prepared(attempt, action, loop))
        if outcome is not None:
            yield held, outcome
    if not batch.jobs:
        return
    missing: Exception = RetryLater("the bulk call left it out")
    try:
        answers = action.perform_many(batch.jobs)
        if not isinstance(answers, Iterable):
            raise TypeError(f"perform_many returned {type(answers).__name__}, not pairs of job and outcome")
        for job, answer in answers:
            yield from batch.answered(job, answer)
    except GeneratorExit:
        raise
    except BaseException as error:
        missing = _tamed(error)
    yield from batch.rest(missing)


def _prepared(attempt: Attempt, action: Action, loop: asyncio.AbstractEventLoop | None) -> Job | Outcome:
    job = attempt.prepare()
    if isinstance(job, Outcome) or not attempt.asks_first:
        return job
    return attempt.judge_confirmation(_called(action.confirm, job, loop)) or job


def _called(method: Callable[[Job], Any], job: Job, loop: asyncio.AbstractEventLoop | None) -> object:
    """What a kind's method answers or raises; an async one runs on the loop while this thread waits."""
    try:
        answer = method(job)
        if inspect.iscoroutine(answer):
            return _awaited(answer, loop)
        return answer
    except BaseException as error:
        return _tamed(error)


def _awaited(answer: Coroutine[Any, Any, object], loop: asyncio.AbstractEventLoop | None) -> object:
    if loop is None:
        return asyncio.run(answer)
    return asyncio.run_coroutine_threadsafe(answer, loop).result(BRIDGE_SECONDS)


# --- async kinds


async def perform_one_async(spec: ActionSpec, action: Action, held: HeldJob) -> Outcome:
    """Make one attempt of one job of an async kind. It is cancelled soon after the action's time-out."""
    attempt = Attempt(spec, action, held)
    limit = spec.timeout + CANCEL_GRACE_SECONDS
    job = await _prepared_async(attempt, action, limit)
    if isinstance(job, Outcome):
        return job
    attempt.will_call()
    return attempt.judge(await _answer(action.perform, job, limit))


async def _answer(method: Callable[[Job], Any], job: Job, limit: float) -> object:
    """What a kind's method answers or raises within `limit` seconds; a plain one runs in a thread."""
    try:
        async with asyncio.timeout(limit) as scope:
            if inspect.iscoroutinefunction(method):
                return await method(job)
            return await asyncio.to_thread(method, job)
    except TimeoutError as error:
        return _timed_out(job) if scope.expired() else error
    except asyncio.CancelledError:
        if _is_being_cancelled():
            return Unknown("its worker was stopped before an answer came")
        return Unknown("the kind cancelled its own call")
    except BaseException as error:
        return _tamed(error)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _timed_out(job: Job) -> Unknown:
    return Unknown(f"it did not end within its time-out of {job.timeout:g} s")


async def perform_many_async(
    spec: ActionSpec, action: Action, helds: list[HeldJob]
) -> AsyncIterator[tuple[HeldJob, Outcome]]:
    """Make one attempt of several jobs by an async kind's bulk call; yields each with its outcome as it comes.

    The time-out holds for each step of the call: from its begin to the first answer, and from one to the next.
    """
    batch = _Batch()
    limit = spec.timeout + CANCEL_GRACE_SECONDS
    for held in helds:
        attempt = Attempt(spec, action, held)
        outcome = batch.add(attempt, await _prepared_async(attempt, action, limit))
        if outcome is not None:
            yield held, outcome
    if not batch.jobs:
        return
    try:
        async for answered, answer in _steps(action, batch.jobs, limit):
            for pair in batch.answered(answered, answer):
                yield pair
        missing: Exception = RetryLater("the bulk call left it out")
    except GeneratorExit:
        raise
    except BaseException as error:
        missing = _why_missing(error, batch.jobs[0])
    for pair in batch.rest(missing):
        yield pair


def _why_missing(error: BaseException, job: Job) -> Exception:
    """What an async bulk call that ended with an error means for the jobs that it did not answer for."""
    if isinstance(error, TimeoutError):
        return _timed_out(job)
    if isinstance(error, asyncio.CancelledError):
        return Unknown("its worker was stopped before an answer came")
    return _tamed(error)


async def _prepared_async(attempt: Attempt, action: Action, limit: float) -> Job | Outcome:
    job = attempt.prepare()
    if isinstance(job, Outcome) or not attempt.asks_first:
        return job
    return attempt.judge_confirmation(await _answer(action.confirm, job, limit)) or job


async def _steps(action: Action, jobs: list[Job], limit: float) -> AsyncIterator[tuple[Job, object]]:
    """What an async bulk call yields, each step within `limit` seconds."""
    answers = action.perform_many(jobs)
    if not isinstance(answers, AsyncIterable):
        raise TypeError(f"perform_many returned {type(answers).__name__}, not an async generator")
    steps = aiter(answers)
    while True:
        async with asyncio.timeout(limit):
            try:
                step = await anext(steps)
            except StopAsyncIteration:
                return
        yield step


class _Batch:
    """The jobs of one bulk call that have no outcome yet."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._open: dict[str, Attempt] = {}

    def add(self, attempt: Attempt, job: Job | Outcome) -> Outcome | None:
        """Take a job into the call; the outcome of one that does not take part."""
        if isinstance(job, Outcome):
            return job
        if job.key in self._open:
            # Two jobs of one once group are never held at once; a kind of ours would still mix them up.
            return release(attempt.held)
        attempt.will_call()
        self._open[job.key] = attempt
        self.jobs.append(job)
        return None

    def answered(self, job: Job, answer: object) -> Iterator[tuple[HeldJob, Outcome]]:
        """The outcome of a job that the call answered for; nothing where it has one, or was not asked for."""
        attempt = self._open.pop(job.key, None)
        if attempt is not None:
            yield attempt.held, attempt.judge(answer)

    def rest(self, missing: Exception) -> Iterator[tuple[HeldJob, Outcome]]:
        """The outcomes of the jobs that the call did not answer for."""
        for attempt in self._open.values():
            yield attempt.held, attempt.judge(missing)
        self._open.clear()


def _tamed(error: BaseException) -> Exception:
    """What a kind raised, as an exception that ends the attempt and not its thread."""
    return error if isinstance(error, Exception) else RuntimeError(f"the kind raised {type(error).__name__}")


def _storable(text: str) -> str:
    return text[:MAX_TEXT_CHARACTERS].encode("utf-8", "replace").decode()


def _text(error: Exception) -> str:
    try:
        text = " ".join(str(error)[: 4 * MAX_TEXT_CHARACTERS].split())
    except Exception:
        text = ""
    return _storable(text if text else type(error).__name__)
