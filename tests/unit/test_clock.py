"""When a difference of two clocks counts as a jump of the ledger's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercast.ledger.clock import ClockWatch

START = 1_790_000_000_000


def feed(
    watch: ClockWatch, seconds: float, *, offset: float = 0.0, slow: float = 0.01, at: float = 0.5
) -> float | None:
    """A reading that takes `slow` seconds, the ledger's clock being read after the part `at` of that."""
    shown = START + (seconds + slow * at + offset) * 1000
    return watch.observe(round(shown), sent=seconds, received=seconds + slow)


@pytest.mark.parametrize("jump", [-3600.0, -6.0, 6.0, 86400.0])
def test_a_jump_is_said_once_with_its_length(jump: float) -> None:
    watch = ClockWatch()
    assert [feed(watch, second) for second in range(5)] == [None] * 5
    assert feed(watch, 5, offset=jump) == pytest.approx(jump, abs=0.1)
    assert [feed(watch, second, offset=jump) for second in range(6, 60)] == [None] * 54
    assert feed(watch, 60) == pytest.approx(-jump, abs=0.1)


@pytest.mark.parametrize("jump", [-4.0, 0.5, 4.0])
def test_a_small_one_only_makes_work_wait_for_as_long(jump: float) -> None:
    watch = ClockWatch()
    assert feed(watch, 0) is None
    assert [feed(watch, second, offset=jump) for second in range(1, 100)] == [None] * 99


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 1)), min_size=1, max_size=40))
def test_slow_answers_prove_nothing(readings: list[tuple[float, float]]) -> None:
    watch, now = ClockWatch(), 0.0
    for slow, at in readings:
        assert feed(watch, now, slow=slow, at=at) is None
        now += slow + 1


def test_a_jump_is_found_after_a_slow_answer_hid_it() -> None:
    watch = ClockWatch()
    assert feed(watch, 0) is None
    assert feed(watch, 1, slow=20, offset=-10, at=1.0) is None
    assert feed(watch, 30, offset=-10) == pytest.approx(-10, abs=0.1)


def test_a_clock_that_is_steered_is_followed() -> None:
    """By 1 in 2,000, NTP's most, for a day."""
    watch = ClockWatch()
    assert [feed(watch, second, offset=second / 2000) for second in range(0, 86400, 10)] == [None] * 8640
