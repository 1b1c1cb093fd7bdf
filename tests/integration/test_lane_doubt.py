"""One wrong setting kills no queue: what fails alike holds the lane, and one job probes whether it was mended."""

from __future__ import annotations

import pytest

from tests.conftest import Clock
from tests.integration.test_lane_holds import MAIL, jobs, lane, release
from tests.integration.test_ledger import SOURCE, claim, state_of
from tests.operators import ANN
from tiercast.control import Control
from tiercast.ledger import Ledger
from tiercast.ledger.model import Alike, HeldJob, Hold, Outcome

MISSING = "400 PROPERTY_DOESNT_EXIST"
REASON = "create the property tier"


def dead(held: HeldJob, code: str | None = MISSING, *, most: int = 20) -> Outcome:
    alike = Alike(code, REASON, most) if code else None
    return Outcome(
        job=held.key, token=held.token, verdict="dead", text=f"no: {code}", duration=0.01, answered=True, alike=alike
    )


def done(held: HeldJob) -> Outcome:
    return Outcome(job=held.key, token=held.token, verdict="done", duration=0.01)


def fail_all(ledger: Ledger, *, most: int = 20, together: bool = True) -> int:
    """Claim until nothing is claimed any more, and have all of it die of one code; how many jobs were tried."""
    tried = 0
    while claimed := claim(ledger, n=50):
        tried += len(claimed)
        for part in [claimed] if together else [[held] for held in claimed]:
            ledger.exchange_jobs(MAIL, [dead(held, most=most) for held in part])
    return tried


def states(ledger: Ledger, number: int) -> dict[str, int]:
    """How many of the jobs are in which state."""
    found: dict[str, int] = {}
    for each in range(number):
        state = state_of(ledger, f"mail{each}")
        found[state] = found.get(state, 0) + 1
    return found


@pytest.mark.parametrize("together", [True, False])
def test_twenty_that_die_alike_hold_the_lane_and_no_more_die(timed: Ledger, together: bool) -> None:
    jobs(timed, *range(100))
    tried = fail_all(timed, together=together)
    assert states(timed, 100) == {"dead": 20, "owed": 80}
    assert tried == 50
    found = lane(timed)
    assert (found.cause, found.reason, found.owed) == ("setting", REASON, 80)


def test_what_was_released_has_used_up_no_attempt(timed: Ledger, clock: Clock) -> None:
    jobs(timed, *range(30))
    fail_all(timed)
    clock.pass_(300)
    (probe,) = claim(timed, n=50)
    assert (probe.attempts, probe.failing) == (0, None)


def test_one_job_after_another_probes_and_none_dies_while_it_is_not_mended(timed: Ledger, clock: Clock) -> None:
    jobs(timed, *range(40))
    fail_all(timed)
    probed = set()
    for _ in range(5):
        clock.pass_(300)
        (probe,) = claim(timed, n=50)
        probed.add(probe.key)
        assert claim(timed, n=50) == []
        timed.exchange_jobs(MAIL, [dead(probe)])
    # Each time it is another one: a job that is bad by itself keeps no good one from the probe.
    assert len(probed) == 5
    assert states(timed, 40) == {"dead": 20, "owed": 20}


def test_the_first_that_is_done_has_the_lane_go_on_at_once(timed: Ledger, clock: Clock) -> None:
    jobs(timed, *range(40))
    fail_all(timed)
    clock.pass_(300)
    (probe,) = claim(timed, n=50, heard=True)
    exchange = timed.exchange_jobs(MAIL, [done(probe)])
    assert exchange.bells == [MAIL]
    assert len(claim(timed, n=50)) == 19
    assert lane(timed).cause is None


def test_after_the_change_one_command_has_all_of_them_done(timed: Ledger, clock: Clock) -> None:
    # Given a lane that is held because 20 jobs have died of one setting
    jobs(timed, *range(40))
    fail_all(timed)
    assert claim(timed, n=50) == []
    # When the operator has mended it, and has the dead jobs tried again
    operator = Control(timed, ANN, lambda _: None)
    for number in range(40):
        if state_of(timed, f"mail{number}") == "dead":
            assert operator.retry(f"{SOURCE}:mail{number}:mail").done
    # Then nobody has to wait for the hold to end: one job probes, and all others follow
    clock.pass_(1)
    (probe,) = claim(timed, n=50)
    timed.exchange_jobs(MAIL, [done(probe)])
    rest = claim(timed, n=50)
    timed.exchange_jobs(MAIL, [done(held) for held in rest])
    assert states(timed, 40) == {"done": 40}


