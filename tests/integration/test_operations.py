"""Operations: chosen, counted, tried, carried out step by step, exactly once whatever dies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.filing import file_all
from tests.integration.test_cli_ledger import SOURCE, Story, environ, story
from tests.operators import ANN
from tests.stack import wait_for
from tiercast.control import AuditLog, Control
from tiercast.control.verbs import DROP, REDO, REPLAY, REPLAY_AGAIN, RESOLVE_RETRY, RETRY
from tiercast.errors import LedgerUnavailable
from tiercast.history.store import History
from tiercast.ledger import Ledger, keys, new_token
from tiercast.ledger.filing import start_filing
from tiercast.ledger.model import Claim, HeldOperation, Outcome
from tiercast.ledger.reading import Filter, Reader
from tiercast.ledger.states import DeliveryState
from tiercast.operations.model import BulkRequest, Operation, OperationState
from tiercast.operations.requests import OperationRefused, Operations
from tiercast.operations.runner import Runner

__all__ = ["environ", "story"]


def key(event: str, action: str = "mail") -> str:
    return f"{SOURCE}:{event}:{action}"


class Bench:
    """Operations of a ledger, and a process that works on them."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.ledger = story.ledger
        self.reader = Reader(story.ledger, story.digests)
        self.rung: list[str] = []
        self.operations = Operations(story.ledger, self.reader, self.rung.extend)
        self.runner = Runner(story.ledger, self.reader)

    def file_into(self, history: History) -> None:
        """Have all that is settled filed, now and from now on looked up in this history."""
        self.reader = Reader(self.ledger, self.story.digests, lambda: history.reading)
        self.operations = Operations(self.ledger, self.reader, self.rung.extend)
        self.runner = Runner(self.ledger, self.reader, lambda: history.reading)
        wait_for(lambda: not file_all(self.ledger, history) and not self.ledger.client.zcard("t:due:history"))

    def begin(self, request: BulkRequest) -> str:
        return self.operations.begin(request, ANN)

    def get(self, id: str) -> Operation:
        found = self.operations.get(id)
        assert found is not None
        return found

    def claim(self) -> HeldOperation | None:
        claimed = self.ledger.claim_operations(Claim(token=new_token(), n=1, cap=3)).claimed
        return claimed[0] if claimed else None

    def work(self, id: str, *, until: Callable[[Operation], bool] = lambda one: one.state.final) -> Operation:
        """Take steps until it is so far."""
        for _ in range(10_000):
            held = self.claim()
            while held is not None:
                over = self.runner.step(held).over
                if until(self.get(id)):
                    if not over:
                        self.runner.hand_back(held, 0)
                    return self.get(id)
                if over:
                    break
        raise AssertionError(f"it is still {self.get(id).state}")

    def dead(self, count: int, *, errors: int = 1, action: str = "mail", first: int = 0) -> list[str]:
        """So many dead jobs, with so many errors that differ in more than a number."""
        events = [f"evcus_{n:05}" for n in range(first, first + count)]
        for event in events:
            self.story.tell(event, action)
        while held := self.story.claim(action, 100):
            outcomes = [
                Outcome(job=job.key, token=job.token, verdict="dead", text=f"answered {401 + n % errors}: id {n}")
                for n, job in enumerate(held)
            ]
            self.ledger.exchange_jobs(keys.jobs_lane(action), outcomes)
        return [key(event, action) for event in events]

    def perform(self, verdict: str, *, text: str | None = None, action: str = "mail") -> int:
        """All jobs that are due end so; returns how many those were."""
        count = 0
        while held := self.story.claim(action, 100):
            outcomes = [
                Outcome(job=job.key, token=job.token, verdict=verdict, text=text, duration=0.01) for job in held
            ]
            self.ledger.exchange_jobs(keys.jobs_lane(action), outcomes)
            count += len(held)
        return count

    def states(self, **which: Any) -> Counter[str]:
        return Counter(str(job.state) for job in self.reader.jobs(Filter(**which)))


@pytest.fixture
def bench(story: Story) -> Bench:
    return Bench(story)


def retry_dead(**more: Any) -> BulkRequest:
    which = {
        name: more.pop(name) for name in list(more) if name in ("action", "error", "customer", "since_ms", "source")
    }
    return BulkRequest(verb=RETRY, which=Filter(state="dead", **which), subject="dead jobs", **more)


