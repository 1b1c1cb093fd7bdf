"""The kit, and what is special about this kind. Run with: pytest --record-kinds"""

# ruff: noqa: RUF012, S101 - these are tests

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiercast_stars import GrantStars
from tiercast_stars.fake import FakeStars

from tiercast.actions import Unknown
from tiercast.runner import close, confirm, perform
from tiercast.testing import KindKit, make_action, make_job
from tiercast.testing.vendors.server import Answer, Request


class TestStars(KindKit):
    """K1 to K20."""

    action_class = GrantStars
    server = FakeStars
    options = {"customer": "{{ event.customer.id }}", "stars": 3}
    not_applicable = {
        **dict.fromkeys(("K8", "K9", "K10", "K11", "K12"), "it has no bulk call"),
        "K20": "the vendor has no harmless call that proves the token",
    }
    page = Path(__file__).parents[1] / "README.md"

    def key_in(self, request: Request) -> str | None:
        """The grant's reference."""
        reference: str = request.json["reference"]
        return reference


@pytest.fixture
def vendor() -> Iterator[FakeStars]:
    """A vendor for one test."""
    with FakeStars() as running:
        yield running


def test_a_grant_carries_the_jobs_key(vendor: FakeStars) -> None:
    action = make_action(GrantStars, {**vendor.options(), "customer": "cust_1", "stars": 3})
    job = make_job(action, stars=5)

    assert perform(action, job) == "granted 5 stars"

    assert vendor.effects() == [{"customer": "cust_1", "stars": 5, "reference": job.key}]
    close(action)


def test_after_an_attempt_without_an_answer_it_knows_whether_it_happened(vendor: FakeStars) -> None:
    # Given a vendor that does what it is asked and then says nothing
    action = make_action(GrantStars, {**vendor.options(), "customer": "cust_1", "stars": 3})
    done, other = make_job(action), make_job(action)
    vendor.faults.append("hang up after")
    with pytest.raises(Unknown):
        perform(action, done)

    # When it is asked later, then it knows the one and not the other
    assert confirm(action, done) is True
    assert confirm(action, other) is False
    close(action)


def test_a_gateway_that_gave_up_says_nothing_of_the_grant(vendor: FakeStars) -> None:
    action = make_action(GrantStars, {**vendor.options(), "customer": "cust_1", "stars": 3})
    vendor.queue.append(Answer(status=503))
    with pytest.raises(Unknown):
        perform(action, make_job(action))
    close(action)
