"""Drains and the keeper in this process, on a real ledger: what happens when something fails between two lines."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs
from worker.keeper import Keeper, finish
from worker.performing import perform, perform_suspect
from worker.processing import process, process_suspect
from worker.runtime import Runtime

from tests.kinds import marks
from tests.stack import JOINED, wait_for
from tiercast.config import load_config
from tiercast.embedded import EmbeddedServer
from tiercast.errors import LedgerError, LedgerUnavailable
from tiercast.ids import new_delivery_id
from tiercast.ledger.reading import Filter, Reader
from tiercast.ringer import BellRinger
from tiercast.samples import envelope, sample_data
from tiercast.settings import load_settings
from worker import desk as desk_module

CONFIG = """
[sources.voucherify]
secrets = ["env:TIERCAST_TEST_SECRET"]

[actions.one]
kind = "tests.kinds:Scripted"
effects = "{effects}"
behaviour = "{{{{ event.customer.name }}}}"
seconds = 0.5
backoff = 0.01
timeout = 1

[actions.two]
kind = "tests.kinds:Bulk"
effects = "{effects}2"

[[rules]]
on = "*"
do = ["one", "two"]
"""

LANE = "deliveries/voucherify"


class Works:
    """A worker's process, as far as this process can be one."""

    def __init__(self, folder: Path, url: str) -> None:
        (folder / "tiercast.toml").write_text(CONFIG.format(effects=folder / "effects"))
        environ = {
            "TIERCAST_CONFIG": str(folder / "tiercast.toml"),
            "TIERCAST_REDIS_URL": url,
            "TIERCAST_LEASE": "2",
        }
        settings = load_settings(environ)
        self.runtime = Runtime.build(settings, load_config(settings))
        self.rung: list[str] = []
        self.runtime.ringer = BellRinger(self.rung.append)
        self.reader = Reader(self.runtime.ledger, self.runtime.digests)
        self.effects = folder / "effects"
        self.one, self.two = (self.runtime.desks[f"jobs/{name}"] for name in ("one", "two"))

    def record(self, *behaviours: str) -> list[str]:
        """Store events whose jobs behave like this; returns the delivery ids."""
        rows = []
        for behaviour in behaviours:
            body = json.dumps(envelope(JOINED, sample_data(name=behaviour))).encode()
            rows.append(("voucherify", new_delivery_id(), body))
        self.runtime.ledger.record(rows)
        return [row[1] for row in rows]

    def states(self, action: str = "one") -> Counter[str]:
        return Counter(str(job.state) for job in self.reader.jobs(Filter(action=action)))

    def held(self) -> int:
        return sum(lane.held for lane in self.reader.lanes())


@pytest.fixture
def works(
    tmp_path: Path, server: EmbeddedServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Works]:
    monkeypatch.setenv("TIERCAST_TEST_SECRET", "a-secret-of-tests")
    works = Works(tmp_path, server.url)
    yield works
    wait_for(lambda: not any(desk._running for desk in works.runtime.desks.values()))
    works.runtime.ringer.close()
    works.runtime.ledger.client.close()


def fail_once(
    monkeypatch: pytest.MonkeyPatch, works: Works, name: str, *, when: Callable[..., bool], late: bool
) -> None:
    """Have the ledger's next matching call fail for good; `late`: after it was carried out."""
    call = getattr(works.runtime.ledger, name)
    failed = threading.Event()

    def failing(*args: Any, **options: Any) -> Any:
        if failed.is_set() or not when(*args, **options):
            return call(*args, **options)
        failed.set()
        if late:
            call(*args, **options)
        raise LedgerUnavailable("the ledger does not answer")

    monkeypatch.setattr(works.runtime.ledger, name, failing)


def settles(_name: str, what: Any = (), *_: Any, **__: Any) -> bool:
    return bool(what)