def test_all_that_match_are_retried_once_and_counted(bench: Bench) -> None:
    # Given 250 dead jobs, some of another action
    names = bench.dead(250)
    others = bench.dead(3, action="crm", first=900)

    # When those of one action are retried
    id = bench.begin(retry_dead(action="mail", why="mended", try_first=False))
    assert bench.rung == [keys.OPERATIONS]
    done = bench.work(id)

    # Then each is owed, and the tallies are exact
    assert done.state is OperationState.DONE
    assert (done.expected, done.seen, done.done, done.refused, done.refusals) == (250, 250, 250, 0, ())
    assert done.counts.by_state == {"dead": 250}
    assert done.counts.by_about == {"mail": 250}
    assert {job.key for job in bench.reader.jobs(Filter(state="owed"))} == set(names)
    assert bench.states(action="crm") == {"dead": len(others)}

    # and the audit log has the request as one entry
    (entry,) = AuditLog(bench.ledger).entries()
    assert (entry.actor, entry.verb, entry.subject, entry.why) == (ANN, "retry", "dead jobs", "mended")
    assert (entry.count, entry.refused, entry.result, entry.operation) == (250, 0, "done", id)


def test_what_dies_again_is_not_taken_again(bench: Bench) -> None:
    bench.dead(150)
    id = bench.begin(retry_dead(try_first=False))
    bench.work(id, until=lambda one: one.done == 100)
    assert bench.perform("dead", text="again") == 100
    done = bench.work(id)
    assert (done.seen, done.done) == (150, 150)
    assert bench.states() == {"dead": 100, "owed": 50}


def test_what_was_filed_is_brought_back_and_retried_once(bench: Bench, history: History) -> None:
    # Given dead jobs in the history, and others that are still in the ledger
    start_filing(bench.ledger)
    names = bench.dead(230)
    bench.file_into(history)
    assert bench.ledger.client.zcard("t:ix:j:dead") == 0
    names += bench.dead(20, first=500)

    # When a process carries the operation out until some of them died again, and were filed again
    id = bench.begin(retry_dead(why="mended", try_first=False))
    bench.work(id, until=lambda one: one.done >= 120)
    again = bench.perform("dead", text="again")
    bench.file_into(history)
    done = bench.work(id)

    # Then each was retried once, and the tallies are exact
    assert (done.expected, done.seen, done.done, done.refused) == (250, 250, 250, 0)
    assert {job.key for job in bench.reader.jobs(Filter(state="owed"))} | {
        job.key for job in bench.reader.jobs(Filter(state="dead"))
    } == set(names)
    assert bench.states() == {"dead": again, "owed": 250 - again}

    # and what became of those that were filed again is found
    bench.perform("done")
    bench.file_into(history)
    became = bench.operations.became(bench.get(id), history.reading)
    assert (became.by_state, became.gone) == ({"dead": again, "done": 250 - again}, 0)


def test_filed_deliveries_are_replayed_once(bench: Bench, history: History) -> None:
    start_filing(bench.ledger)
    for n in range(130):
        bench.story.tell(f"evcus_{n:05}")
    bench.file_into(history)
    assert bench.ledger.client.zcard("t:ix:d:ignored") == 0
    request = BulkRequest(
        verb=REPLAY, which=Filter(state=DeliveryState.IGNORED), subject="ignored", why="new rules", try_first=False
    )
    done = bench.work(bench.begin(request))
    assert (done.expected, done.seen, done.done, done.refused) == (130, 130, 130, 0)
    assert bench.ledger.client.zcard("t:due:deliveries/voucherify") == 130


def test_a_process_that_dies_anywhere_repeats_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an operation, of which each answer of the ledger is lost at first
    names = bench.dead(230)
    id = bench.begin(retry_dead(try_first=False))
    step = bench.ledger.step_operation
    lost: list[str] = []

    def losing(*args: Any, **kwargs: Any) -> Any:
        answer = step(*args, **kwargs)
        if len(lost) % 2 == 0:
            lost.append("lost")
            raise LedgerUnavailable("the answer was lost")
        lost.append("heard")
        return answer

    monkeypatch.setattr(bench.ledger, "step_operation", losing)

    # When the same step is taken again each time
    held = bench.claim()
    assert held is not None
    for _ in range(100):
        try:
            if bench.runner.step(held).over:
                break
        except LedgerUnavailable:
            continue

    # Then nothing was done or counted twice
    done = bench.get(id)
    assert lost.count("lost") >= 4
    assert (done.state, done.expected, done.seen, done.done) == (OperationState.DONE, 230, 230, 230)
    assert len(list(bench.reader.jobs(Filter(state="owed")))) == len(names)


