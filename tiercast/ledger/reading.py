"""The ledger as operators read it: lanes, deliveries, jobs, and the way from a customer to all of theirs."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, count, groupby, islice
from typing import Any, Literal, TypeVar, cast

from ..error_pattern import error_pattern
from ..event import Event, Json, customer_ids, iso_from_us
from ..references import KINDS
from ..rule_outcomes import decode, described
from ..stored import revive
from . import keys
from .clock import ClockState, clock_state
from .digests import Digests
from .filed import Filed, OpenFiled, delivery_info, job_info
from .model import Attempt, DeliveryInfo, DeliveryState, JobInfo, JobState, LaneInfo, Wait
from .store import Ledger

T = TypeVar("T")

#: How many records are fetched in one round trip.
_PAGE = 200

#: How many names are fetched in one round trip, where only names are looked at.
_NAMES = 5000

#: How many records `Reader.last_deliveries` looks at before it gives up on a source.
_LOOKED_AT = 2000

#: What stands for left-out text in a key that was copied from a table.
_LEFT_OUT = ("…", "...")

INDEXED_JOBS = tuple(state for state in JobState if state.indexed)
_INDEXED_DELIVERIES = tuple(state for state in DeliveryState if state.indexed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which deliveries or jobs; None matches all. Times are milliseconds since 1970, of the delivery's arrival.

    `customer` is an id, source id or email; `customer_digests` are those of a customer's names, where the name itself
    is not to be kept. `type` may end in `*`. `error` is a part of a job's error or of a delivery's reason.
    """

    state: str | None = None
    type: str | None = None
    source: str | None = None
    action: str | None = None
    customer: str | None = None
    campaign: str | None = None
    tier: str | None = None
    error: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    limit: int | None = None
    customer_digests: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDelivery:
    """A delivery with the event that it tells, None where it was not read or its body is gone."""

    info: DeliveryInfo
    event: Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundJob:
    """A job, with the delivery that tells its event."""

    info: JobInfo
    delivery: DeliveryInfo | None
    event: Event | None

    @property
    def customer_id(self) -> str | None:
        """The id of the event's customer."""
        return customer_ids(self.event).id if self.event else None


