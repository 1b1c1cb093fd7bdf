"""One attempt: what the kind is given, and what each of its answers becomes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kinds import Blind, Bulk, Paying, Scripted, Unnamed, marks
from tiercast.actions import Action, Done, Halt, Job, Permanent, RateLimited, RetryLater, Skip, Unavailable, Unknown
from tiercast.config.model import ActionSpec
from tiercast.config.templates import Options
from tiercast.ledger.keys import sent_key
from tiercast.ledger.model import HeldJob, Hold, Outcome
from tiercast.samples import envelope, sample_data
from worker.execution.attempt import Attempt, perform_many, perform_one

JOINED = "customer.loyalty.tier.joined"


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects"


def spec(cls: type[Action], effects: Path, **changes: Any) -> ActionSpec:
    options = Options(cls.Options(), {"effects": str(effects), "behaviour": "{{ event.customer.name }}"})
    return ActionSpec(name="act", kind=cls.kind, cls=cls, options=options, **changes)


def held(behaviour: str = "done", number: int = 1, **changes: Any) -> HeldJob:
    body = json.dumps(envelope(JOINED, sample_data(name=behaviour), event_id=f"ev{number}")).encode()
    fields: dict[str, Any] = {
        "key": f"voucherify:ev{number}:act", "token": "tok", "attempts": 0, "tries": 0, "effect_possible": False,
        "expiries": 0,
        "delay": 0.0, "delivery": "d", "event_id": f"ev{number}", "type": JOINED, "at": "2026-08-01T10:00:00.000Z",
        "created_us": 1, "source": "voucherify", "form": "envelope", "once": None, "body": body,
    }  # fmt: skip
    fields |= changes
    fields["delivery"] = hashlib.sha256(fields["body"]).hexdigest()  # each body is a delivery of its own
    return HeldJob(**fields)


def one(cls: type[Action], effects: Path, job: HeldJob, **changes: Any) -> Outcome:
    made = spec(cls, effects, **changes)
    return perform_one(made, made.make(), job)


# --- every answer of a kind


@pytest.mark.parametrize(
    ("behaviour", "verdict", "effect_possible", "text"),
    [
        ("done", "done", False, "it is done"),
        ("odd", "done", False, None),
        ("permanent", "dead", None, "it can never be"),
        ("skip", "skipped", None, "there is nothing to do"),
        ("later", "later", None, "try again"),
        ("unknown", "later", True, "no answer"),
        ("raises", "later", None, "a mistake in the kind"),
        ("exits", "later", None, "the kind raised SystemExit"),
        ("halt", "released", None, "the credential is refused"),
    ],
)
def test_answers_of_a_repeatable_kind(
    effects: Path, behaviour: str, verdict: str, effect_possible: bool | None, text: str | None
) -> None:
    outcome = one(Scripted, effects, held(behaviour))

    shown = outcome.text and outcome.text.partition(" (ValueError in kinds.py, line ")[0]
    assert (outcome.verdict, outcome.effect_possible, shown) == (verdict, effect_possible, text)
    assert (outcome.job, outcome.token) == ("voucherify:ev1:act", "tok")
    assert (outcome.duration is None) == (verdict == "released"), "handing back is no attempt"


@pytest.mark.parametrize("behaviour", ["unknown", "raises", "exits"])
def test_no_answer_of_a_kind_that_is_not_repeatable(effects: Path, behaviour: str) -> None:
    # One that can find out is asked later; one that cannot leaves it to an operator.
    asked = one(Paying, effects, held(behaviour))
    blind = one(Blind, effects, held(behaviour))

    assert (asked.verdict, asked.effect_possible) == ("later", True)
    assert (blind.verdict, blind.effect_possible) == ("uncertain", True)
    assert "tiercast jobs resolve" in (blind.text or "")


@pytest.mark.parametrize("behaviour", ["later", "permanent", "skip"])
def test_an_answer_that_nothing_happened_leaves_no_doubt(effects: Path, behaviour: str) -> None:
    assert one(Blind, effects, held(behaviour)).effect_possible is None


def test_a_cause_that_holds_for_everyone_holds_the_lane_and_costs_no_attempt(effects: Path) -> None:
    everyone = one(Scripted, effects, held("everyone"))
    halted = one(Scripted, effects, held("halt"))
    limited = one(Scripted, effects, held("everyone"), limit="crm")

    assert everyone.verdict == halted.verdict == "released"
    assert everyone.hold == Hold(seconds=30.0, cause="vendor", reason="too many requests")
    assert halted.hold == Hold(seconds=30.0, cause="credential", reason="the credential is refused")
    assert limited.hold == Hold(seconds=30.0, cause="vendor", reason="too many requests", limit="crm")
    assert one(Scripted, effects, held("later")).hold is None


@pytest.mark.parametrize(
    ("answer", "verdict", "signal", "cause"),
    [
        (RateLimited("429"), "released", "rate", None),
        (RateLimited("429", after=7), "released", None, "vendor"),
        (RetryLater("slow down", everyone=True), "released", "rate", None),
        (Unavailable("no connection"), "later", "outage", None),
        (Unavailable("503", after=60), "released", None, "vendor"),
        (Halt("401"), "released", None, "credential"),
        (Halt("no such list", cause="setting"), "released", None, "setting"),
        (Unknown("502", unavailable=True), "later", "outage", None),
        (Unknown("no answer"), "later", None, None),
    ],
)
def test_what_the_vendor_refuses(
    effects: Path, answer: Exception, verdict: str, signal: str | None, cause: str | None
) -> None:
    made = spec(Scripted, effects)
    outcome = Attempt(made, made.make(), held()).judge(answer)

    assert (outcome.verdict, outcome.signal) == (verdict, signal)
    assert (outcome.hold.cause if outcome.hold else None) == cause
    assert (outcome.duration is None) == (verdict == "released"), "what is released is no attempt"


@pytest.mark.parametrize("after", [float("nan"), float("inf"), -5, "soon", 1e12])
def test_a_time_that_cannot_be_waited_for_is_made_one_that_can(effects: Path, after: Any) -> None:
    made = spec(Scripted, effects)
    outcome = Attempt(made, made.make(), held()).judge(Halt("x", after=after))

    assert outcome.hold is not None
    assert 0 <= outcome.hold.seconds <= 8 * 86400
    wait = Attempt(made, made.make(), held()).judge(RetryLater("x", after=after)).wait
    assert wait is not None
    assert 0 <= wait <= 8 * 86400


def test_a_wait_of_no_seconds_is_none(effects: Path) -> None:
    made = spec(Scripted, effects)
    outcome = Attempt(made, made.make(), held()).judge(RetryLater("x", after=0, everyone=True))
    assert outcome.hold is not None
    assert outcome.hold.seconds == 0


def test_texts_are_short_single_lines_that_can_be_stored(effects: Path) -> None:
    made = spec(Scripted, effects)

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def text(answer: Any) -> str:
        return Attempt(made, made.make(), held()).judge(answer).text or ""

    assert text(Permanent("a\n  b" + "x" * 1000)).startswith("a b")
    assert len(text(Permanent("x" * 1000))) == len(text("x" * 1000)) == 500
    assert text(Permanent("half a \ud800 pair")) == "half a ? pair"
    assert text(ValueError()) == "ValueError"
    assert text(Unprintable()) == "Unprintable"


# --- attempts and backoff


def test_attempts_end_where_a_cap_is_configured(effects: Path) -> None:
    last = held("later", tries=2, attempts=9)
    dead = one(Scripted, effects, last, attempts=3)
    assert (dead.verdict, dead.text) == ("dead", "3 attempts failed; the last: try again")
    assert one(Scripted, effects, held("later", tries=1), attempts=3).verdict == "later"

    # An operator's retry starts counting anew, and the number that the kind sees goes on
    again = held("later", tries=0, attempts=9)
    assert one(Scripted, effects, again, attempts=3).verdict == "later"
    assert marks(effects, "begin")[-1].attempt == 10

    # One whose last attempt may have had its effect is left to an operator, not declared dead
    assert one(Paying, effects, held("unknown", tries=2), attempts=3).verdict == "uncertain"


def test_a_job_that_fails_by_itself_is_tried_for_a_day(effects: Path) -> None:
    day = 86400.0
    assert one(Scripted, effects, held("later", tries=500, failing=day - 1)).verdict == "later"
    dead = one(Scripted, effects, held("later", tries=500, failing=day))
    assert (dead.verdict, dead.text) == ("dead", "it has failed for 24 hours; the last: try again")
    assert one(Scripted, effects, held("later", tries=3, failing=61.0), give_up=60).verdict == "dead"


def test_what_cannot_be_prepared_is_not_performed(effects: Path) -> None:
    outcome = one(Scripted, effects, held(body=b"not json"))

    assert outcome.verdict == "later"
    assert "could not be prepared" in (outcome.text or "")
    assert not effects.exists()


# --- an earlier attempt without an answer


def test_confirm_decides_before_anything_is_repeated(effects: Path) -> None:
    # Given an attempt that had its effect, and one that had not, both without an answer
    assert one(Paying, effects, held("lost", 1)).effect_possible is True
    effect_possible = {"effect_possible": True, "tries": 1, "attempts": 1}

    happened = one(Paying, effects, held("lost", 1, **effect_possible))
    not_happened = one(Paying, effects, held("done", 2, **effect_possible))

    assert (happened.verdict, happened.effect_possible) == ("done", False)
    assert "confirmed" in (happened.text or "")
    assert (not_happened.verdict, not_happened.effect_possible) == ("done", False)
    assert [mark.key for mark in marks(effects)] == ["voucherify:ev1:act", "voucherify:ev2:act"]


@pytest.mark.parametrize("behaviour", ["unknowable", "unaskable"])
def test_not_yet_known_is_asked_later_and_at_last_uncertain(effects: Path, behaviour: str) -> None:
    def ask(tries: int) -> str:
        return one(Paying, effects, held(behaviour, effect_possible=True, tries=tries), attempts=3).verdict

    assert [ask(0), ask(1), ask(2)] == ["later", "later", "uncertain"]
    assert marks(effects) == []


def test_a_kind_that_cannot_find_out_leaves_it_to_an_operator(effects: Path) -> None:
    assert one(Blind, effects, held("done", effect_possible=True)).verdict == "uncertain"
    assert one(Scripted, effects, held("done", effect_possible=True)).verdict == "done", "harmless to repeat"
    assert len(marks(effects)) == 1


@pytest.mark.parametrize("behaviour", ["permanent", "skip", "later"])
def test_a_doubt_that_confirm_has_removed_is_gone(effects: Path, behaviour: str) -> None:
    assert one(Paying, effects, held(behaviour, effect_possible=True)).effect_possible is False


def test_a_job_in_doubt_whose_options_are_empty_now_is_not_skipped(effects: Path) -> None:
    made = spec(Paying, effects)

    class Refusing(Options):
        def render(self, event: Any, key: str = "") -> Any:
            raise Skip("option behaviour is empty for this event")

    refusing = ActionSpec(name="act", kind="paying", cls=Paying, options=Refusing(Paying.Options(), {"effects": "x"}))

    assert perform_one(refusing, made.make(), held(effect_possible=True)).verdict == "uncertain"
    assert perform_one(refusing, made.make(), held()).verdict == "skipped"


def test_confirm_that_ends_its_thread_ends_the_attempt_only(effects: Path) -> None:
    class Fatal(Paying):
        def confirm(self, job: Job) -> bool | None:
            raise SystemExit

    assert one(Fatal, effects, held(effect_possible=True)).verdict == "later"


# --- keys


def test_the_key_is_the_jobs_own_or_that_of_its_once_group(effects: Path) -> None:
    first, second = held(number=1, once="abc"), held(number=2, once="abc")
    assert sent_key(held().key, None) == "voucherify:ev1:act"
    assert sent_key(first.key, "abc") == sent_key(second.key, "abc") == "voucherify:once-abc:act"
    assert sent_key(held().key, "xyz") != sent_key(first.key, "abc")

    one(Scripted, effects, first)
    assert marks(effects)[0].key == "voucherify:once-abc:act"


# --- bulk


def many(effects: Path, *jobs: HeldJob, cls: type[Action] = Bulk) -> dict[str, str]:
    made = spec(cls, effects)
    found = [(h.event_id, v.verdict) for h, v in perform_many(made, made.make(), list(jobs))]
    assert len(found) == len(jobs), "each job gets one verdict"
    return dict(found)


def test_each_job_of_a_bulk_call_settles_by_itself(effects: Path) -> None:
    behaviours = ["done", "permanent", "left-out", "skip", "halt", "raises"]

    verdicts = many(effects, *(held(behaviour, number) for number, behaviour in enumerate(behaviours)))

    assert verdicts == {
        "ev0": "done",
        "ev1": "dead",
        "ev2": "later",
        "ev3": "skipped",
        "ev4": "released",
        "ev5": "later",
    }
    assert len(marks(effects, "call")) == 1


def test_what_is_raised_holds_for_those_without_an_answer(effects: Path) -> None:
    assert many(effects, held("done", 1), held("breaks", 2), held("done", 3)) == {
        "ev1": "done", "ev2": "later", "ev3": "later",
    }  # fmt: skip


def test_what_is_not_to_be_called_does_not_reach_the_bulk_call(effects: Path) -> None:
    assert many(effects, held(number=1, body=b"not json"), held("done", 2)) == {"ev1": "later", "ev2": "done"}
    # and with none left there is no call
    effects.unlink()
    assert many(effects, held(number=1, body=b"not json")) == {"ev1": "later"}
    assert not effects.exists()


def test_two_jobs_of_one_key_do_not_share_a_call(effects: Path) -> None:
    assert many(effects, held("done", 1, once="abc"), held("done", 2, once="abc")) == {"ev1": "done", "ev2": "released"}


STRANGER = Job(
    key="a:stranger:act", event=None, attempt=1, options=None, timeout=1  # type: ignore[arg-type]
)  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param(lambda jobs: [(job, None) for job in jobs for _ in "ab"], "done", id="twice"),
        pytest.param(lambda jobs: [(STRANGER, None)], "later", id="unknown job"),
        pytest.param(lambda jobs: [], "later", id="nothing"),
        pytest.param(lambda jobs: None, "later", id="no iterable"),
        pytest.param(lambda jobs: [None], "later", id="no pair"),
        pytest.param(lambda jobs: [("key", None)], "later", id="no job"),
        pytest.param(lambda jobs: [(job, SystemExit()) for job in jobs], "later", id="an exit"),
        pytest.param(lambda jobs: [(job, Unknown("?")) for job in jobs], "later", id="unknown"),
        pytest.param(lambda jobs: [(job, Halt("no")) for job in jobs], "released", id="halt"),
        pytest.param(lambda jobs: [(job, 7) for job in jobs], "done", id="odd"),
    ],
)
def test_whatever_a_bulk_call_answers(
    effects: Path, monkeypatch: pytest.MonkeyPatch, answers: Callable[[list[Job]], Any], expected: str
) -> None:
    monkeypatch.setattr(Unnamed, "answers", staticmethod(answers), raising=False)

    assert many(effects, held(number=1), held(number=2), cls=Unnamed) == {"ev1": expected, "ev2": expected}


# --- the event


def test_a_body_is_parsed_when_it_is_looked_at(effects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    loads = json.loads

    def noted(text: str) -> Any:
        parsed.append(text)
        return loads(text)

    monkeypatch.setattr("tiercast.stored.json.loads", noted)
    made = spec(Scripted, effects)
    bare = replace(made, options=Options(Scripted.Options(), {"effects": str(effects), "behaviour": "done"}))

    for number in range(3):
        assert perform_one(bare, bare.make(), held(number=number)).verdict == "done"
    assert parsed == []

    # and once for all jobs of an event
    job = held()
    for action in "abc":
        one(Scripted, effects, replace(job, key=f"voucherify:ev1:{action}"))
    assert len(parsed) == 1


@pytest.mark.parametrize(("body", "reason"), [(b"", "its body is gone"), (b"[]", "the body holds no object")])
def test_a_body_that_cannot_be_read_again_is_no_unknown_outcome(effects: Path, body: bytes, reason: str) -> None:
    outcome = one(Paying, effects, held(body=body))
    assert (outcome.verdict, outcome.effect_possible) == ("later", None)
    assert reason in str(outcome.text)
    assert marks(effects, "begin") == []


@pytest.mark.parametrize(
    ("text", "code", "error"),
    [
        (
            "HubSpot answered 400 (PROPERTY_DOESNT_EXIST): no",
            "400 PROPERTY_DOESNT_EXIST",
            " --error PROPERTY_DOESNT_EXIST",
        ),
        ("api.example.com answered 422: no", "422", " --error 'answered 422'"),
        ("Acme INVALID_FIELD: no", "INVALID_FIELD", " --error INVALID_FIELD"),
        ("it is refused", "400 X", ""),
    ],
)
def test_the_vendors_code_says_what_a_death_has_in_common_with_others(
    effects: Path, text: str, code: str, error: str
) -> None:
    class Refusing(Scripted):
        def perform(self, job: Job) -> str | None:
            raise Permanent(text, code=code)

    outcome = one(Refusing, effects, held())
    assert outcome.verdict == "dead"
    assert outcome.alike is not None
    assert (outcome.alike.code, outcome.alike.most) == (code, 20)
    assert f"tiercast jobs retry --action act{error} | {text}" in outcome.alike.reason


def test_a_death_without_a_code_has_nothing_in_common(effects: Path) -> None:
    assert one(Scripted, effects, held("permanent")).alike is None


def test_a_note_goes_on_record_with_the_result(effects: Path) -> None:
    class Noting(Scripted):
        def perform(self, job: Job) -> Any:
            return Done("updated", "phone left out")

    outcome = one(Noting, effects, held())
    assert (outcome.verdict, outcome.text) == ("done", "updated; note: phone left out")
