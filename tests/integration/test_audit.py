"""Every change of an operator is on record, in the step that makes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from tests.conftest import Clock
from tests.integration.test_cli_ledger import SOURCE, Run, Story, environ, listed, run, story
from tests.operators import ANN
from tiercast.cli import main, output
from tiercast.control import Actor, AuditFilter, AuditLog, Control
from tiercast.control.audit import Note
from tiercast.control.verbs import DROP, RETRY
from tiercast.ledger import Ledger
from tiercast.ledger.model import HeldJob, Outcome, PlannedJob

__all__ = ["environ", "run", "story"]


def key(event: str, action: str = "mail") -> str:
    return f"{SOURCE}:{event}:{action}"


@pytest.fixture
def dead(story: Story) -> list[str]:
    """Three dead jobs."""
    events = [f"evcus_{n}" for n in range(3)]
    for event in events:
        story.tell(event, "mail")
    story.perform("mail", "dead", text="HTTP 500")
    return [key(event) for event in events]


def entries(ledger: Ledger, **which: Any) -> list[tuple[str, str, int, int, str]]:
    return [
        (entry.verb, entry.subject, entry.count, entry.refused, entry.result)
        for entry in AuditLog(ledger).entries(AuditFilter(**which))
    ]


class TestEntries:
    def test_each_verb_leaves_one_with_who_what_why_and_result(self, story: Story, dead: list[str]) -> None:
        # Given somebody who changes things
        control = Control(story.ledger, ANN)

        # When they do so in each way
        control.retry(dead[0], why="fixed the template")
        control.drop(dead[1])
        control.drop(dead[1])
        control.pause("jobs/mail", "wrong text")
        control.resume("jobs/mail")

        # Then all of it is on record, the newest first, what was refused included
        assert entries(story.ledger) == [
            ("resume", "jobs/mail", 1, 0, "resumed"),
            ("pause", "jobs/mail", 1, 0, "paused"),
            ("drop", dead[1], 0, 1, "it is skipped"),
            ("drop", dead[1], 1, 0, "skipped"),
            ("retry", dead[0], 1, 0, "owed"),
        ]
        last, *_, first = AuditLog(story.ledger).entries()
        assert (first.actor, first.why, last.why) == (ANN, "fixed the template", "")
        assert abs(first.at_ms - story.ledger.now_ms()) < 60_000

    def test_a_request_of_several_steps_is_one(self, story: Story) -> None:
        # Given 250 dead jobs, which take three steps
        for n in range(250):
            story.tell(f"evcus_{n:03}", "mail")
        outcomes = story.claim("mail", 250)
        assert len(outcomes) == 250
        for held in outcomes:
            story.ledger.exchange_jobs("jobs/mail", [_dead(held)])
        names = [held.key for held in outcomes]

        # When they are retried, together with two that there are not, and something else comes after that
        control = Control(story.ledger, ANN)
        answers = dict(control.change_all(RETRY, [*names, "none:of:them", "nor:this:one"], subject="dead jobs"))
        control.pause("jobs/mail")

        # Then all are done, and the log has one entry
        assert sum(answer.done for answer in answers.values()) == 250
        assert entries(story.ledger)[1:] == [("retry", "dead jobs", 250, 2, "")]

    def test_what_ended_early_is_on_record_as_far_as_it_came(self, story: Story, dead: list[str]) -> None:
        log = AuditLog(story.ledger)
        for part in (1, 2):
            note = Note(actor=ANN, subject="all", request="cut", part=part)
            log.note(note, "retry", count=100)
        log.note(Note(actor=ANN, subject="lost its first part", request="lost", part=2), "retry", count=7)
        log.note(Note(actor=ANN, subject="after"), "reload")
        assert [entry[:3] for entry in entries(story.ledger)] == [
            ("reload", "after", 0),
            ("retry", "lost its first part", 7),
            ("retry", "all", 200),
        ]

    def test_filters(self, story: Story, dead: list[str]) -> None:
        Control(story.ledger, ANN).retry(dead[0])
        Control(story.ledger, Actor("bob", "console", "10.0.0.9")).drop(dead[1])
        assert [entry[0] for entry in entries(story.ledger, user="ann")] == ["retry"]
        assert [entry[0] for entry in entries(story.ledger, user="console:bob@10.0.0.9")] == ["drop"]
        assert [entry[1] for entry in entries(story.ledger, verb="drop")] == [dead[1]]
        assert entries(story.ledger, until_ms=1) == []
        assert len(entries(story.ledger, since_ms=1)) == 2

    def test_an_entry_leaves_after_400_days(self, client: redis.Redis, ledger: Ledger) -> None:
        now = ledger.now_ms()
        day = 86_400_000
        for days in (401, 399):
            client.xadd("t:audit", {"at": now - days * day, "verb": f"{days} days ago"}, id=f"{now - days * day}-0")
        Control(ledger, ANN).pause("jobs/mail")
        assert [entry[0] for entry in entries(ledger)] == ["pause", "399 days ago"]

    def test_the_ledgers_clock_tells_when(self, timed: Ledger, clock: Clock) -> None:
        Control(timed, ANN).pause("jobs/mail")
        (entry,) = AuditLog(timed).entries()
        assert entry.at_ms == clock.now


def _dead(held: HeldJob) -> Outcome:
    return Outcome(job=held.key, token=held.token, verdict="dead", text="HTTP 500")


def test_dropping_all_of_an_order_group_at_once_leaves_nothing_due(story: Story, client: redis.Redis) -> None:
    # Given three jobs that wait for one another
    for n in range(3):
        story.tell(f"evcus_{n}", PlannedJob(action="crm", order="of one customer"))

    # When all are dropped in one step, each of which releases the next
    names = [key(f"evcus_{n}", "crm") for n in (2, 1, 0)]
    answers = list(Control(story.ledger, ANN).change_all(DROP, names))

    # Then none of them is left in the lane
    assert [answer.text for _, answer in answers] == ["skipped"] * 3
    assert story.claim("crm") == []
    assert client.zcard("t:due:jobs/crm") == 0


class TestCommand:
    def test_json_has_every_field(self, story: Story, dead: list[str], run: Run) -> None:
        run("jobs", "retry", dead[0], "--why", "template is mended")
        (entry,) = listed(run("audit", "--json"))
        assert set(entry) == {
            "at", "by", "user", "from", "address", "verb", "subject", "count", "refused", "why", "result", "operation",
        }  # fmt: skip
        assert re.fullmatch(r"cli:.+@.+", entry["by"])
        assert (entry["verb"], entry["subject"], entry["count"]) == ("retry", dead[0], 1)
        assert (entry["why"], entry["result"]) == ("template is mended", "owed")

    def test_a_filter_goes_on_record_in_words_and_a_customer_as_a_digest(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail", email="ada@example.com", customer_id="cust_Ada")
        story.perform("mail", "dead", text="HTTP 500")
        run("jobs", "retry", "--state", "dead", "--action", "mail", "--customer", "ada@example.com")
        (entry,) = listed(run("audit", "--json"))
        assert re.fullmatch(r"dead jobs, action mail, customer #[\w-]{16}", entry["subject"])

    def test_a_table_fits_a_terminal(
        self, story: Story, dead: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run("jobs", "retry", dead[0], "--why", "a long story that does not fit into a line of eighty columns")
        run("lanes", "pause", "mail", "--reason", "tea")
        monkeypatch.setattr(output, "is_terminal", lambda: True)
        monkeypatch.setenv("COLUMNS", "80")
        lines = run("audit").stdout.splitlines()
        assert len(lines) == 3
        assert all(len(line) <= 80 for line in lines)
        assert "pause" in lines[1]
        assert "tea" in lines[1]

    def test_none(self, run: Run) -> None:
        assert "No change is on record." in run("audit").stdout
        assert listed(run("audit", "--json")) == []


class TestWhy:
    def test_who_cannot_be_asked_is_told_what_is_missing(self, story: Story, dead: list[str], run: Run) -> None:
        assert "--why" in run("jobs", "drop", dead[0], "--yes").stderr
        assert "--why" not in run("jobs", "drop", dead[1], "--yes", "--why", "not wanted").stderr
        assert "--why" not in run("jobs", "retry", dead[2], "--yes").stderr
        assert [entry["why"] for entry in listed(run("audit", "--json"))] == [None, "not wanted", None]

    def test_a_person_is_asked(self, story: Story, dead: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(output, "can_ask", lambda: True)
        run("jobs", "drop", "--state", "dead", input="y\n\nnobody wants them\n")
        (entry,) = listed(run("audit", "--json"))
        assert (entry["count"], entry["why"]) == (3, "nobody wants them")


def test_forgetting_leaves_a_digest_and_takes_names_out_of_reasons(
    story: Story, run: Run, environ: dict[str, str], client: redis.Redis
) -> None:
    # Given a customer whom an operator named in a reason, and another one
    story.tell("evcus_1", "mail", email="ada@example.com", customer_id="cust_Ada0000001")
    story.tell("evcus_2", "mail", email="bob@example.com", customer_id="cust_Bob0000001")
    run("jobs", "drop", key("evcus_1"), "--why", "ada@example.com asked for it")
    run("jobs", "drop", key("evcus_2"), "--why", "bob asked for it")
    run("jobs", "retry", "--state", "skipped", "--background", "--why", "ada@example.com changed her mind")

    # When the customer is forgotten
    document = json.loads(run("forget", "ada@example.com", "--yes", "--why", "article 17", "--json").stdout)

    # Then the proof has searched the log, too, and found no name
    assert document["left"] == []
    assert "ada@example.com" not in str(client.xrange("t:audit"))

    # and what else was on record still is, in its order
    forget, retry, bob, ada = listed(run("audit", "--json"))
    assert "removed" in retry["why"]
    (operation,) = listed(run("operations", "list", "--json"))
    assert (operation["subject"], operation["why"]) == ("skipped jobs", retry["why"])
    assert (bob["why"], bob["subject"]) == ("bob asked for it", key("evcus_2"))
    assert (ada["why"], ada["subject"], ada["count"]) == (
        "(removed: it named a customer who was forgotten)", key("evcus_1"), 1,
    )  # fmt: skip
    assert (forget["verb"], forget["count"], forget["why"]) == ("forget", 1, "article 17")
    assert re.fullmatch(r"#[\w-]{16}", forget["subject"])


def test_no_reason_is_asked_for_nothing(run: Run, environ: dict[str, str], tmp_path: Path) -> None:
    result = CliRunner(env=environ).invoke(main, ["jobs", "drop", "--state", "dead", "--yes"])
    assert (result.exit_code, result.stderr) == (0, "")