class Reader:
    """Reads a ledger. All listings are newest first.

    Args:
        ledger: to read.
        digests: of that ledger.
        filed: opens the history, where there is one. What the ledger does not hold is looked up there.
    """

    def __init__(self, ledger: Ledger, digests: Digests, filed: OpenFiled | None = None) -> None:
        self._ledger = ledger
        self._filed = filed
        self._digests = digests
        self._client = cast(Any, ledger.client)

    # --- lanes

    def now_ms(self) -> int:
        """The ledger's clock."""
        return self._ledger.now_ms()

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

    def lane(self, name: str) -> LaneInfo:
        """One lane, be it that it never held work."""
        now = self.now_ms()
        pipe = self._client.pipeline(transaction=True)
        self._ask_about(pipe, name, now)
        return _lane(name, now, pipe.execute())

    def _ask_about(self, pipe: Any, name: str, now: int) -> None:
        """Ask for what `_lane` needs."""
        due, held = self._key(f"due:{name}"), self._key(f"held:{name}")
        pipe.zcard(due)
        pipe.zcount(due, "-inf", now)
        pipe.zcard(held)
        pipe.zrange(due, 0, 0, withscores=True)
        pipe.hmget(self._key(f"lane:{name}"), *_OF_LANE)
        pipe.hvals(self._key(f"expiries:{name}"))

    # --- deliveries

    def delivery(self, delivery: str) -> DeliveryInfo | None:
        """One delivery; None where there is none of that id."""
        return next(self._deliveries([delivery]), None)

    def body(self, delivery: str) -> bytes | None:
        """The raw bytes of a delivery."""
        return next(self.bodies([delivery]))

    def by_id(self, deliveries: Iterable[str]) -> Iterator[DeliveryInfo]:
        """These deliveries, in their order; those that are not there are left out."""
        return self._deliveries(deliveries)

    def bodies(self, deliveries: Iterable[str]) -> Iterator[bytes | None]:
        """The raw bytes of each of these deliveries, in their order."""
        iterator = iter(deliveries)
        while page := list(islice(iterator, _PAGE)):
            found = self._client.mget([self._key(f"b:{delivery}") for delivery in page])
            missing = [delivery for delivery, body in zip(page, found, strict=True) if body is None]
            filed = {row.id: row.body for row in self._filed().by_id(missing)} if self._filed and missing else {}
            for delivery, body in zip(page, found, strict=True):
                yield filed.get(delivery) if body is None else body

    def clock(self) -> ClockState:
        """What the ledger notes of jumps of its clock."""
        return clock_state(self._ledger)

    def projects(self, sources: Iterable[str] | None = None) -> list[str]:
        """The Voucherify projects that these sources (by default all) told of."""
        pairs = (pair.decode().partition("/") for pair in self._client.smembers(self._key("projects")))
        wanted = None if sources is None else set(sources)
        return sorted({project for source, _, project in pairs if wanted is None or source in wanted})

    def deliveries(self, which: Filter) -> Iterator[DeliveryInfo]:
        """Deliveries that match, newest first."""
        found = (info for info in self._deliveries(self._delivery_ids(which)) if delivery_matches(info, which))
        if which.campaign is not None or which.tier is not None:
            found = (each.info for each in self.with_events(found) if event_matches(each.event, which))
        filed = _all_pages(lambda before: self.filed_deliveries(which, before, _PAGE))
        merged = heapq.merge(found, filed, key=lambda info: info.id, reverse=True)
        return islice(_first_of_each(merged, lambda info: info.id), which.limit)

    @property
    def has_history(self) -> bool:
        """Whether what the ledger does not hold is looked up in a history."""
        return self._filed is not None

    def filed_deliveries(self, which: Filter, before: str | None, most: int) -> tuple[list[DeliveryInfo], str | None]:
        """Some deliveries that match, which the history has and the ledger has not, newest first.

        Args:
            which: the filter; its limit is not looked at.
            before: the place at which the page before ended; None to begin.
            most: how many to look at.

        Returns:
            them, and the place at which the page ended; None where it is the last.
        """
        if self._filed is None or which.state == DeliveryState.QUEUED:
            return [], None
        wanted = self._history_filter(which)
        page = self._filed().deliveries(wanted, limit=most, before=before, seconds=None, bodies=False)
        here = self._held_here(row.id for row in page.rows)
        return [delivery_info(row) for row in page.rows if row.id not in here], page.before

    def filed_jobs(self, which: Filter, before: str | None, most: int) -> tuple[list[JobInfo], str | None]:
        """The same of jobs, those of the newest delivery first."""
        if self._filed is None or which.state in (JobState.OWED, JobState.PARKED):
            return [], None
        wanted = self._history_filter(which)
        page = self._filed().jobs(wanted, limit=most, before=before, seconds=None, bodies=False)
        here = self._held_here(each.delivery.id for each in page.rows)
        return [job_info(each.job, each.delivery) for each in page.rows if each.delivery.id not in here], page.before

    def _history_filter(self, which: Filter) -> Any:
        # Loads the database library.
        from ..history.filtering import HistoryFilter

        digests = None if which.customer_digests is None else frozenset(which.customer_digests)
        if digests is None and which.customer is not None:
            digests = frozenset(self._digests_of(which.customer, which.source))
        return HistoryFilter(
            state=which.state,
            type=which.type,
            source=which.source,
            action=which.action,
            customer=digests,
            campaign=which.campaign,
            tier=which.tier,
            error=which.error,
            since_ms=which.since_ms,
            until_ms=which.until_ms,
        )

    def _held_here(self, deliveries: Iterable[str]) -> set[str]:
        """Those of these deliveries that the ledger holds: what it says of them is newer than what the history says."""
        wanted = list(dict.fromkeys(deliveries))
        pipe = self._client.pipeline(transaction=False)
        for delivery in wanted:
            pipe.exists(self._key(f"d:{delivery}"))
        return {delivery for delivery, there in zip(wanted, pipe.execute(), strict=True) if there}

    def _digests_of(self, customer: str, source: str | None) -> Iterator[str]:
        """The digests of a name that somebody gave, as whichever kind it may be."""
        for project in self.projects([source] if source else None):
            for kind in KINDS:
                yield self._digests.customer(project, kind, customer)

    def with_events(self, infos: Iterable[DeliveryInfo]) -> Iterator[FoundDelivery]:
        """Make the events of deliveries again from their bodies."""
        for page in _pages(infos, _PAGE):
            for info, body in zip(page, self.bodies(info.id for info in page), strict=True):
                yield FoundDelivery(info=info, event=event_of(info, body))

    def deliveries_like(self, part: str, most: int) -> list[str]:
        """Up to so many ids that hold this part, in which `…` stands for anything."""
        pattern = _like(part)
        found: dict[str, None] = {}
        names = [f"ix:d:{state}" for state in _INDEXED_DELIVERIES]
        names += [f"{set}:{keys.deliveries_lane(source)}" for source in self.sources() for set in ("due", "held")]
        for name in names:
            for member, _ in self._client.zscan_iter(self._key(name), match=pattern, count=_NAMES):
                found[member.decode()] = None
                if len(found) >= most:
                    return list(found)
        if self._filed:
            found |= dict.fromkeys(self._filed().deliveries_like(part, most))
        return list(found)[:most]

    def last_deliveries(self) -> dict[str, int | None]:
        """When the last delivery of each source arrived; None where it is not among the newest 2,000 of all."""
        last: dict[str, int | None] = dict.fromkeys(self.sources())
        for source in last:
            lane = keys.deliveries_lane(source)
            heads = [self._client.zrange(self._key(f"{set}:{lane}"), -1, -1) for set in ("due", "held")]
            waiting = [received_ms(member.decode()) for head in heads for member in head]
            last[source] = max(waiting, default=None)
        settled = [self._key(f"ix:d:{state}") for state in _INDEXED_DELIVERIES]
        unseen = set(last)
        newest = islice(self._newest_first(settled, Filter(), queued=False), _LOOKED_AT)
        for page in _pages(newest, _PAGE):
            pipe = self._client.pipeline(transaction=False)
            for delivery in page:
                pipe.hget(self._key(f"d:{delivery}"), "src")
            for delivery, source in zip(page, pipe.execute(), strict=True):
                name = source.decode() if source else ""
                if name in unseen:
                    unseen.discard(name)
                    last[name] = max(last[name] or 0, received_ms(delivery))
            if not unseen:
                break
        return last

    def _delivery_ids(self, which: Filter) -> Iterator[str]:
        if which.customer is not None or which.customer_digests is not None:
            yield from self.of_customer(which)
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

    def after(self, index: str, low: float, member: str, high: float, n: int) -> tuple[list[tuple[str, int]], bool]:
        """Up to `n` members of an index that come after (low, member), with their scores up to `high`, oldest first.

        Returns them, and whether the index ends there. There can be none though it does not.

        Args:
            index: name of a sorted set, without the prefix.
            low: the score after which to begin; equal scores are sorted by member.
            member: the member after which to begin.
            high: the highest score.
            n: the most that are looked at, beside those of the first score.
        """
        start, edge = 0, member.encode()
        while True:
            page = self._client.zrangebyscore(self._key(index), low, high, start=start, num=n, withscores=True)
            fresh = [(name.decode(), int(score)) for name, score in page if (score, name) > (low, edge)]
            if fresh or len(page) < n:
                return fresh, len(page) < n
            start += n

    def _queued_ids(self) -> Iterator[str]:
        for name in self.lane_names():
            if name.startswith(keys.DELIVERIES):
                for part in ("due", "held"):
                    yield from (m.decode() for m in self._client.zrange(self._key(f"{part}:{name}"), 0, -1))

    def of_customer(self, which: Filter) -> list[str]:
        """The deliveries of a filter's customer, newest first."""
        digests = which.customer_digests
        if digests is None:
            digests = self.digests_of(which.customer or "", which.source)
        found: set[str] = set()
        for digest in digests:
            found.update(member.decode() for member in self._client.zrange(self._key(f"cust:{digest}"), 0, -1))
        return sorted(found, reverse=True)

    def digests_of(self, customer: str, source: str | None = None) -> tuple[str, ...]:
        """The digests under which a customer's deliveries are indexed, by id, source id or email."""
        found: dict[str, None] = {}
        for digest in self._digests_of(customer, source):
            aliases = {digest, *(each.decode() for each in self._client.smembers(self._key(f"alias:{digest}")))}
            for alias in sorted(aliases):
                if self._client.exists(self._key(f"cust:{alias}")):
                    found[alias] = None
        return tuple(found)

    def in_words(self, which: Filter, what: str) -> str:
        """A filter as the audit log has it: `dead jobs, action crm-tier, since 2026-11-27T09:30:00.000Z`.

        A customer goes by a digest, so that no name is kept.
        """
        digests = which.customer_digests
        if digests is None and which.customer is not None:
            digests = self.digests_of(which.customer, which.source)
        parts = [f"{which.state} {what}" if which.state else what]
        parts += [
            f"{name} {value}"
            for name in ("type", "source", "action", "campaign", "tier", "error")
            if (value := getattr(which, name)) is not None
        ]
        if digests is not None:
            parts.append(f"customer #{digests[0]}" if digests else "a customer that is not known")
        for name, at in (("since", which.since_ms), ("until", which.until_ms)):
            if at is not None:
                parts.append(f"{name} {iso_from_us(at * 1000)}")
        if which.limit is not None:
            parts.append(f"the newest {which.limit}")
        return ", ".join(parts)

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
            infos = {
                delivery: self._delivery_info(delivery, answers[2 * i], bool(answers[2 * i + 1]))
                for i, delivery in enumerate(page)
            }
            missing = [delivery for delivery, info in infos.items() if info is None]
            if self._filed and missing:
                infos |= {row.id: delivery_info(row) for row in self._filed().by_id(missing, bodies=False)}
            yield from (info for info in infos.values() if info is not None)

    def _delivery_info(self, delivery: str, fields: dict[bytes, bytes], exists: bool) -> DeliveryInfo | None:
        f = {name.decode(): value.decode() for name, value in fields.items()}
        if not f:
            if not exists:
                return None
            return DeliveryInfo(
                id=delivery,
                source=self._source_of_queued(delivery),
                state=DeliveryState.QUEUED,
                received_ms=received_ms(delivery),
            )
        created_us, form, kind = keys.parts_of_head(f.get("h"))
        rules = decode(f.get("v"))
        return DeliveryInfo(
            id=delivery,
            source=f["src"],
            state=DeliveryState.QUEUED if "again" in f else DeliveryState(f["s"]),
            received_ms=received_ms(delivery),
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
        found = (job for job in self._jobs(self._job_keys(which)) if job_matches(job, which))
        if which.campaign is not None or which.tier is not None:
            found = (each.info for each in self.jobs_with_events(found) if event_matches(each.event, which))
        filed = _all_pages(lambda before: self.filed_jobs(which, before, _PAGE))
        merged = (
            heapq.merge(found, filed, key=lambda job: job.delivery, reverse=True)
            if _is_by_delivery(which)
            else chain(found, filed)
        )
        return islice(_first_of_each(merged, lambda job: job.key), which.limit)

    def jobs_with_events(self, jobs: Iterable[JobInfo]) -> Iterator[FoundJob]:
        """Look up the delivery and the event of each job."""
        for page in _pages(jobs, _PAGE):
            ids = dict.fromkeys(job.delivery for job in page)
            found = {each.info.id: each for each in self.with_events(self.by_id(ids))}
            for job in page:
                delivery = found.get(job.delivery)
                yield FoundJob(
                    info=job,
                    delivery=delivery.info if delivery else None,
                    event=delivery.event if delivery else None,
                )

    def jobs_by_key(self, job_keys: Iterable[str]) -> Iterator[JobInfo]:
        """These jobs, in their order; those that are not there are left out."""
        return self._jobs(job_keys)

    def jobs_like(self, part: str, most: int) -> list[str]:
        """Up to so many keys of jobs that hold this part, in which `…` stands for anything.

        A key that a vendor got (`JobInfo.sent_as`) finds the job that holds its once place.
        """
        if sent := keys.parts_of_sent_key(part):
            action, digest = sent
            holder = self._client.get(self._key(f"s:{keys.once_group(action, digest)}"))
            holder = holder or self._client.hget(self._key(f"once:{action}"), digest)
            return [holder.decode()] if holder and holder != b"forgotten" else []
        prefix = self._key("j:")
        found: dict[str, None] = {}
        for name in self._client.scan_iter(match=_literal(prefix) + _like(part), count=_NAMES):
            found[name.decode().removeprefix(prefix)] = None
            if len(found) >= most:
                break
        if self._filed and len(found) < most:
            found |= dict.fromkeys(_jobs_filed_like(self._filed(), part, most))
        return list(found)[:most]

    def waits_of(self, job: JobInfo, limits: Iterable[str] = ()) -> list[Wait]:
        """What a job waits for, the weightiest first; empty where nothing holds it up, or it waits no more.

        Args:
            job: as it was read.
            limits: names of the rate limits that its action counts against.
        """
        if job.state is JobState.PARKED:
            return list(self._groups_before(job))
        if job.state is JobState.OWED and not job.held:
            return list(self._holds_of(job, limits))
        return []

    def _holds_of(self, job: JobInfo, limits: Iterable[str]) -> Iterator[Wait]:
        lane = self.lane(keys.jobs_lane(job.action))
        now = self.now_ms()
        if lane.paused:
            yield Wait(cause="paused", reason=lane.reason, by=lane.paused_by, since_ms=lane.paused_ms)
        elif lane.hold_until_ms is not None:
            yield Wait(cause="hold", reason=lane.reason, until_ms=lane.hold_until_ms)
        if job.due_ms is not None and job.due_ms > now:
            yield Wait(cause="later", until_ms=job.due_ms, reason=job.text)
            return
        for name in limits:
            at = self._client.get(self._key(f"limit:{name}"))
            if at and int(at) // 1000 > now:
                yield Wait(cause="rate", reason=name, until_ms=int(at) // 1000)
        if lane.cap is not None and lane.held >= lane.cap:
            yield Wait(cause="concurrency", number=lane.cap)
        ahead = self._client.zrank(self._key(f"due:{lane.name}"), job.key)
        if ahead:
            yield Wait(cause="turn", number=ahead)

    def _groups_before(self, job: JobInfo) -> Iterator[Wait]:
        named: tuple[tuple[Literal["order", "once"], str | None], ...] = (
            ("order", keys.order_group(job.action, job.order) if job.order else None),
            ("once", keys.once_group(job.action, job.once) if job.once else None),
        )
        for cause, group in named:
            if group is None:
                continue
            before = self._client.get(self._key(f"s:{group}"))
            if before is None and cause == "order":
                # The newest goes first; it waits itself, or it may have had its effect and bars those before it.
                top = self._client.zrevrange(self._key(f"p:{group}"), 0, 0)
                before = top[0].partition(b"/")[2] if top else None
            if before and before.decode() != job.key:
                state = self._client.hget(self._key(f"j:{before.decode()}"), "s")
                yield Wait(cause=cause, job=before.decode(), state=state.decode() if state else None)

    # --- counts

    def count_deliveries(self) -> dict[str, int]:
        """How many deliveries the ledger holds in each settled state; of the quarantined ones all, filed or not."""
        sizes = self._sizes("ix:d:", _INDEXED_DELIVERIES)
        return sizes | {"quarantined": sum(self._open("quarantined").values())}

    def count_jobs(self) -> dict[str, int]:
        """How many jobs the ledger holds in each state that has an index: all but owed (see `lanes`) and done.

        Of those that are dead and uncertain all are counted, filed or not.
        """
        counted = {str(state): sum(self._open(state).values()) for state in (JobState.DEAD, JobState.UNCERTAIN)}
        return self._sizes("ix:j:", INDEXED_JOBS) | counted

    def _open(self, state: str) -> Counter[tuple[str, ...]]:
        """How many of a state no operator has decided yet: by source and action, or by source if quarantined."""
        found = self._client.hgetall(self._key("open"))
        split = ((name.decode().split(" "), int(count)) for name, count in found.items())
        return Counter({tuple(about): count for (of, *about), count in split if of == state})

    def count_by_action(self, state: JobState, most: int) -> Counter[str]:
        """How many jobs of each action are in a state that has an index, of the newest so many.

        Of those that are dead and uncertain all are counted, filed or not.
        """
        counts: Counter[str] = Counter()
        if state in (JobState.DEAD, JobState.UNCERTAIN):
            for (_, action), number in self._open(state).items():
                counts[action] += number
            return counts
        for start in range(0, most, _NAMES):
            end = min(start + _NAMES, most) - 1
            page = self._client.zrevrange(self._key(f"ix:j:{state}"), start, end)
            counts.update(keys.parts_of(member.decode())[2] for member in page)
            if len(page) < _NAMES:
                break
        return counts

    def retried(self, action: str, most: int) -> Iterator[JobInfo]:
        """Owed jobs of an action that have failed before and wait for their next attempt, up to so many."""
        lane = keys.jobs_lane(action)
        later = self._client.zrangebyscore(self._key(f"due:{lane}"), self.now_ms(), "+inf", start=0, num=most)
        return (job for job in self._jobs([member.decode() for member in later]) if job.tries)

    def _sizes(self, prefix: str, states: Iterable[str]) -> dict[str, int]:
        names = [str(state) for state in states]
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.zcard(self._key(prefix + name))
        return dict(zip(names, pipe.execute(), strict=True))

    def _job_keys(self, which: Filter) -> Iterator[str]:
        if which.state in INDEXED_JOBS and not _is_by_delivery(which):
            yield from self._walk(self._key(f"ix:j:{which.state}"), Filter())
        elif which.state == JobState.OWED and not _is_by_delivery(which):
            yield from self._owed_jobs(which.action)
        else:
            # Not only those that are processed now: a replay may have found one ignored that has jobs.
            narrowed = Filter(
                type=which.type,
                source=which.source,
                customer=which.customer,
                customer_digests=which.customer_digests,
                since_ms=which.since_ms,
                until_ms=which.until_ms,
            )
            for info in self._deliveries(self._delivery_ids(narrowed)):
                if info.jobs and delivery_matches(info, narrowed):
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
            missing = [key for key, (fields, _, _) in zip(page, rows, strict=True) if not fields]
            filed = self._filed().jobs_by_key(missing, attempts=True) if self._filed and missing else []
            of_history = {each.job.key: job_info(each.job, each.delivery) for each in filed}
            for key, (fields, due, held) in zip(page, rows, strict=True):
                if fields:
                    yield _job_info(key, fields, due, bool(held))
                elif key in of_history:
                    yield of_history[key]

    def _key(self, name: str) -> str:
        return self._ledger.key(name)


def _is_by_delivery(which: Filter) -> bool:
    """Whether jobs are listed in the order of their deliveries, since there is no index by what is asked for."""
    indexed = which.state in INDEXED_JOBS or which.state == JobState.OWED
    customer = which.customer or which.customer_digests
    return bool(customer or which.since_ms or which.until_ms or which.type) or not indexed


def _first_of_each(rows: Iterable[T], name: Callable[[T], str]) -> Iterator[T]:
    """Rows without repeats: what was filed after the ledger was read stands in both, and the ledger's comes first."""
    seen: set[str] = set()
    for row in rows:
        if name(row) not in seen:
            seen.add(name(row))
            yield row


def _all_pages(page: Callable[[str | None], tuple[list[T], str | None]]) -> Iterator[T]:
    """What all pages of a listing hold, read as it is used."""
    before: str | None = None
    while True:
        rows, before = page(before)
        yield from rows
        if before is None:
            return


def _jobs_filed_like(filed: Filed, part: str, most: int) -> list[str]:
    """Keys of filed jobs that hold this part, found by the event's id in it."""
    rest = part.partition(":")[2]
    events = {part, rest, *(text.rpartition(":")[0] for text in (part, rest))} - {""}
    found = dict.fromkeys(key for event in sorted(events) for key in filed.jobs_like(event, most))
    return [key for key in found if part in key]


def received_ms(delivery: str) -> int:
    """When a delivery arrived, by its id."""
    try:
        return int(delivery[:8] + delivery[9:13], 16)
    except ValueError:
        return 0


def event_of(info: DeliveryInfo, body: bytes | None) -> Event | None:
    """The event that a delivery tells; None where it was not read, or its body is gone."""
    if body is None or info.event_id is None or info.type is None:
        return None
    try:
        return revive(
            body,
            id=info.event_id,
            type=info.type,
            at=info.at or "",
            created_us=info.created_us,
            source=info.source,
            form=info.form or "",
        )
    except (ValueError, RecursionError):
        return None


def delivery_matches(info: DeliveryInfo, which: Filter) -> bool:
    """Whether a delivery matches in all that can be seen without its event."""
    return (
        which.state in (None, info.state)
        and which.source in (None, info.source)
        and matches_type(info.type, which.type)
        and (which.since_ms is None or info.received_ms >= which.since_ms)
        and (which.until_ms is None or info.received_ms <= which.until_ms)
        and (which.action is None or which.action in {keys.parts_of(job)[2] for job in info.jobs})
        and _has_error(info.reason, which.error)
    )


def _has_error(found: str | None, wanted: str | None) -> bool:
    """Whether an error or reason holds a text, or is of its pattern."""
    if wanted is None:
        return True
    return bool(found) and (wanted.casefold() in (found or "").casefold() or error_pattern(found or "") == wanted)


def matches_type(found: str | None, wanted: str | None) -> bool:
    return wanted is None or _wildcard(wanted).fullmatch(found or "") is not None


@lru_cache(maxsize=64)
def _wildcard(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))))


