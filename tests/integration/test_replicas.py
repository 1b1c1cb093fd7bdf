"""Under `replica:N` nothing is handed out whose claim no replica knows of."""

from __future__ import annotations

import pytest

from tests.integration.test_ledger import claim, process, settle, state_of
from tiercast.errors import LedgerUnavailable
from tiercast.ledger import Ledger
from tiercast.ledger.client import LedgerClient
from tiercast.ledger.model import Claim, Outcome, PlannedJob

MAIL = "jobs/mail"


@pytest.fixture
def alone(client: LedgerClient) -> Ledger:
    """The same ledger, for somebody who wants a replica to confirm, which there is none of."""
    return Ledger(client, prefix="t", replicas=1, replica_timeout=0.05, repeats=1)


def test_jobs_whose_claim_no_replica_confirmed_are_not_handed_out_and_lose_nothing(
    ledger: Ledger, alone: Ledger
) -> None:
    process(ledger, "e1", PlannedJob(action="mail"), number=1)

    with pytest.raises(LedgerUnavailable, match="0 of 1 replicas confirmed"):
        alone.exchange_jobs(MAIL, claim=Claim(token="a", n=5))

    # Then another gets them at once, as if nobody had claimed them
    (held,) = claim(ledger)
    assert (held.expiries, held.attempts, held.effect_possible) == (0, 0, False)
    settle(ledger, held, "done")
    assert state_of(ledger, held.event_id) == "done"


def test_an_outcome_that_no_replica_confirmed_is_kept_by_the_caller_and_settles_later(
    ledger: Ledger, alone: Ledger
) -> None:
    process(ledger, "e1", PlannedJob(action="mail"), number=1)
    process(ledger, "e2", PlannedJob(action="mail"), number=2)
    held, *_ = claim(ledger, n=1)
    outcome = Outcome(job=held.key, token=held.token, verdict="done")

    with pytest.raises(LedgerUnavailable):
        alone.exchange_jobs(MAIL, [outcome], Claim(token="a", n=5))

    ledger.exchange_jobs(MAIL, [outcome])
    assert state_of(ledger, held.event_id) == "done"
    assert [job.event_id for job in claim(ledger)] == ["e2"]


def test_a_lease_that_no_replica_saw_renewed_counts_as_not_renewed(ledger: Ledger, alone: Ledger) -> None:
    process(ledger, "e1", PlannedJob(action="mail"), number=1)
    (held,) = claim(ledger)

    with pytest.raises(LedgerUnavailable):
        alone.renew(MAIL, [(held.key, held.token)])


def test_a_claim_of_nothing_waits_for_nobody(alone: Ledger) -> None:
    assert alone.exchange_jobs(MAIL, claim=Claim(token="a", n=0)).claimed == []