def test_another_process_goes_on_after_the_lease_of_one_that_died(timed_bench: Bench, clock: Any) -> None:
    bench = timed_bench
    bench.dead(250)
    id = bench.begin(retry_dead(try_first=False))
    dead = bench.claim()
    assert dead is not None
    while bench.get(id).done < 100:
        bench.runner.step(dead)
    assert bench.claim() is None
    clock.pass_(31)
    done = bench.work(id)
    assert (done.state, done.done) == (OperationState.DONE, 250)
    # and the one that was taken for dead changes nothing any more
    assert bench.runner.step(dead).over
    assert bench.get(id).done == 250


def test_one_that_ends_its_process_each_time_is_stopped(timed_bench: Bench, clock: Any) -> None:
    bench = timed_bench
    bench.dead(3)
    id = bench.begin(retry_dead())
    for n in range(5):
        claim = Claim(token=new_token(), n=1, isolated=n > 1)
        assert bench.ledger.claim_operations(claim).claimed
        clock.pass_(31)
    assert not bench.ledger.claim_operations(Claim(token=new_token(), n=1, isolated=True)).claimed
    stopped = bench.get(id)
    assert stopped.state is OperationState.STOPPED
    assert "poison" in (stopped.reason or "")
    (entry,) = AuditLog(bench.ledger).entries()
    assert entry.result.startswith("stopped: poison")


def test_cancel_takes_effect_within_a_hundred(bench: Bench) -> None:
    bench.dead(350)
    id = bench.begin(retry_dead(try_first=False))
    held = bench.claim()
    assert held is not None
    while bench.get(id).done < 200:
        bench.runner.step(held)
    assert bench.operations.cancel(id, ANN, why="wrong ones").done
    assert bench.runner.step(held).over
    cancelled = bench.get(id)
    assert (cancelled.state, cancelled.done) == (OperationState.CANCELLED, 200)
    assert bench.states() == {"owed": 200, "dead": 150}
    assert bench.claim() is None
    assert bench.operations.cancel(id, ANN).text == "it is cancelled"
    assert bench.operations.cancel("op0", ANN).text == "there is no such operation"
    assert [entry.verb for entry in AuditLog(bench.ledger).entries()] == ["cancel", "cancel", "cancel", "retry"]


def test_one_that_waits_can_be_cancelled(bench: Bench) -> None:
    bench.dead(3)
    id = bench.begin(retry_dead())
    assert bench.operations.cancel(id, ANN).done
    assert bench.claim() is None
    assert bench.states() == {"dead": 3}


def test_a_pause_of_the_lane_stops_all_and_loses_nothing(bench: Bench) -> None:
    bench.dead(250)
    id = bench.begin(retry_dead(try_first=False))
    held = bench.claim()
    assert held is not None
    while bench.get(id).done < 100:
        bench.runner.step(held)
    Control(bench.ledger, ANN).pause(keys.OPERATIONS)
    assert bench.runner.step(held).over
    assert bench.claim() is None
    assert bench.get(id).done == 100
    Control(bench.ledger, ANN).resume(keys.OPERATIONS)
    assert bench.work(id).done == 250


