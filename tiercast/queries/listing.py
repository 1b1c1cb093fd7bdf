"""Listings over ledger and history together: pages, counts, error groups, everything of a customer.

The ledger wins: what it holds was brought back, or is not let go yet, and what the history says of it may be older.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

from ..error_pattern import error_pattern
from ..ids import received_ms
from ..ledger.digests import Digests
from ..ledger.filed import delivery_info, job_info
from ..ledger.model import JobInfo
from ..ledger.reading import Filter, FoundDelivery, FoundJob, Reader, event_of
from ..ledger.states import DeliveryState, JobState
from ..references import KINDS

if TYPE_CHECKING:
    from ..history.filtering import HistoryFilter
    from ..history.reading import ErrorGroup, Reading
    from ..history.reading import Page as HistoryPage
    from ..history.rows import FiledDelivery

T = TypeVar("T")
R = TypeVar("R")

#: Seconds that a page may take; then it shows what it has and says how far it looked.
BUDGET_SECONDS = 0.2

#: Records of the ledger that a count or a sorted listing looks at.
MAX_COUNTED = 10_000

#: States of jobs that the ledger has an index of, so that all of them can be sorted.
_INDEXED = frozenset(state for state in JobState if state.indexed)

#: Opens the history when something is looked up in it for the first time.
OpenHistory = Callable[[], "Reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A page of a listing, newest first.

    `cursor` is where the next one goes on; None where there is no more. `looked_back_ms` is set where the time was over
    before the page was full: everything since then was looked at, and `cursor` looks further.
    """

    rows: list[T]
    cursor: str | None = None
    looked_back_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are; `exact` is False where there are more than that."""

    number: int
    exact: bool = True


class Queries:
    """Reads ledger and history as one.

    Args:
        reader: of the ledger alone.
        digests: of that ledger.
        history: opens the history; None where there is none.

    Every method that looks into the history raises HistoryUnavailable and HistoryRefused.
    """

    def __init__(self, reader: Reader, digests: Digests, history: OpenHistory | None = None) -> None:
        self._reader = reader
        self._digests = digests
        self._history = history

    # --- pages

    def find_deliveries(
        self,
        which: Filter,
        *,
        limit: int = 50,
        cursor: str | None = None,
        seconds: float | None = BUDGET_SECONDS,
    ) -> Page[FoundDelivery]:
        """A page of deliveries with their events. `which.limit` is not looked at."""
        ours = self._reader.with_events(self._reader.deliveries(_up_to(which, cursor)))
        older = (each for each in ours if cursor is None or each.info.id < cursor)
        held = list(islice(older, limit + 1))
        filed = self._pages_of_deliveries(which, limit, cursor, seconds)
        return _merged(held, filed, _id_of, _id_of, limit, whole=False)

    def find_jobs(
        self,
        which: Filter,
        *,
        limit: int = 50,
        cursor: str | None = None,
        seconds: float | None = BUDGET_SECONDS,
    ) -> Page[FoundJob]:
        """A page of jobs with their events, those of the newest delivery first.

        A page ends with the last matching job of a delivery, so it can have a few more than `limit`. `which.limit` is
        not looked at.
        """
        jobs = self._held_jobs(which, limit, cursor)
        held = list(self._reader.jobs_with_events(jobs))
        filed = self._pages_of_jobs(which, limit, cursor, seconds)
        return _merged(held, filed, _delivery_of, _key_of, limit, whole=True)

    def _held_jobs(self, which: Filter, limit: int, cursor: str | None) -> list[JobInfo]:
        """The ledger's jobs by their delivery, newest first: more than `limit`, and all of the last delivery."""
        narrowed = _up_to(which, cursor)
        found: Iterable[JobInfo]
        if which.state in _INDEXED and which.customer is None and which.customer_digests is None:
            # Few stay in the ledger, and its index has them in the order of their changes.
            listed = islice(self._reader.jobs(narrowed), MAX_COUNTED)
            found = sorted(listed, key=lambda job: job.delivery, reverse=True)
        else:
            # Any time has them listed in the order of their deliveries.
            found = self._reader.jobs(replace(narrowed, since_ms=narrowed.since_ms or 1))
        older = (job for job in found if cursor is None or job.delivery < cursor)
        taken: list[JobInfo] = []
        for job in older:
            if len(taken) > limit and job.delivery != taken[-1].delivery:
                break
            taken.append(job)
        return taken

    def _pages_of_deliveries(
        self, which: Filter, limit: int, cursor: str | None, seconds: float | None
    ) -> _FromHistory[FoundDelivery]:
        if self._history is None or which.state == DeliveryState.QUEUED:
            return _FromHistory([])
        reading, wanted = self._history(), self._wanted(which)

        def shown(rows: Sequence[FiledDelivery]) -> list[FoundDelivery]:
            held = {info.id for info in self._reader.by_id(row.id for row in rows)}
            return [_found_delivery(row) for row in rows if row.id not in held]

        def page(before: str | None, left: float | None) -> HistoryPage[FiledDelivery]:
            return reading.deliveries(wanted, limit=limit + 1, before=before, seconds=left)

        return _read(page, shown, limit, cursor, seconds)

    def _pages_of_jobs(
        self, which: Filter, limit: int, cursor: str | None, seconds: float | None
    ) -> _FromHistory[FoundJob]:
        if self._history is None or which.state in (JobState.OWED, JobState.PARKED):
            return _FromHistory([])
        reading, wanted = self._history(), self._wanted(which)

        def shown(rows: Sequence[_JobFound]) -> list[FoundJob]:
            held = {info.key for info in self._reader.jobs_by_key(row.job.key for row in rows)}
            return [_found_job(row) for row in rows if row.job.key not in held]

        def page(before: str | None, left: float | None) -> HistoryPage[_JobFound]:
            return reading.jobs(wanted, limit=limit + 1, before=before, seconds=left)

        return _read(page, shown, limit, cursor, seconds)

    # --- counts

    def count_deliveries(self, which: Filter, *, seconds: float | None = BUDGET_SECONDS) -> Count:
        """How many deliveries match."""
        held = [info.id for info in islice(self._reader.deliveries(which), MAX_COUNTED)]
        if self._history is None or which.state == DeliveryState.QUEUED:
            return Count(len(held), exact=len(held) < MAX_COUNTED)
        reading, wanted = self._history(), self._wanted(which)
        filed = reading.count_deliveries(wanted, seconds=seconds)
        everywhere = [info.id for info in islice(self._reader.deliveries(Filter()), MAX_COUNTED)]
        twice = self._also_filed(everywhere, lambda ids: self._matching_ids(reading, which, ids))
        exact = filed.exact and len(everywhere) < MAX_COUNTED
        return Count(len(held) + filed.number - twice, exact=exact)

    def count_jobs(self, which: Filter, *, seconds: float | None = BUDGET_SECONDS) -> Count:
        """How many jobs match."""
        held = sum(1 for _ in islice(self._reader.jobs(which), MAX_COUNTED))
        if self._history is None or which.state in (JobState.OWED, JobState.PARKED):
            return Count(held, exact=held < MAX_COUNTED)
        reading, wanted = self._history(), self._wanted(which)
        filed = reading.count_jobs(wanted, seconds=seconds)
        everywhere = [key for info in islice(self._reader.deliveries(Filter()), MAX_COUNTED) for key in info.jobs]
        twice = self._also_filed(everywhere, lambda keys: self._matching_keys(reading, which, keys))
        exact = filed.exact and len(everywhere) < MAX_COUNTED
        return Count(held + filed.number - twice, exact=exact)

    @staticmethod
    def _also_filed(names: Sequence[str], count: Callable[[Sequence[str]], int]) -> int:
        """Of what the ledger holds, how many rows of the history match: those were counted there, too."""
        return sum(count(names[start : start + 500]) for start in range(0, len(names), 500))

    def _matching_ids(self, reading: Reading, which: Filter, ids: Sequence[str]) -> int:
        there = [row.id for row in reading.by_id(ids, bodies=False)]
        return sum(1 for id in there if self._is_chosen(reading, which, id))

    def _matching_keys(self, reading: Reading, which: Filter, names: Sequence[str]) -> int:
        held = {info.key for info in self._reader.jobs_by_key(names)}
        there = [found for found in reading.jobs_by_key(names) if found.job.key in held]
        wanted = self._wanted(which)
        total = 0
        for found in there:
            at = received_ms(found.delivery.id)
            page = reading.jobs(replace(wanted, since_ms=at, until_ms=at), limit=1000, seconds=None, bodies=False)
            total += any(each.job.key == found.job.key for each in page.rows) and _within(which, at)
        return total

    def _is_chosen(self, reading: Reading, which: Filter, id: str) -> bool:
        at = received_ms(id)
        wanted = replace(self._wanted(which), since_ms=at, until_ms=at)
        page = reading.deliveries(wanted, limit=1000, seconds=None, bodies=False)
        return _within(which, at) and any(row.id == id for row in page.rows)

    # --- errors

    def error_groups(
        self, which: Filter, *, limit: int = 100, seconds: float | None = BUDGET_SECONDS
    ) -> list[ErrorGroup]:
        """Jobs by action and error pattern, or quarantined deliveries by source, the largest groups first.

        Without a state: dead jobs. What is not filed yet counts. A job that is being retried counts in its group until
        it is settled anew.

        Raises:
            ValueError: the filter names a customer.
        """
        state = which.state or JobState.DEAD
        groups: dict[tuple[str | None, str | None, str], ErrorGroup] = {}
        filed = (
            self._history().error_groups(replace(self._wanted(which), state=state), limit=MAX_COUNTED, seconds=seconds)
            if self._history
            else []
        )
        for group in filed:
            groups[group.action, group.source, group.pattern] = group
        for one in self._held_errors(replace(which, state=state)):
            key = (one.action, one.source, one.pattern)
            there = groups.get(key)
            groups[key] = one if there is None else _added(there, one)
        found = sorted(groups.values(), key=lambda group: (-group.count, group.pattern))
        return found[:limit]

    def _held_errors(self, which: Filter) -> Iterator[ErrorGroup]:
        """What the ledger holds and the history does not, each as a group of one."""
        from ..history.reading import ErrorGroup

        if which.state == DeliveryState.QUARANTINED:
            infos = list(islice(self._reader.deliveries(which), MAX_COUNTED))
            there = {row.id for row in self._filed_ids(info.id for info in infos)}
            for info in infos:
                if info.id not in there:
                    at = info.received_ms
                    yield ErrorGroup(
                        state=info.state, action=None, source=info.source, pattern=error_pattern(info.reason or ""),
                        count=1, first_ms=at, last_ms=at, example=info.id,
                    )  # fmt: skip
            return
        jobs = list(islice(self._reader.jobs(which), MAX_COUNTED))
        filed = self._filed_states(job.key for job in jobs)
        for job in jobs:
            if filed.get(job.key) != job.state:
                at = received_ms(job.delivery)
                yield ErrorGroup(
                    state=job.state, action=job.action, source=None, pattern=error_pattern(job.text or ""),
                    count=1, first_ms=at, last_ms=at, example=job.key,
                )  # fmt: skip

    def _filed_ids(self, ids: Iterable[str]) -> Sequence[FiledDelivery]:
        return self._history().by_id(ids, bodies=False) if self._history else []

    def _filed_states(self, keys: Iterable[str]) -> dict[str, str]:
        if self._history is None:
            return {}
        return {found.job.key: found.job.state for found in self._history().jobs_by_key(keys)}

    # --- all of a customer

    def of_customer(self, customer: str) -> Iterator[tuple[FoundDelivery, list[JobInfo]]]:
        """Everything of a customer, by id, source id or email: each delivery with its event and its jobs."""
        which, cursor = Filter(customer=customer), None
        while True:
            page = self.find_deliveries(which, limit=200, cursor=cursor, seconds=None)
            keys = [key for found in page.rows for key in found.info.jobs]
            jobs = {info.key: info for info in self._filed_jobs(keys)}
            jobs |= {info.key: info for info in self._reader.jobs_by_key(keys)}
            for found in page.rows:
                yield found, [jobs[key] for key in found.info.jobs if key in jobs]
            cursor = page.cursor
            if cursor is None:
                return

    def _filed_jobs(self, keys: Sequence[str]) -> Iterator[JobInfo]:
        if self._history is not None:
            for found in self._history().jobs_by_key(keys, attempts=True):
                yield job_info(found.job, found.delivery)

    # --- inside

    def _wanted(self, which: Filter) -> HistoryFilter:
        """The filter as the history takes it: customers by digests."""
        # Loads the database library.
        from ..history.filtering import HistoryFilter

        digests: Iterable[str] | None = which.customer_digests
        if which.customer is not None:
            projects = self._reader.projects([which.source] if which.source else None)
            digests = (self._digests.customer(project, kind, which.customer) for project in projects for kind in KINDS)
        return HistoryFilter(
            state=which.state,
            type=which.type,
            source=which.source,
            action=which.action,
            customer=None if digests is None else frozenset(digests),
            campaign=which.campaign,
            tier=which.tier,
            error=which.error,
            since_ms=which.since_ms,
            until_ms=which.until_ms,
        )