def test_a_drain_of_deliveries_and_drains_of_jobs(works: Works) -> None:
    works.record(*["done"] * 5, "permanent")

    assert process(works.runtime, LANE) == {"claimed": 6, "processed": 6}
    wait_for(lambda: {"jobs/one", "jobs/two"} <= set(works.rung), seconds=5)
    counts = Counter(perform(works.runtime, "jobs/one")) + Counter(perform(works.runtime, "jobs/two"))
    Keeper(works.runtime).tick()
    wait_for(lambda: works.one.is_idle() and works.two.is_idle())
    Keeper(works.runtime).tick()

    assert counts["claimed"] == 12
    assert works.states("one") == {"done": 5, "dead": 1}
    assert works.states("two") == {"done": 6}
    assert works.held() == 0
    assert process(works.runtime, LANE) == perform(works.runtime, "jobs/one") == {"claimed": 0}


@pytest.mark.parametrize("late", [False, True], ids=["request lost", "answer lost"])
def test_a_verdict_whose_settling_failed_is_settled_by_the_keeper(
    works: Works, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    works.record("done", "done")
    process(works.runtime, LANE)
    fail_once(monkeypatch, works, "jobs", when=settles, late=late)

    with pytest.raises(LedgerUnavailable):
        perform(works.runtime, "jobs/one")
    assert not works.one.is_idle()
    wait_for(lambda: works.one.running() == 0)
    Keeper(works.runtime).tick()

    assert works.one.is_idle()
    assert works.states() == {"done": 2}
    assert len(marks(works.effects)) == 2


@pytest.mark.parametrize("late", [False, True], ids=["request lost", "answer lost"])
def test_deliveries_are_settled_after_a_short_absence_of_the_ledger(
    works: Works, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    deliveries = works.record("done", "done")
    fail_once(monkeypatch, works, "deliveries", when=settles, late=late)

    assert process(works.runtime, LANE)["claimed"] == 2

    assert [works.reader.delivery(d).state for d in deliveries] == ["processed"] * 2  # type: ignore[union-attr]
    assert works.states() == {"owed": 2}
    assert works.held() == 0


def test_jobs_whose_claim_was_lost_for_good_are_performed_when_their_lease_ends(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a claim that the ledger carried out and nobody heard of
    works.record("done", "done")
    process(works.runtime, LANE)
    fail_once(monkeypatch, works, "jobs", when=lambda *_, **__: True, late=True)
    with pytest.raises(LedgerUnavailable):
        perform(works.runtime, "jobs/one")
    assert works.states() == {"owed": 2}
    assert marks(works.effects) == []

    # When their lease ends, each is performed alone
    wait_for(lambda: perform_suspect(works.runtime, "jobs/one").taken, seconds=10)
    assert perform_suspect(works.runtime, "jobs/one").taken
    assert not perform_suspect(works.runtime, "jobs/one").taken

    assert works.states() == {"done": 2}
    assert len(marks(works.effects)) == 2


def test_an_ordinary_drain_passes_suspects_over_and_has_them_seen_to(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside: list[str] = []
    monkeypatch.setattr("worker.processing.see_to_suspects", lambda _, lane: aside.append(lane))
    (first,) = works.record("done")
    fail_once(monkeypatch, works, "deliveries", when=lambda *_, **__: True, late=True)
    with pytest.raises(LedgerUnavailable):
        process(works.runtime, LANE)
    wait_for(lambda: process(works.runtime, LANE) == {"claimed": 0} and aside, seconds=10)
    works.record("done")
    assert process(works.runtime, LANE) == {"claimed": 1, "processed": 1}

    assert aside[-1] == LANE
    assert process_suspect(works.runtime, LANE).taken
    assert not process_suspect(works.runtime, LANE).taken
    assert works.reader.delivery(first).state == "processed"  # type: ignore[union-attr]


def test_leases_of_what_runs_long_are_renewed(works: Works) -> None:
    # Given a job that takes longer than a lease lasts from now on
    works.record("slow")
    process(works.runtime, LANE)
    keeper = Keeper(works.runtime)
    perform(works.runtime, "jobs/one")
    lease = works.runtime.ledger.client.zscore("tc:held:jobs/one", works.one.held()[0][0])
    keeper._renewed = 0.0

    keeper.tick()

    renewed = works.runtime.ledger.client.zscore("tc:held:jobs/one", works.one.held()[0][0])
    assert renewed is not None
    assert lease is not None
    assert renewed > lease


def test_a_lane_that_the_ledger_cannot_serve_does_not_hold_up_the_others(works: Works) -> None:
    # Given two actions with something to settle, and a key of the first that holds nonsense
    works.record("slow")
    process(works.runtime, LANE)
    perform(works.runtime, "jobs/one")
    works.runtime.ledger.client.set("tc:lease:jobs/one", "nonsense")
    wait_for(lambda: works.one.running() == 0)
    with works.two.draining():
        perform(works.runtime, "jobs/two")
    with capture_logs() as logs:
        Keeper(works.runtime).tick()
        wait_for(lambda: works.two.running() == 0)
        Keeper(works.runtime).tick()

    assert not works.one.is_idle(), "it is kept for when the ledger is put right"
    works.runtime.ledger.client.delete("tc:lease:jobs/one")
    assert works.states("two") == {"done": 1}
    assert "desk.not_settled" in [line["event"] for line in logs]


def test_a_process_with_a_job_that_cannot_be_ended_settles_the_others_and_leaves(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job that runs past its time-out, and one that runs and is not
    monkeypatch.setattr(desk_module, "grace_of", lambda spec: 1.0 if spec.name == "one" else 60.0)
    works.record("doze", "done")
    process(works.runtime, LANE)
    left = threading.Event()
    keeper = Keeper(works.runtime, leave=left.set)
    perform(works.runtime, "jobs/one")
    wait_for(lambda: marks(works.effects), seconds=10)

    def ticked() -> bool:
        keeper.tick()
        return left.is_set()

    wait_for(ticked, seconds=20)

    # Then the other is settled, nothing more is claimed, and the lease of the stuck one is left to end
    assert works.states() == {"done": 1, "owed": 1}
    assert works.one.claim("t") is None
    assert works.one.held() == []


@pytest.mark.parametrize("behaviour", ["slow", "done"])
def test_a_process_that_ends_settles_what_runs_and_hands_back_the_rest(works: Works, behaviour: str) -> None:
    works.record(*[behaviour] * 30)
    process(works.runtime, LANE)
    perform(works.runtime, "jobs/one")
    assert works.one.running() or behaviour == "done"

    finish(works.runtime, 10.0)

    assert works.held() == 0
    assert works.states()["done"] == len(marks(works.effects))
    assert works.states().total() == 30


def have_one_done(works: Works) -> None:
    """Perform one job to its end, and leave it to be settled."""
    works.record("slow")
    process(works.runtime, LANE)
    perform(works.runtime, "jobs/one")
    wait_for(lambda: works.one.running() == 0)


def test_a_process_does_not_end_in_the_midst_of_the_keepers_settling(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a keeper whose round trip takes a while
    have_one_done(works)
    call, under_way = works.runtime.ledger.jobs, threading.Event()

    def slowly(*args: Any, **options: Any) -> Any:
        under_way.set()
        time.sleep(0.5)
        return call(*args, **options)

    monkeypatch.setattr(works.runtime.ledger, "jobs", slowly)
    keeper = threading.Thread(target=Keeper(works.runtime).tick)
    keeper.start()
    assert under_way.wait(10)

    finish(works.runtime, 5.0)

    assert works.states() == {"done": 1}
    keeper.join()


def test_a_process_that_ends_while_the_ledger_is_away_waits_for_it_within_its_grace(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job that was done, and a ledger that is away for a moment
    have_one_done(works)
    call, tries = works.runtime.ledger.jobs, []

    def away(*args: Any, **options: Any) -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise LedgerUnavailable("away")
        return call(*args, **options)

    monkeypatch.setattr(works.runtime.ledger, "jobs", away)

    finish(works.runtime, 10.0)

    # Then it is settled, so nobody does it again
    assert works.states() == {"done": 1}


def test_the_keeper_goes_on_after_a_fault(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    works.record("slow")
    process(works.runtime, LANE)
    fail_once(monkeypatch, works, "jobs", when=settles, late=False)
    perform(works.runtime, "jobs/one")
    Keeper(works.runtime).start()

    wait_for(lambda: works.states() == {"done": 1}, seconds=10)
    assert issubclass(LedgerUnavailable, LedgerError)
