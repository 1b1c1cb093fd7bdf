"""Filing, as workers and operators use it: claim what is settled, let go of what is in the history, bring it back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from ..history.rows import FiledAttempt, FiledDelivery, FiledJob
from ..ids import received_ms
from . import keys
from .model import Claim
from .store import Ledger


@dataclass(slots=True, kw_only=True)
class HeldFiling:
    """A settled delivery under our lease, as it is to be written to the history."""

    token: str
    row: FiledDelivery = field(repr=False)

    @property
    def id(self) -> str:
        """Its delivery's id."""
        return self.row.id


@dataclass(frozen=True, slots=True)
class FilingExchange:
    """The answer to letting go and claiming in one round trip.

    `settled` are deliveries that are filed for good, `more` says that further ones are due, `isolated` that some need a
    process of their own, `on_hold` how many seconds the lane is still on hold.
    """

    settled: list[str]
    bells: list[str]
    claimed: list[HeldFiling]
    more: bool
    isolated: bool
    on_hold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A delivery handed back unfiled; due again in `wait` seconds, or at once in its old place."""

    id: str
    token: str
    wait: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilingHold:
    """A wish that nothing is filed for so many seconds."""

    seconds: float
    cause: str
    reason: str


def start_filing(ledger: Ledger) -> int:
    """From now on what is settled is owed to a history, whichever process settles it. Repeating it changes nothing.

    Returns since when that is so, in milliseconds since 1970.
    """
    return int(ledger.run("start_filing", [], durable=True))


def is_filing(ledger: Ledger) -> bool:
    """Whether what is settled in this ledger is owed to a history."""
    return bool(ledger.client.hexists(ledger.key("meta"), "files"))


def agree_on_history(ledger: Ledger, ours: str, *, adopt: bool = False) -> str:
    """The id of the history that this ledger files into; `ours` where it has none yet, or where that is to be so."""
    meta = ledger.key("meta")
    if adopt:
        ledger.client.hset(meta, "history", ours)
    else:
        ledger.client.hsetnx(meta, "history", ours)
    return cast(bytes, ledger.client.hget(meta, "history")).decode()


def forgotten(ledger: Ledger) -> dict[str, int]:
    """Digests of forgotten customers' names, each with when that was, in milliseconds since 1970."""
    found = cast("dict[bytes, bytes]", ledger.client.hgetall(ledger.key("gone")))
    return {digest.decode(): int(at_ms) for digest, at_ms in found.items()}


def exchange_history(
    ledger: Ledger,
    filed: Sequence[HeldFiling] = (),
    claim: Claim | None = None,
    *,
    released: Sequence[Released] = (),
    outage: str | None = None,
    hold: FilingHold | None = None,
    lanes: Sequence[str] = (),
) -> FilingExchange:
    """Let go of what is in the history, and claim the next to be filed, in one step.

    Args:
        ledger: where they are.
        filed: held deliveries whose rows are durable in the history. Only those still held under their token leave.
        claim: for the next ones.
        released: held deliveries that were not filed.
        outage: why the history cannot be reached. Until it answers, a claim gets one delivery, at growing intervals.
        hold: what keeps anything from being filed.
        lanes: while work of these is late and could start, a claim gets nothing.

    Raises:
        LedgerError: as those of the ledger.
    """
    request = ledger.request(keys.HISTORY, claim)
    request["lanes"] = list(lanes)
    if filed:
        request["filed"] = [[held.id, held.token, held.row.round] for held in filed]
    if released:
        request["released"] = [
            [each.id, each.token] + ([] if each.wait is None else [round(each.wait * 1000)]) for each in released
        ]
    if outage is not None:
        request["outage"] = outage
    if hold is not None:
        request["hold"] = [round(hold.seconds * 1000), hold.cause, hold.reason]
    answer = ledger.run("filing", [json.dumps(request, separators=(",", ":"))], durable=bool(filed))
    settled, bells, claimed, more, isolated, on_hold = answer
    token = claim.token if claim else ""
    return FilingExchange(
        [each.decode() for each in settled],
        [each.decode() for each in bells],
        [HeldFiling(token=token, row=_row(*each)) for each in claimed],
        bool(more),
        bool(isolated),
        int(on_hold) / 1000,
    )


def bring_back(ledger: Ledger, deliveries: Sequence[FiledDelivery]) -> list[str]:
    """Bring deliveries back from the history, with all their jobs, each as a new round. Repeating it changes nothing.

    Args:
        ledger: where they are wanted.
        deliveries: as the history has them, with all jobs and attempts.

    Returns:
        For each what became of it: `back`; `here`, since the ledger has it; `stale`, since the history has a newer
        round by now; `told again`, since a copy of its event that came later than marks last has jobs of the same keys;
        or `forgotten`, since its customer was.

    Raises:
        LedgerFull: the server is at its memory limit.
        LedgerError: as those of the ledger.
    """
    bodies = [each.body for each in deliveries if each.body is not None]
    answer = ledger.run("bring_back", [_json(map(_family, deliveries)), *bodies], durable=True)
    return [each.decode() for each in answer]


