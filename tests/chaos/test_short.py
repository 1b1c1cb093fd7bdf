"""The short form of `make chaos`: the promises under kills, and a harness that would notice if they were broken."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.stack import SECRET, wait_for

from .arena import Arena
from .audit import audit
from .filing import KillFiler
from .report import heading, line, markdown
from .scenario import Scenario
from .scenarios import KillLedger, KillWorkers
from .sender import Accepted, Sender
from .sink import EFFECTS, connect, entry

EVENTS = 200


@pytest.mark.parametrize("scenario", [KillWorkers, KillLedger, KillFiler], ids=lambda scenario: scenario.name)
def test_nothing_is_lost_and_nothing_done_again(scenario: type[Scenario], tmp_path: Path) -> None:
    row = scenario().run(tmp_path, events=EVENTS, rate=50)
    assert row.kept, (row, row.details)
    assert (row.accepted, row.processed, row.lost, row.outside) == (EVENTS, EVENTS, 0, 0)
    assert row.effects == 2 * EVENTS + EVENTS // 8 + row.inside
    assert len(heading()) <= 80
    assert len(line(row)) <= 80
    assert f"| {scenario.name} | {EVENTS} |" in markdown([row], {})


def test_the_audit_notices_what_is_lost_and_what_is_done_again(tmp_path: Path) -> None:
    # Given eight events that were sent and done
    with Arena(tmp_path) as arena:
        arena.add_web()
        arena.add_worker()
        sender = Sender(SECRET, arena.ports, 8)
        sender.start()
        sender.finish()
        wait_for(arena.is_empty)
        row = audit(arena, sender, "none", bound=0, seconds=0, may_repeat_paid=False)
        assert row.kept, (row, row.details)
        assert row.effects == 17

        # When one more is said to be accepted, one is done again long after, one at the same time, and one paid twice
        happened = arena.sink.effects()
        quick = [key for key in happened if key.endswith(":quick")]
        (paid,) = (key for key in happened if key.endswith(":paid"))
        client = connect(arena.sink.url)
        for key, late in ((quick[0], 60), (quick[1], 0), (paid, 0)):
            first = happened[key][0].began / 1000 - time.time() + time.monotonic()
            client.xadd(EFFECTS, entry(key, attempt=2, began=first + late))
        client.close()
        sender.accepted.append(Accepted("evcus_never", "customer.loyalty.tier.joined", "never", 0))
        row = audit(arena, sender, "some", bound=0, seconds=0, may_repeat_paid=False)

    # Then each is counted as what it is
    assert (row.processed, row.lost, row.outside, row.inside) == (8, 3, 2, 1)
    assert len(row.broken) == 4
