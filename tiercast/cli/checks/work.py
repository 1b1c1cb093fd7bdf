"""Checks the work itself: what is dead, uncertain or quarantined, and what is about to be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from ...config.model import ActionSpec, Config
from ...ledger import keys
from ...ledger.model import DeliveryState, JobInfo, JobState, LaneInfo
from ...ledger.reading import Filter, Reader
from ..output import cut
from ..reasons import grouped
from .finding import Finding, trouble

#: The most jobs that are counted by action, and the most records whose reasons are looked at.
_COUNTED = 100_000
_LOOKED_AT = 1000

#: How many attempts a job has left that is on its last.
_LAST = 2

#: The share of `give_up` after which a job that keeps failing is about to be given up.
_MOST_OF_IT = 0.9

#: The most characters of a reason.
_MOST_REASON = 120


def check_work(reader: Reader, lanes: Sequence[LaneInfo], config: Config | None) -> Iterator[Finding]:
    """Say what needs a person. Reads indexes and the newest records, never all jobs."""
    for state in (state for state in JobState if state.needs_operator):
        yield from _stuck_jobs(reader, state)
    yield from _quarantined(reader)
    for lane in lanes if config else ():
        spec = config.actions.get(lane.name.removeprefix(keys.JOBS)) if config else None
        if spec is not None and lane.name.startswith(keys.JOBS) and lane.owed:
            yield from _nearly_given_up(reader, spec)


def _stuck_jobs(reader: Reader, state: JobState) -> Iterator[Finding]:
    counts = reader.count_by_action(state, _COUNTED)
    if not counts:
        return
    reasons = defaultdict(list)
    for job in reader.jobs(Filter(state=state, limit=_LOOKED_AT)):
        reasons[job.action].append(job.text)
    for action, number in counts.most_common():
        what = f"{number} {state}"
        if said := grouped(reasons[action]).most_common(1):
            what += f", most for: {cut(said[0][0], _MOST_REASON, ellipsis='...')}"
        yield trouble(keys.jobs_lane(action), f"{what}. See: tiercast jobs list --state {state} --action {action}")


def _quarantined(reader: Reader) -> Iterator[Finding]:
    total = reader.count_deliveries()[DeliveryState.QUARANTINED]
    if not total:
        return
    reasons = defaultdict(list)
    for info in reader.deliveries(Filter(state=DeliveryState.QUARANTINED, limit=_LOOKED_AT)):
        reasons[info.source].append(info.reason)
    for source, texts in reasons.items():
        number = f"{len(texts)}" if total <= _LOOKED_AT else f"{len(texts)} of the newest {_LOOKED_AT}"
        said = cut(grouped(texts).most_common(1)[0][0], _MOST_REASON, ellipsis="...")
        see = f"See: tiercast deliveries list --state quarantined --source {source}"
        yield trouble(keys.deliveries_lane(source), f"{number} quarantined, most for: {said}. {see}")


def _nearly_given_up(reader: Reader, spec: ActionSpec) -> Iterator[Finding]:
    now = reader.now_ms()
    nearly = [job for job in reader.retried(spec.name, _LOOKED_AT) if is_nearly_given_up(job, spec, now)]
    if not nearly:
        return
    said = cut(grouped(job.text for job in nearly).most_common(1)[0][0], _MOST_REASON, ellipsis="...")
    what = "1 job is" if len(nearly) == 1 else f"{len(nearly)} jobs are"
    yield trouble(
        keys.jobs_lane(spec.name),
        f"{what} about to be given up (attempts, give_up), most for: {said}. "
        f"See: tiercast jobs list --state owed --action {spec.name}",
    )


def is_nearly_given_up(job: JobInfo, spec: ActionSpec, now_ms: int) -> bool:
    """Whether a job that failed has few attempts or little time left. Time on hold is not taken off."""
    if spec.attempts is not None and spec.attempts > _LAST and 0 < job.tries >= spec.attempts - _LAST:
        return True
    return job.failing_ms is not None and now_ms - job.failing_ms > spec.give_up * 1000 * _MOST_OF_IT
