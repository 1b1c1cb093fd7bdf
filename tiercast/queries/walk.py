"""Walks over what a filter chooses, a page at a time, so that another process can go on with it.

The ledger comes first, oldest first; then the history, newest first. What is filed meanwhile is met there, so nothing
is passed over. A page ends with a cursor, after which the next one begins. What is chosen had its state when the
request began (`before_ms`): what was changed by the request, or dies again, is not met again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..ledger import keys
from ..ledger.model import DeliveryInfo, JobInfo
from ..ledger.reading import INDEXED_JOBS, Filter, Reader, delivery_matches, event_matches, job_matches, received_ms
from ..ledger.states import DeliveryState, JobState

#: What a cursor within the history begins with; behind it stand the number of the state and where its page ended.
_IN_HISTORY = "filed "

#: How many pages of an index are looked at for one page, where nothing matches.
_LOOKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a request is about.

    Args:
        of_jobs: whether it chooses jobs; else deliveries.
        which: the filter; its limit is not looked at.
        states: in any of these, where the filter names none; empty for all.
        names: these, in place of a filter.
        before_ms: what has changed since then is left out.
        skip: jobs of these actions are left out.
        first_rounds: jobs that were done again (`:r2`) are left out.
    """

    of_jobs: bool
    which: Filter = field(default_factory=Filter)
    states: Sequence[JobState] = ()
    names: Sequence[str] = ()
    before_ms: int
    skip: Collection[str] = ()
    first_rounds: bool = False

    @property
    def wanted(self) -> set[str]:
        """The states that it chooses; empty for all."""
        return {str(self.which.state)} if self.which.state else set(map(str, self.states))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A delivery or job that is chosen. `about` is a job's action or a delivery's type, `error` its error or reason.

    `state` is None where there is none of that name.
    """

    name: str
    state: str | None
    about: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of what is chosen, and the cursor after which the next page begins. `is_last` ends the walk."""

    chosen: list[Chosen]
    cursor: str
    is_last: bool


