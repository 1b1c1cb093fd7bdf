"""The drain of an action's jobs: claim, start, settle, in one round trip; what takes long is left to the keeper."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import structlog

from tiercast.ledger import new_token
from tiercast.ledger.model import Claim, HeldJob, Turn

from .aside import see_to_suspects
from .attempts import Verdict
from .desk import Desk
from .processing import LONGEST, Looked
from .runtime import Runtime

log = structlog.get_logger()

#: Seconds that a drain waits for quick jobs before it leaves them to the keeper.
_PATIENCE = 0.1


def perform(runtime: Runtime, lane: str) -> dict[str, int]:
    """Perform what is due in an action's lane. Returns how many were claimed, and how many ended how.

    Dying on any line loses nothing: a job that was claimed and not settled is due again when its lease ends.
    """
    desk = runtime.desks[lane]
    counts: Counter[str] = Counter(claimed=0)
    deadline = time.monotonic() + LONGEST
    with desk.draining():
        while True:
            claim = desk.claim(new_token())
            turn = settle(runtime, desk, claim, counts)
            if turn is None:
                _pass_on(runtime, desk)
                break
            if turn.suspect:
                see_to_suspects(runtime.ledger, lane)
            counts["claimed"] += len(turn.lent)
            if time.monotonic() < deadline and _is_worth_waiting(desk, turn):
                continue
            if turn.lent:
                settle(runtime, desk, Claim(token=new_token(), n=0), counts)
            break
    return dict(counts)


def _pass_on(runtime: Runtime, desk: Desk) -> None:
    """Have the next process hear of a lane that this one has no thread for."""
    if desk.may_pass_on():
        runtime.ring(runtime.ledger.jobs(desk.lane, claim=Claim(token=new_token(), n=0)).bells)


def _is_worth_waiting(desk: Desk, turn: Turn[HeldJob]) -> bool:
    """Whether the drain goes on, having waited for quick jobs; slow ones are left to the keeper.

    A drain that claimed and goes passes the bell on; one whose process is full leaves that to the keeper, which
    rings when a thread is free again.
    """
    if turn.lent and turn.more and desk.is_quick():
        return True
    return desk.is_quick() and desk.wait(_PATIENCE)


def settle(
    runtime: Runtime, desk: Desk, claim: Claim | None, counts: Counter[str], *, wake: bool = False
) -> Turn[HeldJob] | None:
    """Settle what is ready and claim; what was claimed is started. None where there was nothing to do."""
    with desk.taking() as verdicts:
        if not verdicts and claim is None:
            return None
        asked = time.monotonic()
        turn = runtime.ledger.jobs(
            desk.lane, [verdict.outcome for verdict in verdicts], claim, put_off=_put_off(verdicts), wake=wake
        )
    runtime.ring(turn.bells)
    desk.start(turn.lent, asked, per_call=claim.per_call if claim else 1)
    settled = {job for job, _, _ in turn.settled}
    for verdict in verdicts:
        outcome = verdict.outcome
        counts[outcome.verdict] += 1
        if outcome.job not in settled:
            log.warning("job.lease_lost", job=outcome.job, verdict=outcome.verdict)
    return turn


def _put_off(verdicts: list[Verdict]) -> tuple[float, str] | None:
    """The longest wait of the lane that any of the verdicts asks for."""
    return max((verdict.put_off for verdict in verdicts if verdict.put_off), default=None)


def perform_suspect(runtime: Runtime, lane: str) -> Looked:
    """Perform one job whose lease has ended before, with nothing else in this process."""
    desk = runtime.desks[lane]
    claim = desk.claim(new_token())
    if claim is None:
        return Looked(taken=False, more=False)
    turn = settle(runtime, desk, replace(claim, n=1, suspects=True), Counter())
    while not desk.is_idle():
        desk.wait(0.5)
        settle(runtime, desk, None, Counter())
    return Looked(bool(turn and turn.lent), bool(turn and turn.suspect))