def test_resume_lets_one_job_probe_and_kills_none(timed: Ledger) -> None:
    jobs(timed, *range(40))
    fail_all(timed)
    Control(timed, ANN, lambda _: None).resume(MAIL)
    (probe,) = claim(timed, n=50)
    timed.exchange_jobs(MAIL, [dead(probe)])
    assert states(timed, 40) == {"dead": 20, "owed": 20}
    assert lane(timed).cause == "setting"


def test_a_pause_stays_a_pause_whatever_is_tried_again(timed: Ledger) -> None:
    jobs(timed, *range(30))
    fail_all(timed)
    operator = Control(timed, ANN, lambda _: None)
    operator.pause(MAIL)
    assert operator.retry(f"{SOURCE}:mail0:mail").done
    assert claim(timed, n=50) == []


def test_a_success_between_begins_the_count_anew(timed: Ledger) -> None:
    jobs(timed, *range(60))
    for _ in range(3):
        claimed = claim(timed, n=20)
        timed.exchange_jobs(MAIL, [dead(held) for held in claimed[:19]])
        timed.exchange_jobs(MAIL, [done(claimed[19])])
    assert states(timed, 60) == {"dead": 57, "done": 3}
    assert lane(timed).cause is None


def test_failures_that_are_settled_together_with_a_success_are_the_jobs_own(timed: Ledger) -> None:
    jobs(timed, *range(50))
    claimed = claim(timed, n=50)
    timed.exchange_jobs(MAIL, [*(dead(held) for held in claimed[:40]), *(done(held) for held in claimed[40:])])
    assert states(timed, 50) == {"dead": 40, "done": 10}
    assert lane(timed).cause is None


def test_two_settings_that_are_wrong_at_once_are_told_apart(timed: Ledger) -> None:
    jobs(timed, *range(100))
    claimed = claim(timed, n=100)
    timed.exchange_jobs(MAIL, [dead(held, code=("400 A", "400 B")[place % 2]) for place, held in enumerate(claimed)])
    # 20 of the first code, and of the second those before and at most 20
    assert 39 <= states(timed, 100)["dead"] <= 40


def test_jobs_that_die_of_what_is_theirs_alone_hold_nothing(timed: Ledger) -> None:
    jobs(timed, *range(50))
    timed.exchange_jobs(MAIL, [dead(held, code=None) for held in claim(timed, n=50)])
    assert states(timed, 50) == {"dead": 50}
    assert lane(timed).cause is None


def test_codes_that_all_differ_hold_nothing(timed: Ledger) -> None:
    jobs(timed, *range(100))
    timed.exchange_jobs(MAIL, [dead(held, code=f"400 {place}") for place, held in enumerate(claim(timed, n=100))])
    assert states(timed, 100) == {"dead": 100}


@pytest.mark.parametrize("cause", ["credential", "setting"])
def test_after_a_refused_credential_one_job_probes_and_not_all(timed: Ledger, clock: Clock, cause: str) -> None:
    jobs(timed, *range(30))
    first = claim(timed, n=1)[0]
    hold = Hold(seconds=60, cause=cause, reason="401")  # type: ignore[arg-type]
    release(timed, first, hold=hold, text="401")
    # When the hold is over, one job alone asks whether it was mended
    clock.pass_(60)
    (probe,) = claim(timed, n=30)
    assert claim(timed, n=30) == []
    assert (lane(timed).cause, lane(timed).reason) == (cause, "401")
    # It was not: the lane is held again, and nothing was counted
    release(timed, probe, hold=hold, text="401")
    clock.pass_(60)
    (probe,) = claim(timed, n=30)
    assert probe.attempts == 0
    # Now it was
    timed.exchange_jobs(MAIL, [done(probe)])
    assert len(claim(timed, n=30)) == 29


def test_a_vendor_that_judges_a_job_takes_the_credential(timed: Ledger, clock: Clock) -> None:
    jobs(timed, *range(10))
    release(timed, claim(timed, n=1)[0], hold=Hold(seconds=60, cause="credential", reason="401"), text="401")
    clock.pass_(60)
    (probe,) = claim(timed, n=10)
    timed.exchange_jobs(MAIL, [dead(probe)])
    assert len(claim(timed, n=10)) == 9


def test_a_probe_whose_worker_is_lost_is_taken_up_again(timed: Ledger, clock: Clock) -> None:
    jobs(timed, *range(30))
    fail_all(timed)
    clock.pass_(300)
    (probe,) = claim(timed, n=30)
    # Its lease expires while the lane is held; after the hold another job probes
    clock.pass_(300)
    (again,) = claim(timed, n=30)
    timed.exchange_jobs(MAIL, [done(again)])
    keys = {held.key for held in claim(timed, n=30)}
    assert len(keys) == 9
    assert again.key == probe.key or probe.key in keys