class TestTrial:
    def begin(self, bench: Bench) -> tuple[str, list[str]]:
        bench.dead(120, errors=3)
        id = bench.begin(retry_dead())
        trying = bench.work(id, until=lambda one: one.tried is not None)
        assert trying.state is OperationState.TRYING
        return id, [one.name for one in trying.tried or ()]

    def test_five_are_tried_spread_over_the_errors(self, bench: Bench) -> None:
        _, tried = self.begin(bench)
        errors = Counter((bench.reader.job(name) or pytest.fail("gone")).text for name in tried)
        assert len(tried) == 5
        assert {job.key for job in bench.reader.jobs(Filter(state="owed"))} == set(tried)
        assert len(errors) <= 5

    def test_where_they_are_done_the_rest_follows_and_none_is_counted_twice(self, bench: Bench) -> None:
        id, _ = self.begin(bench)
        assert bench.perform("done") == 5
        done = bench.work(id)
        assert (done.state, done.seen, done.done, done.refused) == (OperationState.DONE, 120, 120, 0)
        assert bench.states() == {"done": 5, "owed": 115}

    def test_where_one_is_dead_again_the_rest_is_left_and_the_error_told(self, bench: Bench) -> None:
        id, tried = self.begin(bench)
        (first, *_) = bench.story.claim("mail", 1)
        bench.ledger.exchange_jobs(
            "jobs/mail", [Outcome(job=first.key, token=first.token, verdict="dead", text="answered 403")]
        )
        stopped = bench.work(id)
        assert stopped.state is OperationState.STOPPED
        assert stopped.reason == f"of those tried first, {first.key} is dead again: answered 403"
        assert stopped.done == 5
        assert first.key in tried
        assert bench.states() == {"owed": 4, "dead": 116}

        # and somebody who knows better lets it go on
        assert bench.operations.go_on(id, ANN).done
        done = bench.work(id)
        assert (done.state, done.done, done.seen) == (OperationState.DONE, 120, 120)

    def test_where_one_fails_with_the_same_error_the_rest_is_left(self, bench: Bench) -> None:
        id, _ = self.begin(bench)
        (first, *_) = bench.story.claim("mail", 1)
        before = bench.get(id).tried or ()
        (error,) = [one.error for one in before if one.name == first.key]
        text = (error or "").replace("<n>", "7")
        again = Outcome(job=first.key, token=first.token, verdict="later", wait=60, text=text, duration=1)
        bench.ledger.exchange_jobs("jobs/mail", [again])
        stopped = bench.work(id)
        assert stopped.state is OperationState.STOPPED
        assert "fails again with the same error" in (stopped.reason or "")

    def test_after_two_minutes_without_a_failure_the_rest_follows(self, timed_bench: Bench, clock: Any) -> None:
        bench = timed_bench
        id, _ = self.begin(bench)
        clock.pass_(60)
        held = bench.claim()
        assert held is not None
        assert bench.runner.step(held).over
        assert bench.get(id).state is OperationState.TRYING
        clock.pass_(70)
        assert bench.work(id).state is OperationState.DONE

    def test_few_are_not_tried_unless_asked_for(self, bench: Bench) -> None:
        bench.dead(20)
        id = bench.begin(retry_dead())
        assert bench.work(id).tried is None
        bench.perform("dead", text="answered 500")
        asked = bench.begin(retry_dead(try_first=True))
        assert len(bench.work(asked, until=lambda one: one.tried is not None).tried or ()) == 5


