"""Carries an operation out, a step at a time: count, try a few, run.

Each step reads a page of members and hands them to the ledger in one script, which changes them, counts them and notes
where to go on. Dying on any line repeats nothing: the next process begins after the last step that was carried out.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import Any

from ..control.changes import replay_limits
from ..control.recalling import bring_back_for
from ..control.rounds import done_in_last_round, next_round
from ..control.verbs import REPLAY_AGAIN, STEP_MAX_MEMBERS
from ..error_pattern import error_pattern
from ..ledger.filed import OpenFiled
from ..ledger.model import HeldOperation, JobInfo, OperationStep
from ..ledger.reading import Reader
from ..ledger.states import DeliveryState, JobState
from ..ledger.store import Ledger
from ..queries.walk import Chosen, Walk
from .model import TRY_MEMBERS, Operation, OperationState, Tried, read_operation

#: Members that are counted in one step.
COUNT_MAX_MEMBERS = 500

#: How long the members that were tried first are watched, and how often.
TRIAL_SECONDS = 120.0
TRIAL_LOOK_SECONDS = 1.0

_ENDED = frozenset(str(state) for state in OperationState if state.final)

#: Operations use at most one part in so many of the ledger's time.
LEDGER_SHARE = 4

#: The share of the time of reading a page in which the ledger works for it (measured: 0.17).
_READING_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """What a step came to.

    `over` says that this process has nothing more to do with it: it has ended, waits, or belongs to another. Else the
    next step is due in `pause` seconds. `bells` are lanes to ring for.
    """

    over: bool
    pause: float = 0.0
    bells: Sequence[str] = ()


class Runner:
    """Takes the steps of operations.

    Args:
        ledger: where.
        reader: of that ledger.
        filed: opens the history, where there is one: members that were filed are brought back before they are changed.
    """

    def __init__(self, ledger: Ledger, reader: Reader, filed: OpenFiled | None = None) -> None:
        self._ledger = ledger
        self._filed = filed
        self._reader = reader
        self._walk = Walk(reader)
        self._scripted = 0.0

    def step(self, held: HeldOperation) -> Stepped:
        """Take the next step of an operation, as `held.fields` has it; they are brought up to date.

        Raises:
            LedgerError: the ledger fails; the same step can be taken again.
            HistoryError: the history is needed and cannot be read; the same.
        """
        began = time.monotonic()
        try:
            operation = read_operation(held.id, held.fields)
        except (ValueError, KeyError) as error:
            what = f"it was begun by another version of Tiercast ({type(error).__name__})"
            return self._stop_unread(held, what)
        steps: Mapping[OperationState, Callable[[Operation, HeldOperation], OperationStep]] = {
            OperationState.COUNTING: self._count,
            OperationState.TRYING: self._try,
            OperationState.RUNNING: self._run,
        }
        take = steps.get(operation.state)
        # One that has ended meanwhile only leaves the lane.
        stepped = take(operation, held) if take else self._send(operation, held, cursor=operation.cursor)
        before = int(held.fields.get("seen", 0))
        held.fields.clear()
        held.fields.update(stepped.fields)
        state = stepped.fields.get("state")
        # One that is being tried is handed back between two looks.
        waits = stepped.what == "ok" and operation.state is OperationState.TRYING and state == OperationState.TRYING
        if waits or stepped.what in ("ended", "paused", "lost") or state in _ENDED:
            return Stepped(over=True, bells=stepped.bells)
        took = time.monotonic() - began
        # While members are read and rendered here, the ledger serves others most of the time.
        busy = self._scripted + (took - self._scripted) * _READING_SHARE
        pause = max(0.0, busy * LEDGER_SHARE * max(1, stepped.held) - took)
        rate = operation.request.rate
        if rate and operation.state is OperationState.RUNNING:
            pause = max(pause, (int(stepped.fields.get("seen", 0)) - before) / rate)
        return Stepped(over=False, pause=pause, bells=stepped.bells)

    def hand_back(self, held: HeldOperation, seconds: float) -> Stepped:
        """Give an operation back, to go on with it in so many seconds."""
        f = held.fields
        stepped = self._ledger.step_operation(
            held.id, held.token, state=f.get("state", ""), at=f.get("cursor", ""), cursor=f.get("cursor", ""),
            members=[], wait=round(seconds * 1000),
        )  # fmt: skip
        return Stepped(over=True, bells=stepped.bells)

    def _stop_unread(self, held: HeldOperation, reason: str) -> Stepped:
        f = held.fields
        stepped = self._ledger.step_operation(
            held.id, held.token, state=f.get("state", ""), at=f.get("cursor", ""), cursor=f.get("cursor", ""),
            members=[], next="stopped", reason=reason,
        )  # fmt: skip
        return Stepped(over=True, bells=stepped.bells)

    def _send(self, operation: Operation, held: HeldOperation, *, cursor: str, **step: Any) -> OperationStep:
        step = {"members": []} | step
        if self._filed is not None and step["members"]:
            # Dying after this: what nobody touches is filed again a minute later.
            bring_back_for(self._ledger, self._filed, step["members"])
        began = time.monotonic()
        stepped = self._ledger.step_operation(
            held.id, held.token, state=str(operation.state), at=operation.cursor, cursor=cursor, **step
        )
        self._scripted = time.monotonic() - began
        return stepped

    # --- counting

    def _count(self, operation: Operation, held: HeldOperation) -> OperationStep:
        page = self._walk.page(operation.choice, operation.cursor, COUNT_MAX_MEMBERS)
        counts = operation.counts
        counts.add(page.chosen)
        candidates = _candidates(operation.candidates, page.chosen)
        expected = operation.expected + len(page.chosen)
        values = {"counts": counts.as_json(), "candidates": json.dumps(candidates), "expected": str(expected)}
        if not page.is_last:
            return self._send(operation, held, cursor=page.cursor, set=values)
        counted = read_operation(held.id, held.fields | values)
        then = OperationState.TRYING if counted.tries_first else OperationState.RUNNING
        return self._send(operation, held, cursor=operation.request.start, set=values, next=str(then))

    # --- trying

    def _try(self, operation: Operation, held: HeldOperation) -> OperationStep:
        if operation.tried is None:
            names = list(islice(_spread(operation.candidates), TRY_MEMBERS))
            chosen = self._walk_named(operation, names)
            # They are watched from the next look on.
            return self._send(
                operation, held, cursor=operation.cursor, members=self._members(operation, chosen), **{"try": 1},
                wait=round(TRIAL_LOOK_SECONDS * 1000),
            )  # fmt: skip
        verdict = self._judge(operation, operation.tried)
        if isinstance(verdict, str):
            return self._send(operation, held, cursor=operation.cursor, next="stopped", reason=verdict)
        if verdict:
            return self._send(operation, held, cursor=operation.cursor, next="running")
        return self._send(operation, held, cursor=operation.cursor, wait=round(TRIAL_LOOK_SECONDS * 1000))

    def _walk_named(self, operation: Operation, names: Sequence[str]) -> list[Chosen]:
        """These members as they are now, where they are still what was chosen."""
        if operation.verb.is_of_jobs:
            jobs = {info.key: info for info in self._reader.jobs_by_key(names)}
            return [
                Chosen(name=key, state=str(info.state), about=info.action, error=info.text)
                for key, info in jobs.items()
            ]
        return [
            Chosen(name=info.id, state=str(info.state), about=info.type or "", error=info.reason)
            for info in self._reader.by_id(names)
        ]

    def _judge(self, operation: Operation, tried: Sequence[Tried]) -> bool | str:
        """Whether to go on with the rest: True, False for not yet, or why not."""
        watched = [one for one in tried if one.watch is not None]
        since = operation.tried_ms or 0
        look = self._judge_job if operation.verb.is_of_jobs else self._judge_delivery
        verdicts = [look(one, since) for one in watched]
        for verdict in verdicts:
            if isinstance(verdict, str):
                return verdict
        is_late = self._ledger.now_ms() - since > TRIAL_SECONDS * 1000
        return is_late or all(verdicts)

    def _judge_job(self, one: Tried, since: int) -> bool | str:
        info = self._reader.job(one.watch or "")
        if info is None:
            return True
        return _verdict(info, one.error, since)

    def _judge_delivery(self, one: Tried, since: int) -> bool | str:
        info = self._reader.delivery(one.watch or "")
        if info is None:
            return True
        if info.state is DeliveryState.QUEUED:
            return False
        if info.state is DeliveryState.QUARANTINED:
            return f"of those tried first, {info.id} is in quarantine again: {info.reason}"
        verdicts = [_verdict(job, None, since) for job in self._reader.jobs_of(info) if job.changed_ms >= since]
        return next((each for each in verdicts if isinstance(each, str)), all(verdicts))

    # --- running

    def _run(self, operation: Operation, held: HeldOperation) -> OperationStep:
        rate = operation.request.rate
        most = STEP_MAX_MEMBERS if not rate else max(1, min(STEP_MAX_MEMBERS, int(rate)))
        page = self._walk.page(operation.choice, operation.cursor, most)
        tried = {one.name for one in operation.tried or ()}
        chosen = [one for one in page.chosen if one.name not in tried]
        members = self._members(operation, chosen)
        return self._send(
            operation, held, cursor=page.cursor, members=members, **({"next": "done"} if page.is_last else {})
        )

    def _members(self, operation: Operation, chosen: Sequence[Chosen]) -> list[dict[str, Any]]:
        verb, request = operation.verb, operation.request
        more: Mapping[str, Mapping[str, Any]] = {}
        if not verb.is_of_jobs:
            more = self._replays(operation, [one.name for one in chosen])
        members = []
        for one in chosen:
            member = verb.member(one.name, **more.get(one.name, {}))
            if not request.names:
                member["was"] = one.state
            if one.error:
                member["e"] = error_pattern(one.error)
            members.append(member)
        return members

    def _replays(self, operation: Operation, ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """What each of these replays is limited to."""
        only = operation.request.only
        if operation.verb is not REPLAY_AGAIN:
            return {id: replay_limits(only, None) for id in ids}
        infos = list(self._reader.by_id(ids))
        jobs: dict[str, list[JobInfo]] = defaultdict(list)
        owners = {key: info.id for info in infos for key in info.jobs}
        for job in self._reader.jobs_by_key(owners):
            jobs[owners[job.key]].append(job)
        return {info.id: self._again(operation, jobs[info.id]) for info in infos}

    def _again(self, operation: Operation, jobs: Sequence[JobInfo]) -> dict[str, Any]:
        only = operation.request.only
        done = [job for job in done_in_last_round(jobs) if only is None or job.action in only]
        rounds = [next_round(job) for job in done if job.action not in operation.request.skip]
        return {"again": 2 if rounds else 1, **replay_limits(only, rounds if rounds else None)}


def _candidates(known: Mapping[str, list[str]], chosen: Sequence[Chosen]) -> dict[str, list[str]]:
    """Members to try first, by error pattern: up to five of each of five."""
    found = {error: list(names) for error, names in known.items()}
    for one in chosen:
        error = error_pattern(one.error) if one.error else ""
        if one.state is None or (error not in found and len(found) >= TRY_MEMBERS):
            continue
        names = found.setdefault(error, [])
        if len(names) < TRY_MEMBERS:
            names.append(one.name)
    return found


def _spread(candidates: Mapping[str, list[str]]) -> Any:
    """Members one of each error, then a second of each, and so on."""
    turns = zip_longest(*candidates.values())
    return (name for name in chain.from_iterable(turns) if name is not None)


def _verdict(info: JobInfo, before: str | None, since: int) -> bool | str:
    """What became of a job that was tried first: True it ended, False not yet, or what is wrong."""
    if info.state is JobState.DEAD or info.state is JobState.UNCERTAIN:
        return f"of those tried first, {info.key} is {info.state} again: {info.text}"
    if info.state in (JobState.OWED, JobState.PARKED):
        if info.tries and before and error_pattern(info.text or "") == before:
            return f"of those tried first, {info.key} fails again with the same error: {info.text}"
        return False
    return info.changed_ms >= since or info.state.final