def not_here(ledger: Ledger, jobs: Sequence[str], deliveries: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of these jobs and deliveries that the ledger does not hold."""
    pipe = ledger.client.pipeline(transaction=False)
    for job in jobs:
        pipe.exists(ledger.key(f"j:{job}"))
    for delivery in deliveries:
        pipe.exists(ledger.key(f"d:{delivery}"), ledger.key(f"b:{delivery}"))
    found = pipe.execute() if jobs or deliveries else []
    return (
        [job for job, there in zip(jobs, found, strict=False) if not there],
        [delivery for delivery, there in zip(deliveries, found[len(jobs) :], strict=True) if not there],
    )


def _json(values: Iterable[Any]) -> str:
    return json.dumps(list(values), separators=(",", ":"))


# --- from the ledger


def _row(delivery: bytes, body: bytes | None, fields: list[bytes], jobs: list[Any]) -> FiledDelivery:
    f = _fields(fields)
    created_us, form, type = keys.parts_of_head(f.get("h"))
    round = int(f.get("rd", 0))
    return FiledDelivery(
        id=delivery.decode(),
        round=round,
        source=f.get("src", ""),
        state=f.get("s", ""),
        settled_ms=int(f.get("z", 0)),
        body=body,
        event_id=f.get("e"),
        type=type or None,
        at=f.get("at"),
        created_us=created_us,
        form=form,
        project=f.get("p", f.get("src")) if "e" in f else None,
        reason=f.get("r"),
        rules=f.get("v"),
        first=f.get("first"),
        customer=tuple(f.get("c", "").split()),
        names=tuple(f.get("j", "").split()),
        operation=f.get("op"),
        jobs=tuple(_job(key.decode(), _fields(values), round) for key, values in jobs if values),
    )


def _job(key: str, f: dict[str, str], round: int) -> FiledJob:
    return FiledJob(
        key=key,
        action=keys.parts_of(key)[2],
        round=round,
        state=f["s"],
        changed_ms=int(f["z"]),
        attempts=int(f["n"]),
        before=int(f.get("b", 0)),
        text=f.get("r"),
        maybe_ms=int(f.get("mt", f["z"])) if f.get("m") == "1" else None,
        unordered=f.get("u") == "1",
        order=f.get("og"),
        once=f.get("cg"),
        place=f.get("us"),
        planned=f.get("ps") != "1",
        failing_ms=int(f["ff"]) if "ff" in f else None,
        operation=f.get("op"),
        history=tuple(_attempts(f)),
    )


def _attempts(f: dict[str, str]) -> Iterable[FiledAttempt]:
    for number in sorted(int(name[1:]) for name in f if name[:1] == "a" and name[1:].isdigit()):
        started, duration, outcome, *error = f[f"a{number}"].split(" ", 3)
        yield FiledAttempt(
            number=number,
            started_ms=int(started),
            duration_ms=int(duration),
            outcome=outcome,
            error=error[0] if error else None,
        )


def _fields(flat: list[bytes]) -> dict[str, str]:
    texts = [each.decode("utf-8", "replace") for each in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


# --- back to the ledger


def _family(of: FiledDelivery) -> dict[str, Any]:
    """What bring_back.lua takes; the body goes beside it."""
    fields: list[Any] = ["src", of.source, "z", of.settled_ms]
    if of.event_id is not None:
        head = keys.event_head(of.created_us, of.form, of.type or "")
        fields += ["e", of.event_id, "h", head, "at", of.at or ""]
    given = {
        "p": of.project,
        "r": of.reason,
        "v": of.rules,
        "first": of.first,
        "c": " ".join(of.customer),
        "j": " ".join(of.names),
        "op": of.operation,
    }
    family: dict[str, Any] = {
        "k": of.id,
        "rd": of.round,
        "s": of.state,
        "at": received_ms(of.id),
        "c": list(of.customer),
        "d": [*fields, *_given(given)],
        "jobs": [[job.key, job.state, job.changed_ms, _job_fields(job)] for job in of.jobs],
    }
    if of.body is not None:
        family["b"] = 1
    return family


def _job_fields(job: FiledJob) -> list[Any]:
    given = {
        "b": job.before or None,
        "ff": job.failing_ms,
        "r": job.text,
        "m": None if job.maybe_ms is None else 1,
        "mt": job.maybe_ms,
        "og": job.order,
        "cg": job.once,
        "us": job.place,
        "u": 1 if job.unordered else None,
        "ps": None if job.planned else 1,
        "op": job.operation,
    }
    fields: list[Any] = ["n", job.attempts, *_given(given)]
    for each in job.history:
        text = f"{each.started_ms} {each.duration_ms} {each.outcome}"
        fields += [f"a{each.number}", text if each.error is None else f"{text} {each.error}"]
    return fields


def _given(values: dict[str, Any]) -> Iterable[Any]:
    return (part for name, value in values.items() if value not in (None, "") for part in (name, value))
