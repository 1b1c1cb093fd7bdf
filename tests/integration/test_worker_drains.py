"""A worker's process within this one, on a real ledger: what happens when something fails between two lines."""

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

from tests.kinds import marks
from tests.stack import JOINED, SECRET, wait_for
from tiercast.config import load_config
from tiercast.embedded import EmbeddedServer
from tiercast.errors import LedgerUnavailable
from tiercast.ids import new_delivery_id
from tiercast.ledger import new_token
from tiercast.ledger.model import Claim
from tiercast.ledger.reading import Filter, Reader
from tiercast.ringer import BellRinger
from tiercast.samples import envelope, sample_data
from tiercast.settings import load_settings
from worker.process import WorkerProcess
from worker.supervision.heartbeat import Heartbeat
from worker.threads import Threads

CONFIG = """
[sources.voucherify]
secrets = ["env:TIERCAST_TEST_SECRET"]

[actions.one]
kind = "tests.kinds:Scripted"
effects = "{effects}-one"
behaviour = "{{{{ event.customer.name }}}}"
seconds = 0.5
backoff = 0.01
timeout = 1

[actions.two]
kind = "tests.kinds:Bulk"
effects = "{effects}-two"

[actions.three]
kind = "tests.kinds:Async"
effects = "{effects}-three"
behaviour = "{{{{ event.customer.name }}}}"
seconds = 1
backoff = 0.01
timeout = 2

[actions.elsewhere]
kind = "tests.kinds:Scripted"
effects = "{effects}-elsewhere"
queue = "slow"

[[rules]]
on = "*"
do = ["one", "two", "three", "elsewhere"]
"""

LANE = "deliveries/voucherify"
HERE = ("one", "two", "three")


class Works:
    """A worker's process, as far as this process can be one. It consumes the queue `tiercast` only."""

    def __init__(self, folder: Path, url: str) -> None:
        (folder / "tiercast.toml").write_text(CONFIG.format(effects=folder / "effects"))
        environ = {
            "TIERCAST_CONFIG": str(folder / "tiercast.toml"),
            "TIERCAST_REDIS_URL": url,
            "TIERCAST_LEASE": "2",
        }
        self._folder = folder
        self.settings = load_settings(environ)
        self.config = load_config(self.settings)
        self.rung: list[str] = []
        self.left = threading.Event()
        self._made: list[WorkerProcess] = []
        self.current = self.make()
        self.ledger = self.current.ledger
        self.reader = Reader(self.ledger, self.current.digests)

    def make(self, *, isolated: bool = False) -> WorkerProcess:
        """Make and start a process; giving up sets `left` instead of ending this process."""
        made = WorkerProcess(self.settings, self.config, queues=frozenset({"tiercast"}), isolated=isolated)
        made.ringer = BellRinger(self.rung.append)
        drains = list(made.actions.values()), list(made.intakes.values())
        made.heartbeat = Heartbeat(made.ledger, *drains, Threads("test"), leave=self.left.set)
        made.start()
        self._made.append(made)
        return made

    def stop(self, made: WorkerProcess, grace: float = 3.0) -> None:
        """Stop a process that was made here."""
        self._made.remove(made)
        made.stop(grace)

    def close(self) -> None:
        for made in list(self._made):
            self.stop(made)

    def hear_due(self) -> None:
        """Hear the bells that a timer would ring now."""
        for lane in self.ledger.due([LANE, *(f"jobs/{name}" for name in HERE)]).bells:
            self.current.hear(lane)

    def record(self, *behaviours: str) -> list[str]:
        """Store events whose jobs behave like this; returns the delivery ids."""
        rows = []
        for behaviour in behaviours:
            body = json.dumps(envelope(JOINED, sample_data(name=behaviour))).encode()
            rows.append(("voucherify", new_delivery_id(), body))
        self.ledger.record(rows)
        return [row[1] for row in rows]

    def plan(self, *behaviours: str) -> list[str]:
        """Store and plan events, with all lanes of jobs at rest; returns the delivery ids."""
        for name in HERE:
            self.ledger.operate("pause", lane=f"jobs/{name}", reason="a test")
        ids = self.record(*behaviours)
        self.current.hear(LANE)
        wait_for(lambda: self.states().total() >= len(behaviours), seconds=10)
        for name in HERE:
            self.ledger.operate("resume", lane=f"jobs/{name}")
        return ids

    def states(self, action: str = "one") -> Counter[str]:
        return Counter(str(job.state) for job in self.reader.jobs(Filter(action=action)))

    def wait_until(self, action: str = "one", *, seconds: float = 20.0, **states: int) -> None:
        try:
            wait_for(lambda: self.states(action) == states, seconds=seconds)
        except AssertionError:
            assert self.states(action) == states

    def held(self) -> int:
        return sum(lane.held for lane in self.reader.lanes())

    def effects(self, action: str = "one", what: str = "effect") -> list[str]:
        return [mark.key for mark in marks(self._folder / f"effects-{action}", what)]


