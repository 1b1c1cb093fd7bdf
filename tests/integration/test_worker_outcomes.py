"""Kinds of every outcome through a real worker: states and attempts on record."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.stack import wait_for
from tests.working import Works, once_each

ACTIONS = {
    "plain": ("Scripted", "attempts = 3; backoff = 0.01"),
    "paying": ("Paying", "attempts = 3; backoff = 0.01"),
    "blind": ("Blind", "attempts = 3; backoff = 0.01"),
    "bulk": ("Bulk", "attempts = 3; backoff = 0.01"),
    "async": ("Async", "attempts = 3; backoff = 0.01"),
    "async-paying": ("AsyncPaying", "attempts = 3; backoff = 0.01"),
    "async-bulk": ("AsyncBulk", "attempts = 3; backoff = 0.01"),
}

#: Async kinds end as plain ones do.
SAME = {"plain": "async", "paying": "async-paying", "bulk": "async-bulk"}

#: By behaviour: the state that each action's job ends in, and the outcomes of its attempts.
D, L, X, U, S = "done", "later", "dead", "uncertain", "skipped"
EXPECTED = {
    "done": {"plain": [D], "paying": [D], "blind": [D], "bulk": [D]},
    "odd": {"plain": [D], "paying": [D], "blind": [D], "bulk": [D]},
    "permanent": {"plain": [X], "paying": [X], "blind": [X], "bulk": [X]},
    "skip": {"plain": [S], "paying": [S], "blind": [S], "bulk": [S]},
    "second-time": {"plain": [L, D], "paying": [L, D], "blind": [L, D], "bulk": [L, D]},
    "later": {"plain": [L, L, X], "paying": [L, L, X], "blind": [L, L, X], "bulk": [L, L, X]},
    "raises": {"plain": [L, L, X], "paying": [L, L, U], "blind": [U], "bulk": [L, L, X]},
    "exits": {"plain": [L, L, X], "paying": [L, L, U], "blind": [U], "bulk": [L, L, X]},
    "lost": {"plain": [L, L, X], "paying": [L, D], "blind": [U], "bulk": [L, L, X]},
    "lost-on-the-way": {"plain": [L, D], "paying": [L, D], "blind": [U], "bulk": [L, D]},
    "unknowable": {"paying": [L, L, U]},
    "unaskable": {"paying": [L, L, U]},
    "left-out": {"bulk": [L, L, X]},
}


for outcomes in EXPECTED.values():
    outcomes.update({SAME[action]: attempts for action, attempts in tuple(outcomes.items()) if action in SAME})
for name in ("unknowable", "unaskable"):
    del EXPECTED[name]["async-paying"]  # it always knows


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    with Works(tmp_path_factory.mktemp("works"), ACTIONS) as works:
        works.begin()
        yield works


def test_every_outcome_ends_in_its_state_with_its_attempts_on_record(works: Works) -> None:
    behaviours = [name for name in EXPECTED for _ in range(2)]
    ids = works.feed(*behaviours)
    events = list(zip(ids, behaviours, strict=True))
    jobs = [(event, action, outcomes) for event, name in events for action, outcomes in EXPECTED[name].items()]

    def is_settled(event: str, action: str, outcomes: list[str]) -> bool:
        return [outcome for outcome, _ in works.history(event, action)] == outcomes

    wait_for(lambda: works.owed() == 0, seconds=60)
    wrong = [
        (name, action, works.history(event, action))
        for event, name in events
        for action, outcomes in EXPECTED[name].items()
        if not is_settled(event, action, outcomes)
    ]
    assert wrong == []
    states = {(job.event_id, job.action): str(job.state) for job in works.jobs()}
    assert all(states[event, action] == outcomes[-1] for event, action, outcomes in jobs)

    # and what may not be repeated had its effect once, whatever was lost
    for action in ("paying", "blind", "async-paying"):
        assert once_each(works.effects(action))
    assert works.held() == 0


def test_an_operators_retry_gives_new_attempts_and_resolving_decides(works: Works) -> None:
    later, lost = works.feed("later", "lost")
    works_settled = [(later, "plain"), (lost, "blind")]

    wait_for(lambda: works.owed() == 0)
    assert [len(works.history(*job)) for job in works_settled] == [3, 1]

    works.cli("jobs", "retry", f"voucherify:{later}:plain")
    works.cli("jobs", "resolve", f"voucherify:{lost}:blind", "done")
    wait_for(lambda: len(works.history(later, "plain")) == 6 and works.owed() == 0)

    shown = json.loads(works.cli("jobs", "list", "--action", "plain", "--json"))["jobs"]
    found = next(job for job in shown if job["key"] == f"voucherify:{later}:plain")
    assert (found["state"], found["attempts"]) == ("dead", 6)
    assert "try again" in found["error"]
    assert {str(job.state) for job in works.jobs() if (job.event_id, job.action) == (lost, "blind")} == {"done"}


def test_a_halted_lane_says_why_and_goes_on_when_resumed(works: Works) -> None:
    ids = works.feed(*["halt"] * 3)
    with works.opened() as (_, reader):
        lane = wait_for(lambda: [x for x in reader.lanes() if x.name == "jobs/plain" and x.reason], seconds=30)[0]
    wait_for(lambda: works.held() == 0)
    assert "the credential is refused" in (lane.reason or "")
    assert {str(job.state) for job in works.jobs(action="plain") if job.event_id in ids} == {"owed"}
    assert [works.history(event, "plain") for event in ids] == [[], [], []], "no attempt is counted"

    begun = len(works.effects("plain", "begin"))
    works.cli("lanes", "resume", "plain")
    wait_for(lambda: len(works.effects("plain", "begin")) > begun)
