"""Delivery ids: UUIDv7 that rise strictly."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tiercast.ids import EXAMPLE, DeliveryIds, new_delivery_id, received_ms


def test_id_is_a_uuid_of_version_7_and_tells_its_time() -> None:
    before = time.time_ns() // 1_000_000
    made = new_delivery_id()
    after = time.time_ns() // 1_000_000

    parsed = uuid.UUID(made)
    assert str(parsed) == made
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    # Ids of this process made before can hold the time a little ahead.
    assert before <= received_ms(made) <= after + 5


def test_ids_rise_within_one_millisecond() -> None:
    ids = DeliveryIds(clock=lambda: 1_700_000_000_000_000_000)

    made = [ids.new() for _ in range(10_000)]

    assert made == sorted(set(made))
    assert {received_ms(one) for one in made} == {1_700_000_000_000}


def test_ids_rise_when_the_clock_steps_back() -> None:
    # Given a clock that steps back by a minute
    times = iter([100_000, 100_001, 40_000, 40_001, 100_002])
    ids = DeliveryIds(clock=lambda: next(times) * 1_000_000)

    # When ids are made before, during and after
    made = [ids.new() for _ in range(5)]

    # Then they rise, and take the clock's time again once it has caught up
    assert made == sorted(set(made))
    assert [received_ms(one) for one in made] == [100_000, 100_001, 100_001, 100_001, 100_002]


def test_ids_rise_when_the_tail_runs_over(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = DeliveryIds(clock=lambda: 5_000_000)
    first = ids.new()
    monkeypatch.setattr(ids, "_tail", (1 << 74) - 1)

    second = ids.new()

    assert second > first
    assert received_ms(second) == 6
    assert uuid.UUID(second).version == 7


def test_ids_of_many_threads_are_distinct_and_rise_in_each() -> None:
    ids = DeliveryIds()

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [ids.new() for _ in range(500)], range(8)))

    assert len({one for some in made for one in some}) == 4000
    assert all(some == sorted(some) for some in made)


@pytest.mark.parametrize(
    "text", ["", "whs_1", "6570d232-c572-438e-b91d-c7e5dcdf3967", EXAMPLE.upper(), EXAMPLE + "\n", "é" * 36]
)
def test_other_text_is_no_delivery_id(text: str) -> None:
    with pytest.raises(ValueError, match="is not a delivery id"):
        received_ms(text)


def test_example_is_a_delivery_id() -> None:
    assert received_ms(EXAMPLE) == int(EXAMPLE.replace("-", "")[:12], 16)
