"""The plug-in API: what the author of a kind imports.

A kind is a class derived from `Action`. An action is that class with a name and options from the configuration
file. See docs/writing-a-kind.md, and `tiercast.testing` for the conformance kit.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Iterable, Mapping
from dataclasses import dataclass
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, ClassVar, Literal

import marshmallow

from .event import Event
from .option_fields import BaseUrl, FileText, Fixed, Properties, Secret

__all__ = [
    "Action",
    "BaseUrl",
    "Done",
    "FileText",
    "Fixed",
    "Halt",
    "Job",
    "Permanent",
    "Properties",
    "RateLimited",
    "Result",
    "RetryLater",
    "Secret",
    "Skip",
    "Unavailable",
    "Unknown",
    "Values",
]


class Values(dict[str, Any]):
    """The options of an action or a job: a dictionary whose items can be read as attributes too.

    >>> Values(to="ada@example.com").to
    'ada@example.com'
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        """Show the names only: values may be personal or secret."""
        return f"Values({', '.join(self)})"


@dataclass(frozen=True, slots=True)
class Done:
    """Done, with a note that the operator should see: nothing is tried again because of it.

    Attributes:
        text: what was done, as `perform` may return by itself.
        note: what was left out or is not certain, such as "phone left out: it is no E.164 number". It holds nothing
            personal, and the same cause gives the same note.
    """

    text: str | None
    note: str

    def __str__(self) -> str:
        """The text that goes on record; the note can be searched for.

        >>> str(Done("profile updated", "phone left out"))
        'profile updated; note: phone left out'
        """
        return f"{self.text}; note: {self.note}" if self.text else f"note: {self.note}"


#: What performing a job gives where it is done.
Result = str | Done | None


