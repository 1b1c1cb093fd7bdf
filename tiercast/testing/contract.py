"""What the author of a kind tests it with; needs pytest.

The conformance kit is a class of tests to derive from:

    class TestStars(ActionContract):
        action_class = GrantStars
        options = {"token": "a-secret", "stars": 3}

        @pytest.fixture(autouse=True)
        def server(self):
            with FakeVendor() as vendor:
                self.options = {**self.options, "base_url": vendor.url}
                yield

`options` are what the configuration would give, with secrets and templates already resolved. The kit performs jobs,
so point the options at a server of your tests.
"""

# ruff: noqa: S101 - these are tests

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import marshmallow
import pytest

from ..actions import Action, Done, Halt, Job, Permanent, RetryLater, Secret, Skip, Unknown, Values
from ..event import TIER_EVENTS, Event, customer_object
from ..runner import ActionRunner, Answer
from ..samples import envelope, sample_data, sample_event

__all__ = ["ActionContract", "envelope", "make_action", "make_job", "sample_data", "sample_event"]

#: What `perform` may raise on purpose. A kind under test raises nothing else.
OUTCOMES = (Permanent, RetryLater, Skip, Halt, Unknown)

#: Options that every action takes, so that a kind cannot have its own by these names.
COMMON_OPTIONS = frozenset(
    {"kind", "order", "once", "rate", "limit", "concurrency", "batch", "timeout", "attempts", "backoff", "backoff_max"}
    | {"give_up"}
    | {"queue"}
)


def make_action(
    action_class: type[Action], options: Mapping[str, Any], *, name: str = "under-test", timeout: float = 5.0
) -> Action:
    """Make an action as the configuration would, with its options validated.

    Raises:
        marshmallow.ValidationError: the options do not fit the kind's schema.
    """
    loaded = action_class.Options(unknown=marshmallow.RAISE).load(options)
    return action_class(name, loaded, timeout=timeout)


def make_job(
    action: Action, event: Event | None = None, *, key: str | None = None, attempt: int = 1, **options: Any
) -> Job:
    """Make a job of `action`.

    Args:
        action: see `make_action`.
        event: by default a new sample event.
        key: by default what Tiercast would make of the event and the action's name.
        attempt: counted from 1.
        **options: what this event renders some of the options to; the others are as configured.
    """
    event = event or sample_event()
    return Job(
        key=key or f"{event.key}:{action.name}",
        event=event,
        attempt=attempt,
        options=Values({**action.options, **options}),
        timeout=action.timeout,
    )