class TestVerbs:
    def test_drop_chooses_all_that_can_be_dropped(self, bench: Bench) -> None:
        bench.dead(3)
        bench.story.tell("evcus_owed", "mail")
        bench.story.tell("evcus_done", "crm")
        bench.perform("done", action="crm")
        id = bench.begin(BulkRequest(verb=DROP, which=Filter(source=SOURCE)))
        assert bench.work(id).done == 4
        assert bench.states() == {"skipped": 4, "done": 1}

    def test_resolve(self, bench: Bench) -> None:
        bench.story.tell("evcus_1", "points")
        bench.perform("uncertain", action="points", text="no answer")
        id = bench.begin(BulkRequest(verb=RESOLVE_RETRY, which=Filter(action="points")))
        assert bench.work(id).done == 1
        assert bench.states() == {"owed": 1}

    def test_redo_makes_one_more_round_and_leaves_alone_what_pays_again(self, bench: Bench) -> None:
        for n in range(3):
            bench.story.tell(f"evcus_{n}", "mail", "points")
        bench.perform("done")
        bench.perform("done", action="points")
        id = bench.begin(BulkRequest(verb=REDO, which=Filter(source=SOURCE), skip=("points",)))
        assert bench.work(id).done == 3
        assert {job.key for job in bench.reader.jobs(Filter(state="owed"))} == {
            key(f"evcus_{n}", "mail:r2") for n in range(3)
        }
        became = bench.operations.became(bench.get(id))
        assert became.by_state == {"owed": 3}

    def test_replay_of_what_is_in_quarantine(self, bench: Bench) -> None:
        ids = [bench.story.arrive() for _ in range(3)]
        for _ in ids:
            bench.story.settle(state=DeliveryState.QUARANTINED, reason="no type")
        id = bench.begin(BulkRequest(verb=REPLAY, which=Filter(state="quarantined")))
        assert bench.work(id).done == 3
        assert {info.id for info in bench.reader.deliveries(Filter(state="queued"))} == set(ids)
        bench.story.settle(state=DeliveryState.QUARANTINED, reason="no type, again")
        became = bench.operations.became(bench.get(id))
        assert became.by_state == {"queued": 2, "quarantined": 1}
        assert became.errors == {"no type, again": 1}

    def test_replay_again_makes_the_rounds_of_what_is_done(self, bench: Bench) -> None:
        for n in range(2):
            bench.story.tell(f"evcus_{n}", "mail", "points")
        bench.perform("done")
        bench.perform("done", action="points")
        id = bench.begin(BulkRequest(verb=REPLAY_AGAIN, which=Filter(source=SOURCE), skip=("points",)))
        assert bench.work(id).done == 2
        for n in range(2):
            token = new_token()
            (held,) = bench.ledger.exchange_deliveries(SOURCE, claim=Claim(token=token, n=1)).claimed
            assert held.again == 2, n
            assert bench.reader.delivery(held.id) is not None

    def test_named_ones_that_are_not_there_are_refused_with_their_names(self, bench: Bench) -> None:
        names = bench.dead(3)
        request = BulkRequest(verb=RETRY, names=(*names, "no:such:job", "nor:this:one"), subject="5 jobs")
        done = bench.work(bench.begin(request))
        assert (done.done, done.refused, done.seen) == (3, 2, 5)
        assert [(one.reason, one.count, one.names) for one in done.refusals] == [
            ("there is no such job", 2, ("no:such:job", "nor:this:one"))
        ]


def test_what_has_changed_since_is_left_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given one that was retried after the operation began, and another that is in the moment in which it is its turn
    names = bench.dead(4)
    id = bench.begin(retry_dead())
    control = Control(bench.ledger, ANN)
    bench.work(id, until=lambda one: one.state is OperationState.RUNNING)
    control.retry(names[0])
    bench.perform("dead", text="again")
    step = bench.ledger.step_operation

    def late(*args: Any, **kwargs: Any) -> Any:
        control.retry(names[1])
        return step(*args, **kwargs)

    monkeypatch.setattr(bench.ledger, "step_operation", late)

    # Then the first is not chosen, and the second is refused with the reason
    done = bench.work(id)
    assert (done.done, done.refused) == (2, 1)
    assert [(one.reason, one.names) for one in done.refusals] == [
        ("it has changed since the operation began", (names[1],))
    ]
    assert bench.states() == {"owed": 3, "dead": 1}


def test_reasons_and_names_are_bounded(bench: Bench, client: redis.Redis) -> None:
    names = bench.dead(120)
    for name in names[:110]:
        Control(bench.ledger, ANN).drop(name)
    done = bench.work(bench.begin(BulkRequest(verb=DROP, names=tuple(names), subject="120 jobs")))
    assert (done.done, done.refused) == (10, 110)
    (refusal,) = done.refusals
    assert (refusal.reason, refusal.count, len(refusal.names)) == ("it is skipped", 110, 3)


def test_what_became_of_the_members_is_counted_by_state_and_error(bench: Bench) -> None:
    bench.dead(10)
    id = bench.begin(retry_dead())
    bench.work(id)
    for number, verdict in ((3, "dead"), (2, "done")):
        for held in bench.story.claim("mail", number):
            outcome = Outcome(job=held.key, token=held.token, verdict=verdict, text="answered 500: request 7f3a9c21d4")
            bench.ledger.exchange_jobs("jobs/mail", [outcome])
    became = bench.operations.became(bench.get(id))
    assert became.by_state == {"dead": 3, "done": 2, "owed": 5}
    assert became.errors == {"answered 500: request <hex>": 3}
    job = bench.reader.job(key("evcus_00000"))
    assert job is not None
    assert job.operation == id