def event_matches(event: Event | None, which: Filter) -> bool:
    """Whether an event is of the campaign and the tier that a filter names."""
    if event is None:
        return False
    # After `left` there is no tier, so the one left counts.
    tier = event.tier or event.previous_tier
    return _is_named(event.campaign, which.campaign) and _is_named(tier, which.tier)


def _is_named(thing: Json | None, name: str | None) -> bool:
    if name is None:
        return True
    names = [(thing or {}).get(key) for key in ("id", "name")]
    return any(isinstance(each, str) and each.casefold() == name.casefold() for each in names)


def _pages(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while page := list(islice(iterator, size)):
        yield page


def _literal(text: str) -> str:
    """A text as SCAN's patterns take it."""
    return "".join(f"\\{c}" if c in "*?[]\\^" else c for c in text)


def _like(part: str) -> str:
    """The pattern of names that hold a part."""
    for left_out in _LEFT_OUT:
        part = part.replace(left_out, "\0")
    return "*".join(["", *map(_literal, part.split("\0")), ""])


def job_matches(job: JobInfo, which: Filter) -> bool:
    return (
        which.state in (None, job.state)
        and which.action in (None, job.action)
        and which.source in (None, job.source)
        and (which.error is None or (job.state is not JobState.DONE and _has_error(job.text, which.error)))
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
        effect_possible=f.get("m") == "1",
        unordered=f.get("u") == "1",
        order=f.get("og"),
        once=f.get("cg"),
        failing_ms=int(f["ff"]) if "ff" in f else None,
        tries=int(f["n"]) - int(f.get("b", 0)),
        operation=f.get("op"),
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


#: What `_lane` reads of a lane's hash.
_OF_LANE = ("hold_until", "reason", "cause", "paused", "paused_by", "paused_at", "cap")


def _lane(name: str, now: int, answers: list[Any]) -> LaneInfo:
    """What the answers to `Reader._ask_about` say: the only place that reads a lane's record for an operator."""
    waiting, due_now, claimed, head, values, expiries = answers
    f: Mapping[str, str] = {
        field: value.decode() for field, value in zip(_OF_LANE, values, strict=True) if value is not None
    }
    on_hold = "hold_until" in f and int(f["hold_until"]) > now
    paused = "paused" in f
    return LaneInfo(
        name=name,
        owed=waiting + claimed,
        due=due_now,
        held=claimed,
        oldest_due_seconds=round((now - head[0][1]) / 1000, 3) if due_now else None,
        paused=paused,
        reason=f["paused"] if paused else f.get("reason") if on_hold else None,
        redelivered=sum(int(count) == 1 for count in expiries),
        isolated=sum(int(count) > 1 for count in expiries),
        paused_by=f.get("paused_by") or None,
        paused_ms=int(f["paused_at"]) if "paused_at" in f else None,
        hold_until_ms=int(f["hold_until"]) if on_hold else None,
        cause="paused" if paused else f.get("cause") if on_hold else None,
        cap=int(f["cap"]) if "cap" in f else None,
    )
