"""What left the ledger for the history, as an operator sees it: the same values as of what the ledger holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from ..history.rows import FiledDelivery, FiledJob
from ..ids import received_ms
from ..rule_outcomes import decode, described
from . import keys
from .model import Attempt, DeliveryInfo, DeliveryState, JobInfo, JobState

Row_co = TypeVar("Row_co", covariant=True)


class FoundInHistory(Protocol):
    """A job that was looked up, with its delivery."""

    @property
    def job(self) -> FiledJob:
        """The job."""

    @property
    def delivery(self) -> FiledDelivery:
        """Its delivery."""


class PageOfHistory(Protocol[Row_co]):
    """A page of a listing, newest first; `before` is where the next one goes on."""

    @property
    def rows(self) -> Sequence[Row_co]:
        """What is on it."""

    @property
    def before(self) -> str | None:
        """None where there is no more."""


class Filed(Protocol):
    """Reads of the history; each raises HistoryUnavailable and HistoryRefused."""

    def deliveries(
        self, which: Any, *, limit: int, before: str | None, seconds: float | None, bodies: bool
    ) -> PageOfHistory[FiledDelivery]:
        """A page of deliveries."""

    def jobs(
        self, which: Any, *, limit: int, before: str | None, seconds: float | None, bodies: bool
    ) -> PageOfHistory[FoundInHistory]:
        """A page of jobs, those of the newest delivery first."""

    def delivery(self, delivery: str) -> FiledDelivery | None:
        """One delivery with its body, its jobs and their attempts."""

    def by_id(self, deliveries: Iterable[str], *, bodies: bool = True, jobs: bool = False) -> list[FiledDelivery]:
        """These deliveries; those that are not there are left out."""

    def jobs_by_key(self, keys: Iterable[str], *, attempts: bool = False) -> Sequence[FoundInHistory]:
        """These jobs; those that are not there are left out."""

    def deliveries_like(self, part: str, most: int) -> list[str]:
        """Up to so many ids that begin with a part of one."""

    def jobs_like(self, event: str, most: int) -> list[str]:
        """Up to so many keys of jobs whose event's id begins with this part."""


#: Opens the history when something is looked up in it for the first time.
OpenFiled = Callable[[], Filed]


def delivery_info(row: FiledDelivery) -> DeliveryInfo:
    """A filed delivery."""
    rules = decode(row.rules)
    return DeliveryInfo(
        id=row.id,
        source=row.source,
        state=DeliveryState(row.state),
        received_ms=received_ms(row.id),
        event_id=row.event_id,
        type=row.type,
        at=row.at,
        reason=described(row.reason, rules, ignored=row.state == DeliveryState.IGNORED),
        rules=rules,
        first=row.first,
        jobs=tuple(keys.job_key(row.source, row.event_id or "", name) for name in row.names),
        settled_ms=row.settled_ms,
        form=row.form or None,
        created_us=row.created_us,
    )


def job_info(job: FiledJob, delivery: FiledDelivery) -> JobInfo:
    """A filed job."""
    return JobInfo(
        key=job.key,
        action=job.action,
        state=JobState(job.state),
        attempts=job.attempts,
        delivery=delivery.id,
        event_id=delivery.event_id or "",
        source=delivery.source,
        text=job.text,
        changed_ms=job.changed_ms,
        effect_possible=job.maybe_ms is not None,
        unordered=job.unordered,
        order=job.order,
        once=job.once,
        tries=job.attempts - job.before,
        failing_ms=job.failing_ms,
        history=tuple(
            Attempt(
                number=each.number,
                started_ms=each.started_ms,
                duration_ms=each.duration_ms,
                outcome=each.outcome,
                error=each.error,
            )
            for each in job.history
        ),
    )
