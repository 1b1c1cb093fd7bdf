"""What an operator sees of the lanes is one moment: work on its way from one to the other is never missed."""

from __future__ import annotations

import threading

import redis

from tests.conftest import Clock
from tiercast.ledger import Digests, Ledger
from tiercast.ledger.reading import Reader


def test_work_that_moves_between_lanes_is_always_in_one_of_them(ledger: Ledger, client: redis.Redis) -> None:
    # Given a member that somebody moves, in single steps, from the lane read last to the lane read first and back
    lanes = ["t:due:deliveries/voucherify", "t:due:jobs/mail"]
    client.sadd("t:lanes", "deliveries/voucherify", "jobs/mail")
    client.zadd(lanes[0], {"one": 1})
    ended = threading.Event()

    def move() -> None:
        here, there = lanes
        while not ended.is_set():
            step = client.pipeline(transaction=True)
            step.zrem(here, "one")
            step.zadd(there, {"one": 1})
            step.execute()
            here, there = there, here

    mover = threading.Thread(target=move)
    mover.start()
    try:
        # When the lanes are read meanwhile
        reader = Reader(ledger, Digests("test"))
        seen = {sum(lane.owed for lane in reader.lanes()) for _ in range(500)}
    finally:
        ended.set()
        mover.join()

    # Then there is one, whenever one looks
    assert seen == {1}


def test_a_lane_that_has_just_begun_is_seen(timed: Ledger, clock: Clock) -> None:
    reader = Reader(timed, Digests("test"))
    assert reader.lanes() == []

    timed.record([("voucherify", "01900000-0000-7000-8000-000000000001", b"{}")])

    clock.pass_(2)
    assert [(lane.name, lane.owed, lane.due) for lane in reader.lanes()] == [("deliveries/voucherify", 1, 1)]