class Permanent(Exception):
    """No repeat can help: the job becomes `dead`, with this message.

    Args:
        message: what is wrong and what to do about it, for the operator.
        code: the vendor's code for it, such as "400 PROPERTY_DOESNT_EXIST". Where 20 jobs of an action die of one code
            with no success between them, the lane is held and no further job dies of it. None where the cause is this
            job's alone and says nothing of others.
    """

    def __init__(self, message: str = "", *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class Skip(Exception):
    """There is nothing to do for this event: the job becomes `skipped`, with this message."""


class RetryLater(Exception):
    """Nothing happened, and it may work later.

    Args:
        message: what went wrong, for the operator.
        after: seconds until the next attempt; by default the action's backoff decides.
        everyone: True where the cause holds for every job of the action. With `after`, the action's limit or lane is
            held until then; without it, Tiercast learns a rate that the vendor bears. Neither counts as an attempt.
        code: the vendor's code for it, if it gave one.
    """

    def __init__(
        self, message: str = "", *, after: float | None = None, everyone: bool = False, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.after = after
        self.everyone = everyone
        self.code = code


class RateLimited(RetryLater):
    """The vendor refused the call because there were too many (429). Nothing happened.

    Args:
        message: what the vendor said, for the operator.
        after: seconds until the vendor takes calls again, where it says so.
        code: the vendor's code for it, if it gave one.
    """

    def __init__(self, message: str = "", *, after: float | None = None, code: str | None = None) -> None:
        super().__init__(message, after=after, everyone=True, code=code)


class Unavailable(RetryLater):
    """The vendor cannot be reached, or says that it is down (no connection, DNS, TLS, 421, 5xx). Nothing happened.

    One such failure counts as the job's own. When three different jobs of an action meet it, with no success between
    them, the action's lane is held, and single jobs probe the vendor until one succeeds.

    Args:
        message: what went wrong, for the operator.
        after: seconds until the vendor is back, where it says so; the lane is then held until that time.
        code: the vendor's code for it, if it gave one.
    """

    def __init__(self, message: str = "", *, after: float | None = None, code: str | None = None) -> None:
        super().__init__(message, after=after, everyone=after is not None, code=code)


class Halt(Exception):
    """No job of this action can succeed as things are: its lane is held, with this message as the reason.

    The job is released without counting an attempt. The lane tries again after `after` seconds, or when an operator
    resumes it.

    Args:
        message: what is wrong and how to mend it, for the operator.
        after: seconds until the lane tries again.
        cause: `credential` where the vendor refused the credential, `setting` where an option is wrong.
        code: the vendor's code for it, such as "401 INVALID_SESSION_ID".
    """

    def __init__(
        self,
        message: str,
        *,
        after: float = 300.0,
        cause: Literal["credential", "setting"] = "credential",
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.after = after
        self.cause = cause
        self.code = code


class Unknown(Exception):
    """No answer came: the effect may have happened. A kind that is not repeatable is asked to confirm first.

    Args:
        message: what went wrong, for the operator.
        unavailable: True where the vendor itself seems to be down (a 5xx after the request was sent): it counts like
            `Unavailable` when Tiercast decides whether to hold the lane.
    """

    def __init__(self, message: str = "", *, unavailable: bool = False) -> None:
        super().__init__(message)
        self.unavailable = unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One action owed for one event, as a kind sees it.

    `key` is the idempotency key, the same for each attempt. `attempt` counts from 1. `options` are the action's
    options rendered for this event. `timeout` is how many seconds the attempt may take. `since` is set for
    `confirm`: seconds, on the ledger's clock, since it was noted that an attempt had ended without an answer.
    """

    key: str
    event: Event
    attempt: int
    options: Values
    timeout: float
    since: float | None = None

    def __repr__(self) -> str:
        """Name the job by its key only: the event is personal data."""
        return f"Job(key={self.key!r}, attempt={self.attempt})"


class Action:
    """Base of all kinds. The first line of the docstring is what `tiercast kinds` shows.

    One instance serves an action for the life of its process. `perform`, `perform_many`, `confirm` and `close` may be
    `async def`: they then run on the process's event loop, hundreds at once, and must not block it. Plain functions run
    in a bounded set of threads, several at once.
    """

    #: The kind's name in the configuration file.
    kind: ClassVar[str] = ""
    #: Whether performing the same job twice is harmless (the vendor recognises the key, or sets what is set).
    repeatable: ClassVar[bool] = True
    #: What common options (`once`, `rate`, ...) are where the configuration does not name them. A configuration that
    #: names a `limit` does without the kind's `rate`.
    defaults: ClassVar[Mapping[str, Any]] = {}
    #: How many vendor calls performing one job takes as a rule: so many starts of a rate or limit it uses up.
    calls: ClassVar[int] = 1
    #: The most jobs that one `perform_many` takes.
    max_batch: ClassVar[int] = 100
    #: A vendor to try the kind with, as "package.module:Class" of a `tiercast.testing.vendors.FakeVendor`.
    fake: ClassVar[str] = ""
    #: Whether the effect leaves this machine (`tiercast trigger` asks before it causes one); an instance may know
    #: better than its class.
    outside: bool = True

    class Options(marshmallow.Schema):
        """The schema of the action's own options. Text may hold Jinja templates over `event`."""

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        """Prepare the action; open no connection yet.

        Args:
            name: the action's name in the configuration.
            options: the loaded options; those that hold templates are still unrendered text.
            timeout: seconds that one attempt may take.

        Raises:
            ValueError: the options contradict one another; the message names them.
        """
        self.name = name
        self.options = Values(options)
        self.timeout = timeout

    def perform(self, job: Job) -> Awaitable[Result] | Result:
        """Do it. Return a short text for the operator, `Done` with a note, or None. `async def` or `def`.

        Raises:
            Permanent, RetryLater, Skip, Halt, Unknown: as each says; any other exception is tried again.
        """
        raise NotImplementedError

    def perform_many(
        self, jobs: list[Job]
    ) -> AsyncIterable[tuple[Job, Result | Exception]] | Iterable[tuple[Job, Result | Exception]]:
        """Do several in one call, where the vendor has such a call; override it to declare that.

        Yields (job, outcome): what `perform` returns, or one of the exceptions that it raises. A job that
        is left out is tried again. What is raised instead holds for every job not yet yielded. A generator, or an
        async generator.
        """
        raise NotImplementedError

    def confirm(self, job: Job) -> Awaitable[bool | None] | bool | None:
        """Say whether an earlier attempt of this job had its effect; None for "not yet known". `async def` or `def`.

        Only kinds that are not repeatable and can find out override it. Where the effect shows with a delay,
        `job.since` says when an absence can be believed. What it raises means "not yet known" as well; RetryLater
        says when to ask again.
        """
        raise NotImplementedError

    def verify(self) -> Awaitable[str | None] | str | None:
        """Prove with a harmless call that the vendor takes the credential; override it where there is such a call.

        `tiercast check --online` runs it. A lane that is held for its credential lets a single job probe instead.

        Returns:
            What was proved, such as "the token belongs to account 12345"; None where it cannot be told.

        Raises:
            Halt: the credential or a setting is refused.
            RetryLater, Unknown: it could not be found out now.
        """
        return None

    def rehearse(self, job: Job) -> None:
        """Build what `perform` would send for the job, and send nothing; by default nothing.

        `tiercast check` calls it for sample events, so that a mistake in the options shows before a job meets it.

        Raises:
            Permanent, Skip: as `perform` would.
        """

    def servers(self) -> Iterable[tuple[str, int]]:
        """The hosts and ports that `tiercast check` tries to connect to; by default none."""
        return ()

    def close(self) -> Awaitable[None] | None:
        """Give back connections; called when the process stops. `async def` or `def`."""
        return None

    @classmethod
    def is_bulk(cls) -> bool:
        """Whether the kind has a bulk call."""
        return cls.perform_many is not Action.perform_many

    @classmethod
    def can_confirm(cls) -> bool:
        """Whether the kind can find out about an attempt without an answer."""
        return cls.confirm is not Action.confirm

    @classmethod
    def can_verify(cls) -> bool:
        """Whether the kind can prove its credential without an effect."""
        return cls.verify is not Action.verify

    @classmethod
    def is_async(cls) -> bool:
        """Whether the kind performs on the event loop: its bulk call where it has one, else `perform`, is async."""
        if cls.is_bulk():
            return isasyncgenfunction(cls.perform_many)
        return iscoroutinefunction(cls.perform)