@pytest.fixture
def works(
    tmp_path: Path, server: EmbeddedServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Works]:
    monkeypatch.setenv("TIERCAST_TEST_SECRET", SECRET)
    works = Works(tmp_path, server.url)
    yield works
    works.close()


def fail_once(
    monkeypatch: pytest.MonkeyPatch, works: Works, name: str, *, when: Callable[..., bool], late: bool
) -> threading.Event:
    """Have the ledger's next matching call fail for good; `late`: after it was carried out. Returns when it has."""
    call = getattr(works.ledger, name)
    failed = threading.Event()

    def failing(*args: Any, **options: Any) -> Any:
        if failed.is_set() or not when(*args, **options):
            return call(*args, **options)
        failed.set()
        if late:
            call(*args, **options)
        raise LedgerUnavailable("the ledger does not answer")

    monkeypatch.setattr(works.ledger, name, failing)
    return failed


def settles(name: str, what: Any = (), *_: Any, **__: Any) -> bool:
    return bool(what) and name in ("voucherify", "jobs/one")


def claims_jobs(name: str, _what: Any = (), claim: Claim | None = None, **__: Any) -> bool:
    return name == "jobs/one" and claim is not None and claim.n > 0


def test_what_was_planned_is_performed_by_the_same_process_without_a_bell(works: Works) -> None:
    works.record(*["done"] * 5, "permanent")

    counts = Counter[str]()
    jobs = Counter[str]()

    def heard() -> bool:
        for name, count in works.current.hear(LANE).items():
            if isinstance(count, dict):
                jobs.update(count)
            elif count:
                counts[name] += count
        return jobs["claimed"] >= 18 and jobs["done"] + jobs["dead"] == 18

    wait_for(heard, seconds=20)
    assert counts == {"claimed": 6, "processed": 6}
    assert jobs == {"claimed": 18, "done": 16, "dead": 2}
    assert works.states("one") == works.states("three") == {"done": 5, "dead": 1}
    assert works.states("two") == {"done": 6}

    # The action of a queue that is not consumed here was rung for
    wait_for(lambda: works.rung, seconds=10)
    assert "jobs/elsewhere" in works.rung, "it may ring for help with its own lanes too"
    assert works.states("elsewhere") == {"owed": 6}
    assert works.held() == 0
    assert works.current.hear(LANE) == works.current.hear("jobs/one") == {"claimed": 0}


