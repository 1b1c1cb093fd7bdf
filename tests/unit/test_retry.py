"""When a failed job is tried again, and when it is given up."""

from __future__ import annotations

import random

import pytest

from worker.execution.retry import RetryPolicy, span, usable_seconds

POLICY = RetryPolicy(backoff=2, backoff_max=100, give_up=86400)


@pytest.mark.parametrize(("failures", "longest"), [(0, 2), (1, 4), (4, 32), (9, 100), (40, 100)])
def test_backoff_is_exponential_with_jitter_over_the_upper_half(
    monkeypatch: pytest.MonkeyPatch, failures: int, longest: float
) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    decision = POLICY.decide(failures, 5.0)

    assert asked == [(longest / 2, longest)]
    assert (decision.action, decision.wait) == ("retry", longest)


def test_what_the_vendor_asks_for_comes_before_the_backoff() -> None:
    assert 30 <= POLICY.decide(0, None, 30).wait <= 31
    assert 0 <= POLICY.decide(0, None, 0).wait <= 1


def test_a_job_is_given_up_after_its_time_or_its_attempts() -> None:
    assert POLICY.decide(1000, 86399.0).action == "retry"
    assert POLICY.decide(1, 86400.0).action == "give up"
    capped = RetryPolicy(backoff=2, backoff_max=100, give_up=86400, attempts=3)
    assert [capped.decide(failures, 1.0).action for failures in range(3)] == ["retry", "retry", "give up"]


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (5, 5.0),
        (-1, 0.0),
        (1e12, 7 * 86400.0),
        (float("nan"), None),
        (float("inf"), None),
        ("soon", None),
        (True, None),
    ],
)
def test_only_usable_numbers_are_waited_for(after: object, seconds: float | None) -> None:
    assert usable_seconds(after) == seconds


def test_spans_in_words() -> None:
    assert [span(n) for n in (5, 61, 7200, 90000, 200000)] == [
        "5 seconds", "1 minute", "2 hours", "25 hours", "2 days",
    ]  # fmt: skip
