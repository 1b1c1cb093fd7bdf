"""The verbs that change deliveries and jobs: their words, what they work on, and which ask for a reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..ledger.model import DeliveryState, JobState

#: The most members that are changed at once, in one script: the ledger serves nobody else meanwhile, some 4 ms.
STEP_MAX_MEMBERS = 100

#: Above so many members a request asks for a reason, and becomes an operation.
BULK_MAX_MEMBERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """What is done to members, in words and as the ledger's scripts know it.

    Args:
        name: by which it is called, audited and kept in an operation.
        word: the same in a sentence ("retry 3 jobs").
        past: the same, when done.
        noun, plural: what its members are.
        can: the states in which it works.
        chooses: the states that a filter means which names none; empty for all.
        script: the verb of lua/_verbs.lua.
        more: further fields of each member.
        asks_why: whether it asks for a reason, however few the members are.
        performs: whether its members are performed again, so that a few can be tried first.
    """

    name: str
    word: str
    past: str
    noun: str
    plural: str
    can: Collection[str]
    chooses: tuple[JobState, ...] = ()
    script: str
    more: Mapping[str, Any] = field(default_factory=dict)
    asks_why: bool = False
    performs: bool = False

    @property
    def is_of_jobs(self) -> bool:
        """Whether its members are jobs; else they are deliveries."""
        return self.noun == "job"

    def count(self, number: int) -> str:
        """N of them, in words."""
        return f"{number} {self.noun if number == 1 else self.plural}"

    def member(self, name: str, **more: Any) -> dict[str, Any]:
        """One member, as the scripts take it."""
        return {"job" if self.is_of_jobs else "delivery": name, **self.more, **more}


def _of_jobs(name: str, past: str, *, chooses: tuple[JobState, ...], **rest: Any) -> Verb:
    word: Any = name.partition("-")[0]
    return Verb(
        name=name, word=word, past=past, noun="job", plural="jobs", can=JobState.allowing(word), chooses=chooses,
        script=word, **rest,
    )  # fmt: skip


def _of_deliveries(name: str, again: int, **rest: Any) -> Verb:
    return Verb(
        name=name, word="replay", past="replayed", noun="delivery", plural="deliveries",
        can=DeliveryState.allowing("replay"), script="replay", more={"again": again}, performs=True, **rest,
    )  # fmt: skip


RETRY = _of_jobs("retry", "retried", chooses=(JobState.DEAD,), performs=True)
REDO = _of_jobs("redo", "redone", chooses=(JobState.DONE,), performs=True)
DROP = _of_jobs("drop", "dropped", chooses=JobState.allowing("drop"), asks_why=True)
RESOLVE_DONE = _of_jobs("resolve-done", "resolved", chooses=(JobState.UNCERTAIN,), more={"as": "done"}, asks_why=True)
RESOLVE_RETRY = _of_jobs(
    "resolve-retry", "resolved", chooses=(JobState.UNCERTAIN,), more={"as": "retry"}, asks_why=True, performs=True
)
REPLAY = _of_deliveries("replay", 1)
REPLAY_AGAIN = _of_deliveries("replay-again", 2, asks_why=True)

#: Every verb by its name.
VERBS: Mapping[str, Verb] = {
    verb.name: verb for verb in (RETRY, REDO, DROP, RESOLVE_DONE, RESOLVE_RETRY, REPLAY, REPLAY_AGAIN)
}