if TYPE_CHECKING:
    from ..history.reading import JobFound as _JobFound


@dataclass(slots=True)
class _FromHistory(Generic[R]):
    """What was read of the history: everything down to `floor` (exclusive), or all where that is None."""

    rows: list[R]
    floor: str | None = None
    looked_back_ms: int | None = None


def _read(
    page: Callable[[str | None, float | None], HistoryPage[T]],
    shown: Callable[[Sequence[T]], list[R]],
    limit: int,
    cursor: str | None,
    seconds: float | None,
) -> _FromHistory[R]:
    """Read pages until there are more rows than asked for, or the time is over."""
    ends = None if seconds is None else time.monotonic() + seconds
    rows: list[R] = []
    before = cursor
    while True:
        found = page(before, None if ends is None else max(0.0, ends - time.monotonic()))
        rows += shown(found.rows)
        before = found.before
        is_over = ends is not None and time.monotonic() > ends
        if before is None or len(rows) > limit:
            return _FromHistory(rows, before)
        if found.looked_back_ms is not None or is_over:
            return _FromHistory(rows, before, received_ms(before))


def _id_of(found: FoundDelivery) -> str:
    return found.info.id


def _delivery_of(found: FoundJob) -> str:
    return found.info.delivery


def _key_of(found: FoundJob) -> str:
    return found.info.key