@pytest.mark.parametrize("late", [False, True], ids=["request lost", "answer lost"])
def test_outcomes_whose_settling_failed_are_settled_later(
    works: Works, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    failed = fail_once(monkeypatch, works, "exchange_jobs", when=settles, late=late)
    works.record("done", "done")
    works.current.hear(LANE)

    works.wait_until(done=2)

    assert failed.is_set()
    assert len(works.effects()) == 2
    wait_for(lambda: works.held() == 0)


@pytest.mark.parametrize("late", [False, True], ids=["request lost", "answer lost"])
def test_deliveries_are_settled_after_a_short_absence_of_the_ledger(
    works: Works, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    failed = fail_once(monkeypatch, works, "exchange_deliveries", when=settles, late=late)
    deliveries = works.record("done", "done")
    works.current.hear(LANE)

    def all_done() -> bool:
        works.hear_due()  # the bells went with a lost answer
        return works.states() == {"done": 2}

    wait_for(all_done, seconds=20)
    assert failed.is_set()
    assert [works.reader.delivery(d).state for d in deliveries] == ["processed"] * 2  # type: ignore[union-attr]
    assert len(works.effects()) == 2


def test_jobs_whose_claim_was_lost_for_good_are_performed_when_their_lease_ends(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a claim that the ledger carried out and nobody heard of
    works.plan("done", "done")
    failed = fail_once(monkeypatch, works, "exchange_jobs", when=claims_jobs, late=True)
    works.current.hear("jobs/one")
    assert failed.wait(10)
    assert works.states() == {"owed": 2}
    assert works.effects() == []

    # When bells come until their lease has ended
    def heard() -> bool:
        works.current.hear("jobs/one")
        return works.states() == {"done": 2}

    wait_for(heard, seconds=10)

    assert len(works.effects()) == 2


def lose_lease(works: Works, times: int) -> None:
    """Have all due jobs of the action `one` lose their lease twice or more."""
    for time_ in range(times):

        def taken(isolated: bool = time_ >= 2) -> bool:
            claim = Claim(token=new_token(), n=10, isolated=isolated)
            return bool(works.ledger.exchange_jobs("jobs/one", claim=claim).claimed)

        wait_for(taken, seconds=10)

    def counted() -> bool:
        works.ledger.exchange_jobs("jobs/one", claim=Claim(token=new_token(), n=0))
        return bool(works.ledger.due(["jobs/one"]).isolated)

    wait_for(counted, seconds=10)


def test_a_job_that_lost_two_leases_is_passed_over_and_performed_in_isolation(works: Works) -> None:
    works.plan("done")
    lose_lease(works, 2)
    works.plan("done", "done")

    # Then an ordinary process does the others, and is not called again and again for that one
    works.current.hear("jobs/one")
    works.wait_until(done=2, owed=1)
    assert works.current.hear("jobs/one") == {"claimed": 0}
    assert works.ledger.exchange_jobs("jobs/one", claim=Claim(token=new_token(), n=10, heard=True)).bells == []

    # and one that is made for it that one, and nothing else
    works.plan("done")
    isolated = works.make(isolated=True)
    isolated.hear("jobs/one")
    works.wait_until(done=3, owed=1)
    assert len(set(works.effects())) == 3


def test_leases_of_what_runs_long_are_renewed(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a job that takes longer than its lease of two seconds lasts
    monkeypatch.setattr(works.ledger, "lease", 1.0)
    fresh = works.make()
    monkeypatch.setattr(fresh.ledger, "lease", 1.0)
    works.plan("doze")

    fresh.hear("jobs/one")
    wait_for(lambda: works.effects(what="begin"), seconds=10)
    token = _held_since(works)
    wait_for(lambda: (_held_since(works) or 0) > (token or 0) + 1000, seconds=10)

    assert len(works.effects(what="begin")) == 1


def _held_since(works: Works) -> float | None:
    """When the lease of the job that is held ends, in ms."""
    rows = works.ledger.client.zrange(works.ledger.key("held:jobs/one"), 0, -1, withscores=True)
    return float(rows[0][1]) if rows else None


def test_a_lane_that_the_ledger_cannot_serve_does_not_hold_up_the_others(works: Works) -> None:
    # Given a key of one lane that holds nonsense
    works.plan("done")
    works.ledger.client.set("tc:lease:jobs/one", "nonsense")

    for name in HERE:
        works.current.hear(f"jobs/{name}")

    wait_for(lambda: works.effects("two") and works.effects("three"), seconds=10)
    works.ledger.client.delete("tc:lease:jobs/one")
    works.wait_until("two", done=1)
    works.wait_until("three", done=1)

    def one_is_done() -> bool:
        works.hear_due()
        return works.states() == {"done": 1}

    wait_for(one_is_done, seconds=20)


@pytest.mark.parametrize("behaviour", ["half-character", "half-halt"])
def test_half_a_character_in_a_vendors_message_keeps_nobody_from_settling(works: Works, behaviour: str) -> None:
    works.record(*["done"] * 5, behaviour, *["done"] * 5)
    works.current.hear(LANE)

    if behaviour == "half-halt":
        wait_for(lambda: "is wrong" in (_lane(works).reason or ""), seconds=10)
        wait_for(lambda: works.held() == 0)
        works.ledger.operate("resume", lane="jobs/one")
    works.current.hear("jobs/one")
    wait_for(lambda: works.states()["done"] == 10, seconds=20)
    for action in ("one", "three"):
        assert len(set(works.effects(action))) == len(works.effects(action))
    if behaviour == "half-character":
        works.wait_until(done=10, dead=1)
        (dead,) = works.reader.jobs(Filter(action="one", state="dead"))
        assert "a reason with half a character" in (dead.text or "")


def _lane(works: Works) -> Any:
    return next(lane for lane in works.reader.lanes() if lane.name == "jobs/one")


def test_a_process_with_a_job_that_cannot_be_ended_settles_the_others_and_leaves(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a plain job that runs past its time-out, and one that runs and does not
    monkeypatch.setattr("worker.process.overdue_after", lambda spec: 1.0 if spec.name == "one" else 60.0)
    fresh = works.make()
    works.plan("doze", "done")
    for name in HERE:
        fresh.hear(f"jobs/{name}")

    assert works.left.wait(20)

    # Then the others are settled, nothing more is claimed, and the lease of the stuck one is left to expire
    assert works.states() == {"done": 1, "owed": 1}
    assert works.states("two") == {"done": 2}
    assert fresh.actions["jobs/one"].executor.capacity() == 0
    assert fresh.actions["jobs/one"].executor.leases.to_renew() == []


def test_a_process_that_gives_up_leaves_also_where_its_stuck_job_ends_after_all(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job that ends late, while another still runs: the process claims nothing any more by then
    monkeypatch.setattr("worker.process.overdue_after", lambda spec: 0.1 if spec.name == "one" else 60.0)
    fresh = works.make()
    works.plan("slow")
    fresh.hear("jobs/three")
    fresh.hear("jobs/one")

    assert works.left.wait(20)

    assert works.states("three") == {"done": 1}


@pytest.mark.parametrize("behaviour", ["slow", "done", "hang"])
def test_a_process_that_ends_settles_what_runs_and_gives_back_the_rest(works: Works, behaviour: str) -> None:
    works.plan(*[behaviour] * 30)
    fresh = works.make()
    for name in HERE:
        fresh.hear(f"jobs/{name}")
    if behaviour != "done":
        wait_for(lambda: works.effects("three", "begin"), seconds=10)

    works.stop(fresh, 3.0)

    assert works.held() == 0
    for name in ("one", "three"):
        assert works.states(name)["done"] == len(works.effects(name))
        assert works.states(name).total() == 30


def test_no_drain_of_a_process_that_has_ended_goes_on(works: Works) -> None:
    # Given more jobs than a process claims at a time
    works.plan(*["slow"] * 300)
    fresh = works.make()
    drain = fresh.actions["jobs/one"]
    fresh.hear("jobs/one")
    wait_for(lambda: works.effects(what="begin"), seconds=10)

    works.stop(fresh, 3.0)

    # Then its drain has ended, though more is due
    assert not drain.is_running
    assert works.states("one")["owed"] > 0


def have_one_done(works: Works) -> WorkerProcess:
    """Perform one job that nobody settles before its process ends."""
    fresh = works.make()
    fresh.heartbeat.stop()
    works.plan("slow")
    fresh.hear("jobs/one")
    wait_for(lambda: works.effects(what="begin"), seconds=10)
    return fresh


def test_a_process_does_not_end_in_the_midst_of_an_exchange(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an exchange that takes a while
    fresh = have_one_done(works)
    call, under_way = fresh.ledger.exchange_jobs, threading.Event()

    def slowly(*args: Any, **options: Any) -> Any:
        under_way.set()
        time.sleep(0.5)
        return call(*args, **options)

    monkeypatch.setattr(fresh.ledger, "exchange_jobs", slowly)
    assert under_way.wait(10)

    works.stop(fresh, 5.0)

    assert works.states() == {"done": 1}
    assert works.held() == 0


def test_a_process_that_ends_while_the_ledger_is_away_waits_for_it_within_its_grace(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job that was done, and a ledger that is away for a moment
    fresh = have_one_done(works)
    call, tries = fresh.ledger.exchange_jobs, []

    def away(*args: Any, **options: Any) -> Any:
        tries.append(1)
        if len(tries) < 4:
            raise LedgerUnavailable("away")
        return call(*args, **options)

    monkeypatch.setattr(fresh.ledger, "exchange_jobs", away)

    works.stop(fresh, 10.0)

    # Then it is settled, so nobody does it again
    assert works.states() == {"done": 1}


def test_the_heartbeat_settles_what_no_drain_does(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a drain that ends by a fault while its job runs
    fresh = works.make()
    works.plan("slow")
    drain = fresh.actions["jobs/one"]
    exchange, failed = drain.outbox.exchange, threading.Event()

    def faulty(claim: Claim | None) -> Any:
        if works.effects(what="begin") and not failed.is_set():
            failed.set()
            raise ValueError("a fault of ours")
        return exchange(claim)

    monkeypatch.setattr(drain.outbox, "exchange", faulty)
    fresh.hear("jobs/one")

    works.wait_until(done=1, seconds=10)
    assert failed.is_set()
    assert len(works.effects()) == 1
