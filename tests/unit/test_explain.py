"""One sentence about a job: why it is where it is, and what would move it."""

from __future__ import annotations

from typing import Any

import pytest

from tiercast.ledger.model import JobInfo, Wait
from tiercast.ledger.states import JobState
from tiercast.queries.explain import explain

KEY = "voucherify:evcus_1:crm-tier"


def job(state: JobState, **more: Any) -> JobInfo:
    values: dict[str, Any] = {
        "key": KEY,
        "action": "crm-tier",
        "state": state,
        "attempts": 1,
        "delivery": "d",
        "event_id": "evcus_1",
        "source": "voucherify",
        "text": None,
        "changed_ms": 1_790_000_000_000,
    }
    return JobInfo(**values | more)


@pytest.mark.parametrize(
    ("info", "wait", "sentence"),
    [
        (job(JobState.DONE, text="deal 7"), None, "It was done after one attempt at 2026-09-21T14:13:20.000Z: deal 7."),
        (
            job(JobState.DEAD, attempts=4, text="answered 404"),
            None,
            "It gave up after 4 attempts at 2026-09-21T14:13:20.000Z: answered 404; once the cause is mended: "
            f"tiercast jobs retry {KEY}.",
        ),
        (
            job(JobState.UNCERTAIN, once="x" * 24),
            None,
            "Nobody knows since 2026-09-21T14:13:20.000Z whether it happened; look at the vendor for "
            f"voucherify:once-{'x' * 24}:crm-tier, then: tiercast jobs resolve {KEY} done, or retry.",
        ),
        (job(JobState.OWED), None, "It is due, and the next free worker takes it."),
        (job(JobState.OWED, held=True), None, "It is being performed right now."),
        (
            job(JobState.OWED),
            Wait(cause="paused", reason="incident 12", by="ada", since_ms=1_790_000_000_000),
            "Its lane is paused by ada since 2026-09-21T14:13:20.000Z: incident 12; to go on: "
            "tiercast lanes resume jobs/crm-tier.",
        ),
        (
            job(JobState.OWED),
            Wait(cause="hold", reason="answered 401", until_ms=1_790_000_000_000),
            "Its lane is on hold until 2026-09-21T14:13:20.000Z: answered 401; to try at once: "
            "tiercast lanes resume jobs/crm-tier.",
        ),
        (
            job(JobState.OWED),
            Wait(cause="later", until_ms=1_790_000_000_000, reason="answered 503"),
            "Its next attempt is at 2026-09-21T14:13:20.000Z since the last one failed: answered 503; to try at once: "
            f"tiercast jobs retry {KEY}.",
        ),
        (
            job(JobState.PARKED),
            Wait(cause="once", job="voucherify:evcus_0:crm-tier", state="uncertain"),
            "It waits for voucherify:evcus_0:crm-tier, which is uncertain and holds its once place; decide that one: "
            "tiercast jobs show voucherify:evcus_0:crm-tier.",
        ),
        (
            job(JobState.PARKED),
            Wait(cause="order", job="voucherify:evcus_0:crm-tier", state="owed"),
            "It waits for voucherify:evcus_0:crm-tier, which is owed and goes first in its order group; it goes on "
            "when that one is settled.",
        ),
    ],
)
def test_a_job_is_explained_in_one_sentence(info: JobInfo, wait: Wait | None, sentence: str) -> None:
    assert explain(info, [wait] if wait else []) == sentence


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_has_a_sentence(state: JobState) -> None:
    for cause in ("paused", "hold", "later", "rate", "concurrency", "turn", "order", "once"):
        text = explain(job(state), [Wait(cause=cause, reason="x", until_ms=1, since_ms=1, job="j", state="dead")])
        assert text.endswith(".")
        assert "None" not in text
