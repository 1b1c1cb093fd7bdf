"""Names of jobs and heads of events come apart again as they were put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercast.ledger import keys


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("shop:ev_1:email", ("shop", "ev_1", "email")),
        ("shop:urn:uuid:7:email", ("shop", "urn:uuid:7", "email")),
        ("shop:ev_1:email:r2", ("shop", "ev_1", "email")),
        ("shop:urn:r3:email:r12", ("shop", "urn:r3", "email")),
        ("shop:ev_1:rewards", ("shop", "ev_1", "rewards")),
    ],
)
def test_a_job_tells_source_event_and_action(key: str, parts: tuple[str, str, str]) -> None:
    assert keys.parts_of(key) == parts


@given(st.integers(), st.sampled_from(["", "envelope"]), st.text())
def test_a_head_gives_back_what_went_in(created_us: int, form: str, type: str) -> None:
    assert keys.parts_of_head(keys.event_head(created_us, form, type)) == (created_us, form, type)


def test_no_head_is_an_empty_one() -> None:
    assert keys.parts_of_head(None) == (0, "", "")


@pytest.mark.parametrize(
    ("key", "round"), [("shop:ev_1:email", 1), ("shop:ev_1:email:r2", 2), ("shop:r3:email:r12", 12)]
)
def test_a_job_tells_its_round(key: str, round: int) -> None:
    assert keys.round_of(key) == round


def test_the_key_that_a_vendor_gets_is_the_jobs_own_or_that_of_its_once_group() -> None:
    assert keys.sent_key("shop:urn:7:points", None) == "shop:urn:7:points"
    assert keys.sent_key("shop:urn:7:points", "abc") == keys.sent_key("shop:ev_8:points", "abc")
    assert keys.sent_key("shop:ev_8:points", "abc") == "shop:once-abc:points"
    assert keys.sent_key("shop:ev_8:points", "xyz") != keys.sent_key("shop:ev_8:points", "abc")


def test_a_sent_key_tells_action_and_group() -> None:
    assert keys.parts_of_sent_key(keys.sent_key("shop:ev_8:points", "abc")) == ("points", "abc")
    assert keys.parts_of_sent_key("shop:ev_8:points") is None
    assert keys.parts_of_sent_key("points") is None
