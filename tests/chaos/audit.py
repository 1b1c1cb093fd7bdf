"""The audit: holds what was acknowledged against the ledger and the sink."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tiercast.history.store import History

from .arena import ACTIONS, Arena
from .sender import Accepted, Sender

#: How many records are read in one round trip.
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a scenario came to.

    Args:
        accepted: requests answered 202.
        refused: tries that got no 202, and were repeated.
        processed: accepted deliveries that are settled.
        effects: effects in the sink, doubles included.
        lost: accepted deliveries not settled, and jobs asked for without an effect or a success on record.
        outside: doubles whose attempt began when a success was on record, and doubles of what must not be repeated.
        inside: doubles from the window between an effect and its settling.
        bound: jobs that were in flight at the disturbances; inside cannot exceed it.
        seconds: from the end of sending and disturbing until nothing was owed.
        broken: promises that were broken, in words.
        notes: what else was measured, in words.
    """

    name: str
    accepted: int
    refused: int
    processed: int
    effects: int
    lost: int
    outside: int
    inside: int
    bound: int
    seconds: float
    broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = field(default=(), repr=False)

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return not self.broken


@dataclass(slots=True)
class Doubles:
    """Effects beyond a job's first."""

    outside: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)


def asked_for(accepted: Iterable[Accepted]) -> Iterator[str]:
    """The keys of the jobs that accepted events ask for."""
    for one in {a.event: a for a in accepted}.values():
        for action in ACTIONS[one.type.rpartition(".")[2]]:
            yield f"voucherify:{one.event}:{action}"


def unsettled(arena: Arena, deliveries: Iterable[str]) -> list[str]:
    """Those of the deliveries that are not settled in the ledger."""
    wanted = list(deliveries)
    states = _read(arena, [f"tc:d:{delivery}" for delivery in wanted], "s")
    settled = (b"processed", b"duplicate")
    return [delivery for delivery, state in zip(wanted, states, strict=True) if state[0] not in settled]


def audit(arena: Arena, sender: Sender, name: str, *, bound: int, seconds: float, may_repeat_paid: bool) -> Row:
    """Hold the sender's 202s against the ledger and the sink."""
    left = unsettled(arena, (a.delivery for a in sender.accepted))
    effects = arena.sink.effects()
    wanted = list(asked_for(sender.accepted))
    jobs = sorted({*wanted, *effects, *_jobs_of(arena, sender.accepted)})
    records = dict(zip(jobs, _read(arena, [f"tc:j:{job}" for job in jobs], "s", "z"), strict=True))
    missing = [job for job in jobs if job not in effects or records[job][0] != b"done"]
    doubles = _doubles(effects, records, may_repeat_paid)
    broken = tuple(
        text
        for text, is_so in (
            (f"{len(left)} deliveries lost", left),
            (f"{len(missing)} jobs lost", missing),
            (f"{len(doubles.outside)} doubled outside the window", doubles.outside),
            (f"{len(doubles.inside)} doubled, with {bound} in flight", len(doubles.inside) > bound),
        )
        if is_so
    )
    return Row(
        name=name,
        accepted=len(sender.accepted),
        refused=sum(sender.refused.values()),
        processed=len(sender.accepted) - len(left),
        effects=sum(map(len, effects.values())),
        lost=len(left) + len(missing),
        outside=len(doubles.outside),
        inside=len(doubles.inside),
        bound=bound,
        seconds=seconds,
        broken=broken,
        details=tuple(itertools.islice((*left, *_told(missing, records), *doubles.outside), 10)),
    )


def _doubles(effects: dict[str, Any], records: dict[str, list[bytes | None]], may_repeat_paid: bool) -> Doubles:
    """A double is outside the window where its attempt began after the job's success was on record."""
    found = Doubles()
    for job, happened in effects.items():
        state, changed = records[job]
        on_record = int(changed) if state == b"done" and changed else None
        for again in happened[1:]:
            late = on_record is not None and again.began > on_record
            wrong = job.endswith(":paid") and not may_repeat_paid
            (found.outside if late or wrong else found.inside).append(job)
    return found


def _told(missing: list[str], records: dict[str, list[bytes | None]]) -> Iterator[str]:
    for job in missing:
        state = records[job][0]
        yield f"{job} is {state.decode() if state else 'unknown'}"


def _jobs_of(arena: Arena, accepted: list[Accepted]) -> Iterator[str]:
    """The jobs that the ledger has for these deliveries: another configuration may ask for more."""
    rows = _read(arena, [f"tc:d:{a.delivery}" for a in accepted], "j")
    for one, (names,) in zip(accepted, rows, strict=True):
        for action in (names or b"").decode().split():
            yield f"voucherify:{one.event}:{action}"


def _read(arena: Arena, keys: list[str], *fields: str) -> list[list[bytes | None]]:
    found: list[list[bytes | None]] = []
    with contextlib.closing(arena.raw) as client:
        for start in range(0, len(keys), _PAGE):
            pipe = client.pipeline(transaction=False)
            for key in keys[start : start + _PAGE]:
                pipe.hmget(key, *fields)
            found += pipe.execute()
    if "TIERCAST_HISTORY_URL" not in arena.env:
        return found
    missing = [key for key, row in zip(keys, found, strict=True) if row[0] is None]
    filed = _read_filed(arena, missing) if missing else {}
    return [
        row if row[0] is not None or key not in filed else [filed[key].get(field) for field in fields]
        for key, row in zip(keys, found, strict=True)
    ]


def _read_filed(arena: Arena, keys: list[str]) -> dict[str, dict[str, bytes]]:
    """The same fields of what the ledger let go of, from the history."""
    kinds: dict[str, list[str]] = {"d": [], "j": []}
    for key in keys:
        _, kind, name = key.split(":", 2)
        kinds[kind].append(name)
    with History(arena.history_address) as history:
        deliveries = history.reading.by_id(kinds["d"], bodies=False)
        jobs = history.reading.jobs_by_key(kinds["j"])
    found = {f"tc:d:{row.id}": {"s": row.state.encode(), "j": " ".join(row.names).encode()} for row in deliveries}
    return found | {
        f"tc:j:{one.job.key}": {"s": one.job.state.encode(), "z": str(one.job.changed_ms).encode()} for one in jobs
    }