class ActionContract:
    """Tests that every kind passes. Derive from it, and set `action_class` and `options`."""

    action_class: ClassVar[type[Action]]
    options: Mapping[str, Any] = {}
    #: How long an async kind may keep its loop from turning, in seconds, beyond what the machine itself is late.
    max_block_seconds: ClassVar[float] = 0.25

    @contextmanager
    def running(self) -> Iterator[ActionRunner]:
        """The kind with its options, on a loop of its own; closed afterwards."""
        with ActionRunner(make_action(self.action_class, self.options)) as runner:
            yield runner

    def job(self, action: Action, event: Event | None = None) -> Job:
        """A job of the action."""
        return make_job(action, event)

    def secrets(self, action: Action) -> list[str]:
        """The values of the options that are secret."""
        declared = self.action_class.Options().fields
        names = [field.attribute or name for name, field in declared.items() if isinstance(field, Secret)]
        return [value for name in names if (value := action.options.get(name))]

    def test_its_name_can_stand_in_a_configuration(self) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", self.action_class.kind), self.action_class.kind

    def test_its_docstring_says_what_it_does(self) -> None:
        first = (self.action_class.__doc__ or "").strip().partition("\n")[0]
        assert 10 <= len(first) <= 120, "the first line of the docstring is what `tiercast kinds` shows"

    def test_it_refuses_options_that_it_does_not_know(self) -> None:
        with pytest.raises(marshmallow.ValidationError):
            make_action(self.action_class, {**self.options, "no_such_option": 1})

    def test_its_options_do_not_hide_those_of_every_action(self) -> None:
        assert not COMMON_OPTIONS & set(self.action_class.Options().fields)

    def test_its_defaults_are_of_options_that_every_action_takes(self) -> None:
        assert set(self.action_class.defaults) <= COMMON_OPTIONS - {"kind"}
        assert self.action_class.calls >= 1

    def test_if_it_is_not_repeatable_it_confirms_or_says_so(self) -> None:
        if not self.action_class.repeatable and not self.action_class.can_confirm():
            assert "uncertain" in (self.action_class.__doc__ or ""), (
                "a kind that is neither repeatable nor able to confirm leaves jobs uncertain; its docstring says so"
            )

    def test_it_shows_no_secret(self) -> None:
        with self.running() as runner:
            action = runner.action
            shown = f"{action!r} {action} {action.options!r} {self.job(action)!r}"
            assert not [secret for secret in self.secrets(action) if secret in shown]

    @pytest.mark.parametrize("type_", TIER_EVENTS)
    def test_it_performs_every_tier_event(self, type_: str) -> None:
        with self.running() as runner:
            self.check(runner, self.job(runner.action, sample_event(type_)))

    @pytest.mark.parametrize("changes", [{"email": None, "name": None, "source_id": None}, {"customer": False}])
    def test_it_bears_nulls(self, changes: Mapping[str, Any]) -> None:
        with self.running() as runner:
            self.check(runner, self.job(runner.action, sample_event(**changes)))

    def test_it_performs_24_jobs_at_once(self) -> None:
        with self.running() as runner:
            jobs = [self.job(runner.action) for _ in range(24)]
            for job, outcome in zip(jobs, runner.perform_at_once(jobs), strict=True):
                self.check_outcome(runner.action, job, outcome)

    def test_if_it_is_async_it_does_not_block_its_loop(self) -> None:
        if not self.action_class.is_async():
            return
        with self.running() as runner:
            # The first call may have to import and to connect.
            self.check(runner, self.job(runner.action))
            job = self.job(runner.action)
            with _Watch() as machine:
                blocked = runner.run(_longest_block(runner.action, job))
            late = blocked - machine.longest
            assert late < self.max_block_seconds, (
                f"the loop stood still for {late:.2f} s: await what takes long, or write plain functions"
            )

    def test_if_it_is_async_an_attempt_can_be_cancelled(self) -> None:
        if not self.action_class.is_async():
            return
        with self.running() as runner:
            for after in (0.0, 0.001, 0.01):
                job = self.job(runner.action)
                outcome = runner.perform_cancelled(job, after=after)
                if not isinstance(outcome, asyncio.CancelledError):
                    self.check_outcome(runner.action, job, outcome)
                # Whatever was cancelled, the next job must find the action usable.
                self.check(runner, self.job(runner.action))

    def test_its_bulk_call_answers_for_known_jobs_and_once(self) -> None:
        if not self.action_class.is_bulk():
            return
        with self.running() as runner:
            action = runner.action
            jobs = [self.job(action) for _ in range(min(action.max_batch, 25))]
            answered = runner.perform_many(jobs)
            keys = [job.key for job, _ in answered]
            assert len(keys) == len(set(keys)), "a job was answered for twice"
            assert set(keys) <= {job.key for job in jobs}, "an answer for a job that was not given"
            for job, outcome in answered:
                self.check_outcome(action, job, outcome)

    def test_it_closes_more_than_once(self) -> None:
        with self.running() as runner:
            self.check(runner, self.job(runner.action))
            runner.close()

    def check(self, runner: ActionRunner, job: Job) -> None:
        """Perform the job, and check what came of it."""
        try:
            outcome: Answer = runner.perform(job)
        except OUTCOMES as error:
            outcome = error
        self.check_outcome(runner.action, job, outcome)

    def check_outcome(self, action: Action, job: Job, outcome: Answer) -> None:
        """Check that an outcome is one that Tiercast knows, and holds neither secrets nor personal data."""
        assert outcome is None or isinstance(outcome, (str, Done, *OUTCOMES)), f"not an outcome: {outcome!r}"
        text = str(outcome or "")
        assert len(text) <= 1000, "an outcome is a short text"
        customer = customer_object(job.event) or {}
        hidden = [*self.secrets(action), *_texts(customer.get(part) for part in ("email", "name", "source_id"))]
        assert not [value for value in hidden if value in text], "an outcome shows a secret or personal data"


def _texts(values: Iterable[object]) -> list[str]:
    return [value for value in values if isinstance(value, str) and value]


class _Watch:
    """Notes how late the machine itself wakes a thread, so that a busy one is not taken for a kind that blocks."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(0.01):
            now = time.monotonic()
            self.longest, before = max(self.longest, now - before), now


async def _longest_block(action: Action, job: Job) -> float:
    """Perform a job, by the bulk call where there is one; the longest time in which the loop did not turn."""
    task = asyncio.ensure_future(_attempt(action, job))
    longest, before = 0.0, time.monotonic()
    while not task.done():
        await asyncio.sleep(0.005)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    await task
    return longest


async def _attempt(action: Action, job: Job) -> None:
    try:
        if action.is_bulk():
            async for _ in action.perform_many([job]):  # type: ignore[union-attr]
                pass
        else:
            performed = action.perform(job)
            assert isinstance(performed, Awaitable)
            await performed
    except OUTCOMES:
        pass
