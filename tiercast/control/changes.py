"""What an operator changes at once: pause, resume, retry, redo, drop, resolve, replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ..ledger.filed import OpenFiled
from ..ledger.model import Answer
from ..ledger.store import Ledger
from .actor import Actor
from .audit import Note, new_request
from .recalling import bring_back_for
from .verbs import DROP, REDO, REPLAY, REPLAY_AGAIN, RESOLVE_DONE, RESOLVE_RETRY, RETRY, STEP_MAX_MEMBERS, Verb

#: Told which lanes became due.
Ring = Callable[[Iterable[str]], None]


class Control:
    """Carries out an operator's requests, each with its audit entry in one atomic step, and rings for what became due.

    Args:
        ledger: where.
        actor: who asks.
        ring: told which lanes became due.
        filed: opens the history, where there is one: what was filed is brought back for a request.
    """

    def __init__(
        self, ledger: Ledger, actor: Actor, ring: Ring = lambda _: None, filed: OpenFiled | None = None
    ) -> None:
        self._ledger = ledger
        self._ring = ring
        self._filed = filed
        self.actor = actor

    def pause(self, lane: str, reason: str = "paused by an operator", *, by: str = "") -> Answer:
        """Start nothing more in a lane until it is resumed; what runs ends as usual.

        Args:
            lane: its name.
            reason: why, for whoever looks at the lane.
            by: who the lane says that paused it; empty for the actor.
        """
        by = by or f"{self.actor.name}@{self.actor.address}"
        return self._one("pause", {"lane": lane, "reason": reason, "by": by}, lane, reason)

    def resume(self, lane: str, *, why: str = "") -> Answer:
        """Let a lane go on: ends a pause, and any other reason to wait."""
        return self._one("resume", {"lane": lane}, lane, why)

    def retry(self, job: str, *, why: str = "") -> Answer:
        """Give a settled job that was not done a new set of attempts; make a waiting one due now."""
        return self.change(RETRY, job, why=why)

    def drop(self, job: str, *, why: str = "") -> Answer:
        """Give a job up: it becomes skipped, and the next of its groups is released."""
        return self.change(DROP, job, why=why)

    def resolve(self, job: str, as_: Literal["done", "retry"], *, why: str = "") -> Answer:
        """Decide an uncertain job: it happened, or it did not and is owed again."""
        return self.change(RESOLVE_DONE if as_ == "done" else RESOLVE_RETRY, job, why=why)

    def redo(self, job: str, *, why: str = "") -> Answer:
        """Do a done job again, as a new job whose key ends in `:r2`, `:r3`.

        The same request again makes no further round: it is refused, with the key of the one that is there.
        """
        return self.change(REDO, job, why=why)

    def replay(
        self,
        delivery: str,
        *,
        again: bool = False,
        only: Sequence[str] | None = None,
        rounds: Sequence[str] | None = None,
        why: str = "",
    ) -> Answer:
        """Read a settled delivery anew with today's rules, and add the jobs that are missing.

        Args:
            delivery: its id.
            again: also do again what is done.
            only: add missing jobs of these actions only; None for all.
            rounds: with `again`, which rounds to make (`<action>:r2`), so that the same request again makes no more;
                None for the next of every job that is done.
            why: the reason, for the audit log.
        """
        more = replay_limits(only, rounds)
        return self.change(REPLAY_AGAIN if again else REPLAY, delivery, more, why=why)

    def change(self, verb: Verb, name: str, more: Mapping[str, Any] | None = None, *, why: str = "") -> Answer:
        """Carry a verb out for one member; `more` are further fields of it."""
        return self._one(verb.script, verb.member(name, **(more or {})), name, why, audited=verb.name)

    def change_all(
        self,
        verb: Verb,
        names: Sequence[str],
        *,
        subject: str = "",
        why: str = "",
        more: Callable[[str], Mapping[str, Any]] = lambda _: {},
    ) -> Iterator[tuple[str, Answer]]:
        """Carry a verb out for each of these, in their order, a hundred a step; gives the answers as they come.

        Nothing is changed before the iterator is used. What was given is done, whatever happens after it.

        Args:
            verb: what to do.
            names: of the members.
            subject: what was chosen, in words, for the audit log; a single member goes by its name.
            why: the reason.
            more: gives further fields of a member.
        """
        note = Note(actor=self.actor, subject=subject, why=why, request=new_request())
        for part, start in enumerate(range(0, len(names), STEP_MAX_MEMBERS), start=1):
            step = names[start : start + STEP_MAX_MEMBERS]
            told = replace(note, part=part, subject=note.subject or (step[0] if len(names) == 1 else ""))
            members = [verb.member(name, **more(name)) for name in step]
            self._bring_back(members)
            answers, bells = self._ledger.operate_many(verb.script, members, audit=told.as_request(verb.name))
            self._ring(bells)
            yield from zip(step, answers, strict=True)

    def ring(self, lanes: Iterable[str]) -> None:
        """Ring for lanes that became due by other means."""
        self._ring(lanes)

    def _bring_back(self, members: Iterable[Mapping[str, Any]]) -> None:
        """Bring back from the history what the ledger does not hold; what cannot be is refused as unknown."""
        if self._filed is not None:
            bring_back_for(self._ledger, self._filed, members)

    def _one(self, script: str, member: Mapping[str, Any], subject: str, why: str, *, audited: str = "") -> Answer:
        self._bring_back([member])
        note = Note(actor=self.actor, subject=subject, why=why)
        audit = note.as_request(audited or script)
        (answer,), bells = self._ledger.operate_many(script, [member], audit=audit)
        self._ring(bells)
        return answer


def replay_limits(only: Sequence[str] | None, rounds: Sequence[str] | None) -> dict[str, list[str]]:
    """What limits a replay, as the scripts take it."""
    limits = {"only": only, "rounds": rounds}
    return {name: list(names) for name, names in limits.items() if names is not None}
