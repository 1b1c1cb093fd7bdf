"""Bells go to the idle processes in turn."""

from __future__ import annotations

from worker.rotation import in_turn


def test_each_is_first_in_turn_and_nobody_is_left_out() -> None:
    seen: list[list[int]] = []
    scheduled = in_turn(seen.append)

    for _ in range(4):
        scheduled([7, 5, 9])
    scheduled([])

    assert seen == [[5, 7, 9], [7, 9, 5], [9, 5, 7], [5, 7, 9], []]