def test_a_customer_is_kept_as_digests(bench: Bench, client: redis.Redis) -> None:
    bench.story.tell("evcus_1", "mail", email="ada@example.com", customer_id="cust_Ada")
    bench.story.tell("evcus_2", "mail", email="bob@example.com", customer_id="cust_Bob")
    bench.perform("dead", text="HTTP 500")
    id = bench.begin(retry_dead(customer="ada@example.com"))
    assert "ada" not in json.dumps({str(k): str(v) for k, v in client.hgetall(f"t:op:{id}").items()}).lower()
    assert bench.work(id).done == 1
    assert [job.event_id for job in bench.reader.jobs(Filter(state="owed"))] == ["evcus_1"]


def test_at_most_so_many_a_second(bench: Bench) -> None:
    bench.dead(50)
    id = bench.begin(retry_dead(rate=20.0, try_first=False))
    bench.work(id, until=lambda one: one.state is OperationState.RUNNING)
    held = bench.claim()
    assert held is not None
    stepped = bench.runner.step(held)
    assert bench.get(id).done == 20
    assert stepped.pause == pytest.approx(1.0, abs=0.3)


def test_three_are_at_work_at_a_time(bench: Bench) -> None:
    bench.dead(4)
    for _ in range(4):
        bench.begin(retry_dead())
    assert [bench.claim() is not None for _ in range(4)] == [True, True, True, False]


def test_the_list_is_newest_first_and_what_waits_is_bounded(timed_bench: Bench, clock: Any) -> None:
    bench, ids = timed_bench, []
    for _ in range(100):
        ids.append(bench.begin(retry_dead()))
        clock.pass_(1)
    assert [one.id for one in bench.operations.all()] == ids[::-1]
    with pytest.raises(OperationRefused, match="100 operations wait"):
        bench.begin(retry_dead())
    with pytest.raises(OperationRefused, match="at most 1000"):
        bench.begin(BulkRequest(verb=RETRY, names=tuple(map(str, range(1001)))))
    assert len(list(bench.operations.all())) == 100


def test_the_same_request_again_begins_it_once(bench: Bench) -> None:
    for _ in range(2):
        assert bench.operations.begin(retry_dead(), ANN, id="op1") == "op1"
    assert [one.id for one in bench.operations.all()] == ["op1"]
    assert len(list(AuditLog(bench.ledger).entries())) == 1


def test_an_ended_one_expires_after_30_days(bench: Bench, client: redis.Redis) -> None:
    bench.dead(1)
    id = bench.begin(retry_dead())
    assert client.ttl(f"t:op:{id}") == -1
    bench.work(id)
    day = 86400
    assert 29 * day < client.ttl(f"t:op:{id}") <= 30 * day
    assert 29 * day < client.ttl(f"t:op_touched:{id}") <= 30 * day


def test_an_estimate_counts_and_says_what_stands_still(bench: Bench) -> None:
    bench.dead(30, errors=2)
    bench.story.tell("evcus_owed", "mail")
    Control(bench.ledger, ANN).pause("jobs/mail", "wrong text")
    found = bench.operations.estimate(BulkRequest(verb=RETRY, which=Filter(source=SOURCE, state="dead")))
    assert (found.count, found.is_whole, len(found.examples)) == (30, True, 10)
    assert found.counts.by_error == {"answered 401: id <n>": 15, "answered 402: id <n>": 15}
    assert found.stopped == {"jobs/mail": "wrong text"}
    assert bench.states() == {"dead": 30, "owed": 1}
    rates = bench.operations.estimate(BulkRequest(verb=RETRY, which=Filter(state="dead"), rate=3), rates={"mail": 10.0})
    assert rates.seconds == {"mail": 10.0}
    assert (
        bench.operations.estimate(BulkRequest(verb=DROP, which=Filter(state="dead")), rates={"mail": 1}).seconds == {}
    )
    named = bench.operations.estimate(BulkRequest(verb=RETRY, names=(key("evcus_00001"), "no:such:job")))
    assert named.left_alone == {"missing": 1}


@pytest.fixture
def timed_bench(timed: Ledger, story: Story) -> Bench:
    return Bench(Story(timed, story.digests))