def _merged(
    held: list[T],
    filed: _FromHistory[T],
    id_of: Callable[[T], str],
    name_of: Callable[[T], str],
    limit: int,
    *,
    whole: bool,
) -> Page[T]:
    """Merge what the ledger held (more than `limit` rows where there are so many) with what the history has.

    `id_of` gives a row's delivery, `name_of` what tells it from all others. `whole` keeps those of one delivery
    together.
    """
    floor = filed.floor
    # What was filed since the ledger was read stands in both.
    names = set(map(name_of, held))
    # Below the floor the history may have rows that were not read yet.
    rows = [each for each in filed.rows if name_of(each) not in names] + [
        each for each in held if floor is None or id_of(each) >= floor
    ]
    rows.sort(key=id_of, reverse=True)
    end = min(limit, len(rows))
    while whole and 0 < end < len(rows) and id_of(rows[end]) == id_of(rows[end - 1]):
        end += 1
    if end < len(rows):
        return Page(rows=rows[:end], cursor=id_of(rows[end - 1]))
    if floor is None:
        more = len(held) > limit
        return Page(rows=rows, cursor=id_of(rows[-1]) if more and rows else None)
    return Page(rows=rows, cursor=floor, looked_back_ms=filed.looked_back_ms)


def _up_to(which: Filter, cursor: str | None) -> Filter:
    """The filter, for what is older than a cursor; the delivery of the cursor and its neighbours can still be in it."""
    if cursor is None:
        return replace(which, limit=None)
    at = received_ms(cursor)
    return replace(which, limit=None, until_ms=at if which.until_ms is None else min(at, which.until_ms))


def _within(which: Filter, at_ms: int) -> bool:
    return (which.since_ms is None or at_ms >= which.since_ms) and (which.until_ms is None or at_ms <= which.until_ms)


def _found_delivery(row: FiledDelivery) -> FoundDelivery:
    info = delivery_info(row)
    return FoundDelivery(info=info, event=event_of(info, row.body))


def _found_job(row: _JobFound) -> FoundJob:
    delivery = _found_delivery(row.delivery)
    return FoundJob(info=job_info(row.job, row.delivery), delivery=delivery.info, event=delivery.event)


def _added(group: ErrorGroup, one: ErrorGroup) -> ErrorGroup:
    newest = one if one.last_ms >= group.last_ms else group
    return replace(
        group,
        count=group.count + one.count,
        first_ms=min(group.first_ms, one.first_ms),
        last_ms=newest.last_ms,
        example=newest.example,
    )
