"""The states of deliveries and jobs, each with all that follows from it.

This is the one table: the sets in the scripts are made from it (scripts.py), and commands, `tiercast up`, the pages of
docs/ and the tests read it. A new state is a line here, and what leads to it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

#: What an operator can ask for a job or a delivery.
Verb = Literal["retry", "drop", "resolve", "redo", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What follows from a state.

    Args:
        final: nothing more happens by itself.
        filed: it goes to the history, once all of its delivery does.
        needs_operator: it is there because something went wrong, and stays so until somebody decides.
        indexed: the ledger finds those in it by the state (keys `ix:j:` and `ix:d:`).
        verbs: what an operator can ask for, each a `Verb`.
        tone: what ended well, what did not, and what nobody knows are shown in different colours.
    """

    final: bool = False
    filed: bool = False
    needs_operator: bool = False
    indexed: bool = False
    verbs: Collection[str] = ()
    tone: Literal["", "good", "bad", "unsure"] = ""


_NONE = Traits()


class State(StrEnum):
    """A state with its meaning in words, and its traits."""

    meaning: str
    traits: Traits

    # Defaults, since `JobState("done")` finds a member by its value alone.
    def __new__(cls, value: str, meaning: str = "", traits: Traits = _NONE) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.traits = traits
        return member

    @property
    def final(self) -> bool:
        """Nothing more happens by itself."""
        return self.traits.final

    @property
    def filed(self) -> bool:
        """It goes to the history, once all of its delivery does."""
        return self.traits.filed

    @property
    def needs_operator(self) -> bool:
        """Something went wrong, and somebody has to decide."""
        return self.traits.needs_operator

    @property
    def colour(self) -> str | None:
        """Its colour on a terminal; None for that of other text."""
        return {"good": "green", "bad": "red", "unsure": "yellow"}.get(self.traits.tone)

    @property
    def indexed(self) -> bool:
        """The ledger finds those in it by the state."""
        return self.traits.indexed

    def allows(self, verb: Verb) -> bool:
        """Whether an operator can ask for this."""
        return verb in self.traits.verbs

    @classmethod
    def allowing(cls, verb: Verb) -> tuple[Self, ...]:
        """The states in which an operator can ask for this."""
        return tuple(state for state in cls if state.allows(verb))


class DeliveryState(State):
    """Where a delivery stands."""

    QUEUED = "queued", "stored, not read yet", Traits()
    PROCESSED = (
        "processed", "read; its jobs are on record",
        Traits(final=True, filed=True, indexed=True, verbs=("replay",), tone="good"),
    )  # fmt: skip
    IGNORED = (
        "ignored", "no rule for its event",
        Traits(final=True, filed=True, indexed=True, verbs=("replay",)),
    )  # fmt: skip
    DUPLICATE = (
        "duplicate", "its event is known by an earlier delivery",
        Traits(final=True, filed=True, indexed=True),
    )  # fmt: skip
    TEST = (
        "test", "a preview from Voucherify's dashboard",
        Traits(final=True, filed=True, indexed=True, verbs=("replay",)),
    )  # fmt: skip
    QUARANTINED = (
        "quarantined", "authentic, but it cannot be read; its reason says why",
        Traits(final=True, filed=True, needs_operator=True, indexed=True, verbs=("replay",), tone="bad"),
    )  # fmt: skip


class JobState(State):
    """Where a job stands."""

    OWED = "owed", "to be done now, or again later", Traits(verbs=("retry", "drop"))
    PARKED = (
        "parked", "waits for another job of its order or once group",
        Traits(indexed=True, verbs=("drop",)),
    )  # fmt: skip
    DONE = "done", "has succeeded", Traits(final=True, filed=True, verbs=("redo",), tone="good")
    SKIPPED = (
        "skipped", "there was nothing to do",
        Traits(final=True, filed=True, indexed=True, verbs=("retry",)),
    )  # fmt: skip
    SUPERSEDED = (
        "superseded", "a newer event, or the once place, made it needless",
        Traits(final=True, filed=True, indexed=True, verbs=("retry",)),
    )  # fmt: skip
    DEAD = (
        "dead", "gave up; its error says why",
        Traits(final=True, filed=True, needs_operator=True, indexed=True, verbs=("retry", "drop"), tone="bad"),
    )  # fmt: skip
    UNCERTAIN = (
        "uncertain", "nobody knows whether it happened: resolve it",
        Traits(final=True, needs_operator=True, indexed=True, verbs=("drop", "resolve"), tone="unsure"),
    )  # fmt: skip


def in_lua(kind: str, name: str) -> str:
    """A table of Lua that holds the states with a trait, or that allow a verb: `local FINAL = { done = true, ... }`.

    Args:
        kind: `job`, whose tables have no prefix, or `delivery`: `DELIVERY_...`.
        name: the trait (`final`), or `may_` and the verb (`may_retry`).
    """
    states: type[State] = {"job": JobState, "delivery": DeliveryState}[kind]
    verb = name.removeprefix("may_") if name.startswith("may_") else None
    names = [state for state in states if (verb in state.traits.verbs if verb else getattr(state.traits, name))]
    table = ("" if kind == "job" else "DELIVERY_") + name.upper()
    return f"local {table} = {{ {', '.join(f'{state} = true' for state in names)} }}"


def listed(states: type[State]) -> str:
    """The states with their meanings, one a line, for a command's help."""
    size = max(map(len, states))
    return "\n".join(f"  {state:<{size}}  {state.meaning}" for state in states)
