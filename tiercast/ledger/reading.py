"""The ledger as operators read it: lanes, deliveries, jobs, and the way from a customer to all of theirs."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, groupby, islice
from typing import Any, cast

from ..references import KINDS
from ..rule_outcomes import decode, described
from . import keys
from .digests import Digests
from .model import Attempt, DeliveryInfo, DeliveryState, JobInfo, JobState, LaneInfo
from .store import Ledger

#: How many records are fetched in one round trip.
_PAGE = 200

_INDEXED_JOBS = (JobState.PARKED, JobState.SKIPPED, JobState.SUPERSEDED, JobState.DEAD, JobState.UNCERTAIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which deliveries or jobs; None matches all. Times are milliseconds since 1970, of the delivery's arrival.

    `customer` is an id, source id or email. `type` may end in `*`.
    """

    state: str | None = None
    type: str | None = None
    source: str | None = None
    action: str | None = None
    customer: str | None = None
    campaign: str | None = None
    tier: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    limit: int | None = None


class Reader:
    """Reads a ledger. All listings are newest first."""

    def __init__(self, ledger: Ledger, digests: Digests) -> None:
        self._ledger = ledger
        self._digests = digests
        self._client = cast(Any, ledger.client)

    # --- lanes

    def now_ms(self) -> int:
        """The ledger's clock."""
        seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def lane_names(self) -> list[str]:
        """All lanes that ever held work, by name."""
        return sorted(name.decode() for name in self._client.smembers(self._key("lanes")))

    def lanes(self) -> list[LaneInfo]:
        """Every lane with what it owes, all at one moment: work on its way from lane to lane is in one of them."""
        now = self.now_ms()
        names = self.lane_names()
        while True:
            pipe = self._client.pipeline(transaction=True)
            pipe.smembers(self._key("lanes"))
            for name in names:
                self._ask_about(pipe, name, now)
            found, *answers = pipe.execute()
            at_that_moment = sorted(name.decode() for name in found)
            if at_that_moment == names:
                size = len(answers) // max(1, len(names))
                parts = (answers[i * size : (i + 1) * size] for i in range(len(names)))
                return [_lane(name, now, part) for name, part in zip(names, parts, strict=True)]
            names = at_that_moment

    def _ask_about(self, pipe: Any, name: str, now: int) -> None:
        """Ask for what `_lane` needs."""
        due, held = self._key(f"due:{name}"), self._key(f"held:{name}")
        pipe.zcard(due)
        pipe.zcount(due, "-inf", now)
        pipe.zcard(held)
        pipe.zrange(due, 0, 0, withscores=True)
        pipe.hmget(self._key(f"lane:{name}"), "wake_at", "reason", "paused")
        pipe.hlen(self._key(f"lapsed:{name}"))

    # --- deliveries

    def delivery(self, delivery: str) -> DeliveryInfo | None:
        """One delivery; None where there is none of that id."""
        return next(self._deliveries([delivery]), None)

    def body(self, delivery: str) -> bytes | None:
        """The raw bytes of a delivery."""
        return cast("bytes | None", self._client.get(self._key(f"b:{delivery}")))

    def by_id(self, deliveries: Iterable[str]) -> Iterator[DeliveryInfo]:
        """These deliveries, in their order; those that are not there are left out."""
        return self._deliveries(deliveries)

    def bodies(self, deliveries: Iterable[str]) -> Iterator[bytes | None]:
        """The raw bytes of each of these deliveries, in their order."""
        iterator = iter(deliveries)
        while page := list(islice(iterator, _PAGE)):
            yield from self._client.mget([self._key(f"b:{delivery}") for delivery in page])

    def projects(self, sources: Iterable[str] | None = None) -> list[str]:
        """The Voucherify projects that these sources (by default all) told of."""
        pairs = (pair.decode().partition("/") for pair in self._client.smembers(self._key("projects")))
        wanted = None if sources is None else set(sources)
        return sorted({project for source, _, project in pairs if wanted is None or source in wanted})

    def deliveries(self, which: Filter) -> Iterator[DeliveryInfo]:
        """Deliveries that match, newest first."""
        found = (info for info in self._deliveries(self._delivery_ids(which)) if _matches(info, which))
        return islice(found, which.limit)

    def _delivery_ids(self, which: Filter) -> Iterator[str]:
        if which.customer is not None:
            yield from self._of_customer(which.customer, which.source)
            return
        states = [which.state] if which.state else list(DeliveryState)
        sets = [self._key(f"ix:d:{state}") for state in [*states, "processed"] if state != DeliveryState.QUEUED]
        yield from self._newest_first(sorted(set(sets)), which, queued=DeliveryState.QUEUED in states)

    def _newest_first(self, indexes: list[str], which: Filter, *, queued: bool) -> Iterator[str]:
        """Merge indexes by arrival (delivery ids sort by time), each id once."""
        walks = [self._walk(index, which) for index in indexes]
        if queued:
            walks.append(iter(sorted(self._queued_ids(), reverse=True)))
        for delivery, _ in groupby(heapq.merge(*walks, reverse=True)):
            yield delivery

    def _walk(self, index: str, which: Filter) -> Iterator[str]:
        """Walk a sorted set from its newest member, a page at a time."""
        low: Any = "-inf" if which.since_ms is None else which.since_ms
        high: Any = "+inf" if which.until_ms is None else which.until_ms
        for start in count(0, _PAGE):
            page = self._client.zrevrangebyscore(index, high, low, start=start, num=_PAGE)
            yield from (member.decode() for member in page)
            if len(page) < _PAGE:
                return

    def _queued_ids(self) -> Iterator[str]:
        for name in self.lane_names():
            if name.startswith(keys.DELIVERIES):
                for part in ("due", "held"):
                    yield from (m.decode() for m in self._client.zrange(self._key(f"{part}:{name}"), 0, -1))

    def _of_customer(self, customer: str, source: str | None) -> list[str]:
        found: set[str] = set()
        for project in self.projects([source] if source else None):
            for kind in KINDS:
                digest = self._digests.customer(project, kind, customer)
                aliases = {digest.encode(), *self._client.smembers(self._key(f"alias:{digest}"))}
                for alias in aliases:
                    members = self._client.zrange(self._key(f"cust:{alias.decode()}"), 0, -1)
                    found.update(member.decode() for member in members)
        return sorted(found, reverse=True)

    def sources(self) -> list[str]:
        """All sources that ever delivered."""
        return [name.removeprefix(keys.DELIVERIES) for name in self.lane_names() if name.startswith(keys.DELIVERIES)]

    def _deliveries(self, ids: Any) -> Iterator[DeliveryInfo]:
        iterator = iter(ids)
        while page := list(islice(iterator, _PAGE)):
            pipe = self._client.pipeline(transaction=False)
            for delivery in page:
                pipe.hgetall(self._key(f"d:{delivery}"))
                pipe.exists(self._key(f"b:{delivery}"))
            answers = pipe.execute()
            for i, delivery in enumerate(page):
                info = self._delivery_info(delivery, answers[2 * i], bool(answers[2 * i + 1]))
                if info:
                    yield info

    def _delivery_info(self, delivery: str, fields: dict[bytes, bytes], exists: bool) -> DeliveryInfo | None:
        f = {name.decode(): value.decode() for name, value in fields.items()}
        if not f:
            if not exists:
                return None
            return DeliveryInfo(
                id=delivery,
                source=self._source_of_queued(delivery),
                state=DeliveryState.QUEUED,
                received_ms=_received(delivery),
            )
        created_us, form, kind = keys.parts_of_head(f.get("h"))
        rules = decode(f.get("v"))
        return DeliveryInfo(
            id=delivery,
            source=f["src"],
            state=DeliveryState.QUEUED if "again" in f else DeliveryState(f["s"]),
            received_ms=_received(delivery),
            event_id=f.get("e"),
            type=kind or None,
            at=f.get("at"),
            reason=described(f.get("r"), rules, ignored=f["s"] == DeliveryState.IGNORED),
            rules=rules,
            first=f.get("first"),
            jobs=tuple(keys.job_key(f["src"], f.get("e", ""), name) for name in f.get("j", "").split()),
            settled_ms=int(f["z"]),
            form=form or None,
            created_us=created_us,
        )

    def _source_of_queued(self, delivery: str) -> str:
        for source in self.sources():
            lane = keys.deliveries_lane(source)
            for part in ("due", "held"):
                if self._client.zscore(self._key(f"{part}:{lane}"), delivery) is not None:
                    return source
        return ""

    # --- jobs

    def job(self, key: str) -> JobInfo | None:
        """One job with its attempts; None where there is none of that key."""
        found = list(self._jobs([key]))
        return found[0] if found else None

    def jobs_of(self, info: DeliveryInfo) -> list[JobInfo]:
        """The jobs of a delivery's event, in the order of its rules."""
        return list(self._jobs(info.jobs))

    def jobs(self, which: Filter) -> Iterator[JobInfo]:
        """Jobs that match, newest first (by their event's arrival, or by their last change where state is given)."""
        found = (job for job in self._jobs(self._job_keys(which)) if _job_matches(job, which))
        return islice(found, which.limit)

    def _job_keys(self, which: Filter) -> Iterator[str]:
        by_delivery = which.customer or which.since_ms or which.until_ms or which.type
        if which.state in _INDEXED_JOBS and not by_delivery:
            yield from self._walk(self._key(f"ix:j:{which.state}"), Filter())
        elif which.state == JobState.OWED and not by_delivery:
            yield from self._owed_jobs(which.action)
        else:
            # Not only those that are processed now: a replay may have found one ignored that has jobs.
            narrowed = Filter(
                type=which.type,
                source=which.source,
                customer=which.customer,
                since_ms=which.since_ms,
                until_ms=which.until_ms,
            )
            for info in self._deliveries(self._delivery_ids(narrowed)):
                if info.jobs and _matches(info, narrowed):
                    yield from info.jobs

    def _owed_jobs(self, action: str | None) -> Iterator[str]:
        for name in self.lane_names():
            if name.startswith(keys.JOBS) and action in (None, name.removeprefix(keys.JOBS)):
                for part in ("held", "due"):
                    yield from (m.decode() for m in self._client.zrange(self._key(f"{part}:{name}"), 0, -1))

    def _jobs(self, job_keys: Any) -> Iterator[JobInfo]:
        iterator = iter(job_keys)
        while page := list(islice(iterator, _PAGE)):
            pipe = self._client.pipeline(transaction=False)
            for key in page:
                lane = keys.jobs_lane(keys.parts_of(key)[2])
                pipe.hgetall(self._key(f"j:{key}"))
                pipe.zscore(self._key(f"due:{lane}"), key)
                pipe.hexists(self._key(f"lease:{lane}"), key)
            answers = pipe.execute()
            rows = [tuple(answers[3 * i : 3 * i + 3]) for i in range(len(page))]
            for key, (fields, due, held) in zip(page, rows, strict=True):
                if fields:
                    yield _job_info(key, fields, due, bool(held))

    def _key(self, name: str) -> str:
        return self._ledger.key(name)


