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