class Walk:
    """Walks over a ledger, and over the history that its reader knows."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def page(self, choice: Choice, cursor: str, most: int) -> Page:
        """The next of what is chosen: about `most`, less where little matches, and none where nothing does."""
        if choice.names:
            return self._named(choice, int(cursor or 0), most)
        if cursor.startswith(_IN_HISTORY):
            return self._of_history(choice, cursor, most)
        page = self._of_ledger(choice, cursor, most)
        if page.is_last and self._reader.has_history:
            return replace(page, cursor=f"{_IN_HISTORY}0 ", is_last=False)
        return page

    def _of_ledger(self, choice: Choice, cursor: str, most: int) -> Page:
        if not choice.of_jobs:
            return self._of_deliveries(choice, cursor, most, self._deliveries)
        if len(choice.wanted) == 1 and choice.wanted <= set(map(str, INDEXED_JOBS)) and not _by_delivery(choice.which):
            return self._of_index(choice, cursor, most)
        return self._of_deliveries(choice, cursor, most, self._jobs)

    # --- names

    def _named(self, choice: Choice, start: int, most: int) -> Page:
        names = choice.names[start : start + most]
        reader = self._reader
        infos: dict[str, Chosen] = {}
        if choice.of_jobs:
            infos = {info.key: _job(info) for info in reader.jobs_by_key(names)}
        else:
            infos = {info.id: _delivery(info) for info in reader.by_id(names)}
        chosen = [infos.get(name) or Chosen(name=name, state=None) for name in names]
        end = start + len(names)
        return Page(chosen=chosen, cursor=str(end), is_last=end >= len(choice.names))

    # --- the history

    def _of_history(self, choice: Choice, cursor: str, most: int) -> Page:
        """Walk the history once for each state that is chosen."""
        states: list[str | None] = [*sorted(choice.wanted)] or [None]
        number, _, before = cursor.removeprefix(_IN_HISTORY).partition(" ")
        at = int(number)
        which = replace(choice.which, state=states[at])
        if choice.of_jobs:
            jobs, ended = self._reader.filed_jobs(which, before or None, most)
            chosen = [_job(info) for info in jobs if _is_chosen(choice, info)]
        else:
            deliveries, ended = self._reader.filed_deliveries(which, before or None, most)
            chosen = [_delivery(info) for info in deliveries if (info.settled_ms or 0) <= choice.before_ms]
        if ended is None:
            at += 1
        return Page(chosen=chosen, cursor=f"{_IN_HISTORY}{at} {ended or ''}", is_last=at == len(states))

    # --- jobs by the index of their state

    def _of_index(self, choice: Choice, cursor: str, most: int) -> Page:
        (state,) = choice.wanted
        chosen: list[Chosen] = []
        for _ in range(_LOOKS):
            at, _, member = cursor.partition(" ")
            low = float(at) if at else float("-inf")
            found, is_last = self._reader.after(f"ix:j:{state}", low, member, choice.before_ms, most)
            if found:
                cursor = f"{found[-1][1]} {found[-1][0]}"
            infos = self._reader.jobs_by_key(name for name, _ in found)
            chosen = [_job(info) for info in self._matching(choice, infos)]
            if is_last or chosen:
                return Page(chosen=chosen, cursor=cursor, is_last=is_last)
        return Page(chosen=chosen, cursor=cursor, is_last=False)

    def _matching(self, choice: Choice, infos: Iterator[JobInfo]) -> Iterator[JobInfo]:
        which = choice.which
        found = (info for info in infos if _is_chosen(choice, info) and job_matches(info, which))
        if which.campaign is None and which.tier is None:
            return found
        return (each.info for each in self._reader.jobs_with_events(found) if event_matches(each.event, which))

    # --- deliveries, and jobs by their deliveries

    def _of_deliveries(self, choice: Choice, cursor: str, most: int, of: Any) -> Page:
        """Walk deliveries by their arrival; `of` gives what is chosen of each of some."""
        chosen: list[Chosen] = []
        for _ in range(_LOOKS):
            ids, is_last = self._ids(choice, cursor, most)
            by_delivery: Mapping[str, list[Chosen]] = of(choice, ids)
            for id in ids:
                more = by_delivery.get(id, [])
                # Those of one delivery come together, so that the cursor can be its id.
                if chosen and len(chosen) + len(more) > most:
                    return Page(chosen=chosen, cursor=cursor, is_last=False)
                chosen += more
                cursor = id
            if is_last or chosen:
                return Page(chosen=chosen, cursor=cursor, is_last=is_last)
        return Page(chosen=chosen, cursor=cursor, is_last=False)

    def _ids(self, choice: Choice, cursor: str, most: int) -> tuple[list[str], bool]:
        which, reader = choice.which, self._reader
        high = min(choice.before_ms, which.until_ms if which.until_ms is not None else choice.before_ms)
        if which.customer is not None or which.customer_digests is not None:
            ids = [id for id in reversed(reader.of_customer(which)) if id > cursor]
            return ids[:most], len(ids) <= most
        low = float(received_ms(cursor)) if cursor else float("-inf")
        if which.since_ms is not None and which.since_ms > low:
            low, cursor = float(which.since_ms), ""
        found: set[str] = set()
        edges: list[str] = []
        for state in DeliveryState:
            if not state.indexed:
                continue
            page, ended = reader.after(f"ix:d:{state}", low, cursor, high, most)
            found.update(id for id, _ in page if id > cursor)
            if not ended and page:
                edges.append(page[-1][0])
        # Beyond the end of a page there may be others of the same index that come before those of another.
        safe = sorted(id for id in found if not edges or id <= min(edges))
        return safe[:most], not edges and len(safe) <= most

    def _deliveries(self, choice: Choice, ids: Sequence[str]) -> dict[str, list[Chosen]]:
        which = choice.which
        infos = (
            info
            for info in self._reader.by_id(ids)
            if (info.settled_ms or 0) <= choice.before_ms and delivery_matches(info, which)
        )
        if which.campaign is not None or which.tier is not None:
            found = self._reader.with_events(infos)
            infos = (each.info for each in found if event_matches(each.event, which))
        return {info.id: [_delivery(info)] for info in infos}

    def _jobs(self, choice: Choice, ids: Sequence[str]) -> dict[str, list[Chosen]]:
        narrowed = replace(choice.which, state=None, error=None, action=None, campaign=None, tier=None)
        infos = [info for info in self._reader.by_id(ids) if info.jobs and delivery_matches(info, narrowed)]
        found: dict[str, list[Chosen]] = {info.id: [] for info in infos}
        jobs = self._reader.jobs_by_key(key for info in infos for key in info.jobs)
        for job in self._matching(choice, jobs):
            found[job.delivery].append(_job(job))
        return found


def _is_chosen(choice: Choice, info: JobInfo) -> bool:
    return (
        info.changed_ms <= choice.before_ms
        and (not choice.wanted or str(info.state) in choice.wanted)
        and info.action not in choice.skip
        and not (choice.first_rounds and keys.round_of(info.key) > 1)
    )


def _by_delivery(which: Filter) -> bool:
    """Whether a filter is about what deliveries tell, so that jobs are found by them."""
    about = (which.customer, which.customer_digests, which.since_ms, which.until_ms, which.type)
    return any(each is not None for each in about)


def _job(info: JobInfo) -> Chosen:
    error = None if info.state is JobState.DONE else info.text
    return Chosen(name=info.key, state=str(info.state), about=info.action, error=error)


def _delivery(info: DeliveryInfo) -> Chosen:
    return Chosen(name=info.id, state=str(info.state), about=info.type or "", error=info.reason)