def _received(delivery: str) -> int:
    try:
        return int(delivery[:8] + delivery[9:13], 16)
    except ValueError:
        return 0


def _matches(info: DeliveryInfo, which: Filter) -> bool:
    return (
        which.state in (None, info.state)
        and which.source in (None, info.source)
        and _matches_type(info.type, which.type)
        and (which.since_ms is None or info.received_ms >= which.since_ms)
        and (which.until_ms is None or info.received_ms <= which.until_ms)
    )


def _matches_type(found: str | None, wanted: str | None) -> bool:
    if wanted is None:
        return True
    if wanted.endswith("*"):
        return (found or "").startswith(wanted[:-1])
    return found == wanted


def _job_matches(job: JobInfo, which: Filter) -> bool:
    return (
        which.state in (None, job.state) and which.action in (None, job.action) and which.source in (None, job.source)
    )


def _job_info(key: str, fields: dict[bytes, bytes], due: float | None, held: bool) -> JobInfo:
    f = {name.decode(): value.decode() for name, value in fields.items()}
    source, event_id, action = keys.parts_of(key)
    return JobInfo(
        key=key,
        action=action,
        state=JobState(f["s"]),
        attempts=int(f["n"]),
        delivery=f["d"],
        event_id=event_id,
        source=source,
        text=f.get("r"),
        changed_ms=int(f["z"]),
        due_ms=int(due) if due is not None else None,
        held=held,
        maybe=f.get("m") == "1",
        unordered=f.get("u") == "1",
        history=tuple(_attempts(f)),
    )


def _attempts(f: dict[str, str]) -> Iterator[Attempt]:
    numbers = sorted(int(name[1:]) for name in f if name[:1] == "a" and name[1:].isdigit())
    for number in numbers:
        started, duration, outcome, *error = f[f"a{number}"].split(" ", 3)
        yield Attempt(
            number=number,
            started_ms=int(started),
            duration_ms=int(duration),
            outcome=outcome,
            error=error[0] if error else None,
        )


def _lane(name: str, now: int, answers: list[Any]) -> LaneInfo:
    """What the answers to `Reader._ask_about` say."""
    waiting, due_now, lent, head, (wake, reason, paused), lapsed = answers
    text = paused or (reason if wake is not None and int(wake) > now else None)
    return LaneInfo(
        name=name,
        owed=waiting + lent,
        due=due_now,
        held=lent,
        oldest_due_seconds=round((now - head[0][1]) / 1000, 3) if due_now else None,
        paused=paused is not None,
        reason=text.decode() if text is not None else None,
        suspects=lapsed,
    )
