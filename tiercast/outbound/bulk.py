"""Bulk calls that settle each job by its own item, whatever the vendor refuses.

self._bulk = Bulk(item=self._input, send=self._send, most=100, most_bytes=4_000_000)
...
async def perform(self, job):
    return await self._bulk.one(job, Deadline(job.timeout))

async def perform_many(self, jobs):
    async for settled in self._bulk.settle(jobs, Deadline(min(job.timeout for job in jobs))):
        yield settled
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..actions import Halt, Job, Permanent, Result, RetryLater, Unavailable, Unknown
from .deadline import Deadline

#: What became of a job: what `perform` returns, or an exception that it raises.
Outcome = Result | Exception

#: Bytes of a body that are not items: its brackets and names.
_AROUND_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Item:
    """What a bulk call holds for one job.

    Attributes:
        job: the job.
        content: the item as it stands in the body, encoded.
        identity: whom it is about, as the vendor tells them apart: no call names one twice. Empty where a call may.
    """

    job: Job
    content: bytes
    identity: str = ""


class Bulk:
    """Sends items in as few calls as the vendor's limits allow.

    - A job whose `item` raises gets that outcome; the others are not kept from going.
    - A call holds at most `most` items and `most_bytes` bytes. An item that is larger alone is dead.
    - No call names one identity twice: its items go in calls of their own, in order. Where one of them is not done,
      those behind it wait, so that an older value never lands on a newer one.
    - A call that the vendor refuses as a whole is tried again in two halves, down to the one item that it is about.
    - An item that the answer does not mention is not done: it is sent again alone where that is harmless, and else its
      outcome is unknown.
    - What is not sent when the time is used up is left out, so that it is tried again.

    Args:
        item: makes the item of a job; raises Skip or Permanent where there is none.
        send: sends items within so many seconds. Returns outcomes by the job's key, of those that the answer mentions;
            raises what holds for the whole call.
        most: the most items in a call.
        most_bytes: the most bytes of a body; None for no limit.
        around_bytes: bytes of a body that are not items.
        halves: whether a refusal of the whole call may be about one item of it; by default where it is `Permanent`.
        repeatable: whether sending an item again is harmless.
        unmentioned: the message for an item that the answer does not mention.
    """

    def __init__(
        self,
        *,
        item: Callable[[Job], Item],
        send: Callable[[Sequence[Item], float], Awaitable[Mapping[str, Outcome]]],
        most: int,
        most_bytes: int | None = None,
        around_bytes: int = _AROUND_BYTES,
        halves: Callable[[Exception], bool] = lambda error: isinstance(error, Permanent),
        repeatable: bool = True,
        unmentioned: str = "the vendor's answer does not mention this job",
    ) -> None:
        self._item = item
        self._send = send
        self._most = most
        self._room = None if most_bytes is None else most_bytes - around_bytes
        self._halves = halves
        self._repeatable = repeatable
        self._unmentioned = unmentioned

    async def one(self, job: Job, deadline: Deadline) -> Result:
        """Send the item of one job; what became of it is returned or raised."""
        async for _, outcome in self.settle([job], deadline):
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        raise RetryLater("there was no time left to send it")

    async def settle(self, jobs: Iterable[Job], deadline: Deadline) -> AsyncIterator[tuple[Job, Outcome]]:
        """Send the items of jobs, and yield each job with what became of it, once; what was not sent is left out."""
        items, refused = self._items(jobs)
        for job, error in refused:
            yield job, error
        waiting: set[str] = set()
        everyone: Exception | None = None
        for call in self._calls(items):
            if everyone is not None:
                # Nothing of the rest was sent, and what refused those before would refuse these.
                for item in call:
                    yield item.job, everyone
                continue
            ready = [item for item in call if item.identity not in waiting]
            if not ready:
                continue
            if not deadline.another():
                return
            async for item, outcome in self._settled(ready, deadline):
                if item.identity and isinstance(outcome, RetryLater | Unknown | Halt):
                    waiting.add(item.identity)
                everyone = everyone or _of_everyone(outcome)
                yield item.job, outcome

    def _items(self, jobs: Iterable[Job]) -> tuple[list[Item], list[tuple[Job, Exception]]]:
        """The items of jobs, and the jobs that have none, with the reason."""
        items: list[Item] = []
        refused: list[tuple[Job, Exception]] = []
        for job in jobs:
            try:
                item = self._item(job)
            except Exception as error:
                refused.append((job, error))
                continue
            size = len(item.content)
            if self._room is not None and size > self._room:
                refused.append((job, Permanent(f"its item has {size} bytes, more than the vendor takes in one call")))
            else:
                items.append(item)
        return items, refused

    def _calls(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Items in calls that name each identity once, in the order of its jobs, within the vendor's limits."""
        turns: list[list[Item]] = []
        seen: dict[str, int] = {}
        for item in items:
            turn = 0
            if item.identity:
                turn = seen[item.identity] = seen.get(item.identity, -1) + 1
            if turn == len(turns):
                turns.append([])
            turns[turn].append(item)
        for turn_items in turns:
            yield from split(turn_items, self._most, self._room)

    async def _settled(self, items: list[Item], deadline: Deadline) -> AsyncIterator[tuple[Item, Outcome]]:
        """Send items in one call, and in smaller ones where that tells more."""
        try:
            answered: Mapping[str, Outcome] = await self._send(items, deadline.left)
        except Exception as error:
            if len(items) == 1 or not self._halves(error):
                for item in items:
                    yield item, error
                return
            async for settled in self._in_halves(items, deadline):
                yield settled
            return
        rest = [item for item in items if item.job.key not in answered]
        for item in items:
            if item.job.key in answered:
                yield item, answered[item.job.key]
        if rest and len(items) > 1 and self._repeatable:
            async for settled in self._in_halves(rest, deadline):
                yield settled
            return
        for item in rest:
            yield item, Unknown(self._unmentioned)

    async def _in_halves(self, items: list[Item], deadline: Deadline) -> AsyncIterator[tuple[Item, Outcome]]:
        middle = (len(items) + 1) // 2
        for half in (items[:middle], items[middle:]):
            if half and deadline.another():
                async for settled in self._settled(half, deadline):
                    yield settled


def _of_everyone(outcome: Outcome) -> Exception | None:
    """An outcome that holds for every job of the action: nothing more is sent then."""
    if isinstance(outcome, Halt | Unavailable) or (isinstance(outcome, RetryLater) and outcome.everyone):
        return outcome
    return None


def split(items: Sequence[Item], most: int, most_bytes: int | None) -> Iterator[list[Item]]:
    """Items in lists of at most `most`, and of at most `most_bytes` with a comma behind each."""
    call: list[Item] = []
    size = 0
    for item in items:
        length = len(item.content) + 1
        if call and (len(call) == most or (most_bytes is not None and size + length > most_bytes)):
            yield call
            call, size = [], 0
        call.append(item)
        size += length
    if call:
        yield call


def json_list(items: Iterable[Item]) -> bytes:
    """The items as a list in JSON, for the body of a call."""
    return b"[" + b",".join(item.content for item in items) + b"]"
