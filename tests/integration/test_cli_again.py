"""Doing things again from the command line: what is touched, what is left, and what the question says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.test_cli_ledger import SOURCE, Run, Story, environ, listed, run, story
from tiercast.cli import output
from tiercast.ledger import keys, new_token
from tiercast.ledger.model import Claim, DeliveryState, Hold, PlannedJob
from tiercast.ledger.reading import Filter, Reader

__all__ = ["environ", "run", "story"]

_CONFIG = """
[sources.voucherify]
secrets = ["env:SECRET"]
[actions.mail]
kind = "log"
message = "hello"
[actions.points]
kind = "tests.kinds:Paying"
effects = "{folder}/points"
behaviour = "ok"
queue = "slow"
[[rules]]
on = "customer.loyalty.tier.*"
do = ["mail", "points"]
"""


@pytest.fixture
def config(environ: dict[str, str], tmp_path: Path) -> None:
    """A configuration with an action that is repeatable and one that pays."""
    file = tmp_path / "tiercast.toml"
    file.write_text(_CONFIG.format(folder=tmp_path))
    environ |= {"TIERCAST_CONFIG": str(file), "SECRET": "a-secret-of-the-tests"}


def key(event: str, action: str, more: str = "") -> str:
    return f"{SOURCE}:{event}:{action}{more}"


def owed(story: Story, action: str) -> list[str]:
    return [held.key for held in story.claim(action)]


@pytest.fixture
def done(story: Story, config: None) -> list[str]:
    """Two events whose jobs are all done; returns their deliveries."""
    found = [story.tell(f"evcus_{n}", "mail", "points", customer_id="cust_a") for n in (1, 2)]
    story.perform("mail", "done", text="sent")
    story.perform("points", "done", text="paid")
    return found


class TestRedo:
    def test_a_named_job_is_done_again_and_no_other(self, done: list[str], story: Story, run: Run) -> None:
        assert "Redone 1 job" in run("jobs", "redo", key("evcus_1", "points")).stdout
        assert owed(story, "points") == [key("evcus_1", "points", ":r2")]
        assert owed(story, "mail") == []

    def test_the_same_command_again_makes_no_further_round(self, done: list[str], story: Story, run: Run) -> None:
        for status in (0, 1):
            result = run("jobs", "redo", key("evcus_1", "points"), status=status)
            story.perform("points", "done")
        assert "done again already" in result.stderr
        assert key("evcus_1", "points", ":r2") in result.stderr

    def test_by_filter_what_pays_again_is_left_out_unless_it_is_named(
        self, done: list[str], story: Story, run: Run
    ) -> None:
        result = run("jobs", "redo", "--since", "1h", "--yes")
        assert "Redone 2 jobs" in result.stdout
        assert "points 2" in result.stderr
        assert "--action points" in result.stderr
        assert len(owed(story, "mail")) == 2
        assert owed(story, "points") == []

        assert "Redone 2 jobs" in run("jobs", "redo", "--action", "points", "--yes").stdout
        assert len(owed(story, "points")) == 2

    def test_a_filter_repeated_does_nothing_twice(self, done: list[str], story: Story, run: Run) -> None:
        run("jobs", "redo", "--action", "mail", "--yes")
        story.perform("mail", "done")
        result = run("jobs", "redo", "--action", "mail", "--yes", status=1)
        assert "done again already" in result.stderr
        assert owed(story, "mail") == []

    def test_the_question_counts_by_action_and_says_what_pays_again(
        self, done: list[str], story: Story, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(output, "can_ask", lambda: True)
        result = run("jobs", "redo", "--action", "points", input="n\n", status=1)
        assert "points 2 (pays again)" in result.stderr
        assert owed(story, "points") == []

    def test_without_a_configuration_everything_may_pay_again(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail")
        story.perform("mail", "done")
        document = json.loads(run("jobs", "redo", "--since", "1h", "--json").stdout)
        assert (document["done"], document["left_out"]) == (0, {"mail": 1})


class TestReplay:
    def test_again_with_an_action_does_that_one_only(self, done: list[str], story: Story, run: Run) -> None:
        run("deliveries", "replay", "--customer", "cust_a", "--action", "mail", "--again", "--yes")
        for n in (1, 2):
            self.read(story, f"evcus_{n}")
        assert owed(story, "mail") == [key(f"evcus_{n}", "mail", ":r2") for n in (1, 2)]
        assert owed(story, "points") == []

    def test_again_leaves_out_what_pays_again(self, done: list[str], story: Story, run: Run) -> None:
        result = run("deliveries", "replay", done[0], "--again")
        assert "points 1" in result.stderr
        self.read(story, "evcus_1")
        assert owed(story, "mail") == [key("evcus_1", "mail", ":r2")]
        assert owed(story, "points") == []

    def test_a_dry_run_counts_by_action(self, done: list[str], run: Run) -> None:
        text = run("deliveries", "replay", "--since", "1h", "--again", "--action", "points", "--dry-run").stdout
        assert "Does again: points 2 (pays again)" in text

    def test_an_action_limits_what_is_added(self, story: Story, run: Run, config: None) -> None:
        story.tell("evcus_1")
        run("deliveries", "replay", "--state", "ignored", "--action", "mail")
        self.read(story, "evcus_1")
        assert owed(story, "mail") == [key("evcus_1", "mail")]
        assert owed(story, "points") == []

    @staticmethod
    def read(story: Story, event: str) -> None:
        story.settle(
            state=DeliveryState.PROCESSED,
            event_id=event,
            type="x",
            created_us=1,
            jobs=(PlannedJob(action="mail"), PlannedJob(action="points")),
        )


class TestKeys:
    def test_the_key_that_the_vendor_got_is_shown(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", PlannedJob(action="points", once="abc123"))
        sent = f"{SOURCE}:once-abc123:points"
        (held,) = story.claim("points")
        assert keys.sent_key(held.key, held.once) == sent

        assert sent in run("jobs", "show", key("evcus_1", "points")).stdout
        assert json.loads(run("jobs", "show", key("evcus_1", "points"), "--json").stdout)["sent_as"] == sent
        assert [item["sent_as"] for item in listed(run("jobs", "list", "--json"))] == [sent]
        assert json.loads(run("jobs", "show", sent, "--json").stdout)["key"] == key("evcus_1", "points")

    def test_a_part_that_no_other_has_will_do(self, story: Story, run: Run) -> None:
        first = story.tell("evcus_1", "mail")
        story.tell("evcus_2", "mail")
        assert json.loads(run("jobs", "show", "cus_2:ma", "--json").stdout)["key"] == key("evcus_2", "mail")
        assert json.loads(run("jobs", "show", "vouch…cus_2:mail", "--json").stdout)["key"] == key("evcus_2", "mail")
        assert json.loads(run("deliveries", "show", first[-12:], "--json").stdout)["id"] == first
        assert "Dropped 1 job" in run("jobs", "drop", "evcus_2").stdout

    def test_one_of_several_is_not_guessed(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail")
        story.tell("evcus_2", "mail")
        for verb in (["jobs", "show"], ["jobs", "drop"]):
            result = run(*verb, ":mail", status=1)
            assert key("evcus_1", "mail") in result.stderr
            assert key("evcus_2", "mail") in result.stderr
        assert len(owed(story, "mail")) == 2

    def test_what_stands_for_anything_elsewhere_is_a_letter_here(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail")
        assert "There is no job" in run("jobs", "show", "evcus_*", status=1).stderr

    def test_keys_are_whole_in_a_table_of_80_columns(
        self, story: Story, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(output, "is_terminal", lambda: True)
        monkeypatch.setenv("COLUMNS", "80")
        event = "evcus_" + "x" * 60
        story.tell(event, "mail")
        text = run("jobs", "list").stdout
        assert key(event, "mail") in text.splitlines()
        assert max(len(line) for line in text.splitlines() if event not in line) <= 80


class TestResolve:
    def uncertain(self, story: Story) -> None:
        for n in (1, 2):
            story.tell(f"evcus_{n}", PlannedJob(action="points", once=f"abc{n}"))
        story.perform("points", "uncertain", text="no answer", effect_possible=True)

    def test_by_filter_with_the_keys_to_look_for(self, story: Story, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uncertain(story)
        monkeypatch.setattr(output, "can_ask", lambda: True)
        result = run("jobs", "resolve", "--action", "points", "done", input="y\nasked the vendor\n")
        assert f"{SOURCE}:once-abc1:points" in result.stderr
        assert "2 jobs chosen (2 uncertain)" in result.stderr
        assert "Resolved 2 jobs" in result.stdout
        assert {item["state"] for item in listed(run("jobs", "list", "--json"))} == {"done"}

    def test_no_is_no(self, story: Story, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uncertain(story)
        monkeypatch.setattr(output, "can_ask", lambda: True)
        run("jobs", "resolve", "--since", "1h", "retry", input="n\n", status=1)
        assert {item["state"] for item in listed(run("jobs", "list", "--json"))} == {"uncertain"}

    def test_everything_is_not_meant_by_naming_nothing(self, run: Run) -> None:
        assert "filter" in run("jobs", "resolve", "done", status=2).stderr


class TestWaitsFor:
    def text(self, run: Run, event: str, action: str = "mail") -> list[str]:
        document = json.loads(run("jobs", "show", key(event, action), "--json").stdout)
        assert all(each["text"] in run("jobs", "show", key(event, action)).stdout for each in document["waits_for"])
        return [f"{each['cause']}: {each['text']}" for each in document["waits_for"]]

    def test_a_paused_lane_says_who_and_why(self, story: Story, run: Run, config: None) -> None:
        story.tell("evcus_1", "mail")
        assert self.text(run, "evcus_1") == []
        run("lanes", "pause", "mail", "--reason", "wrong text", "--by", "ann")
        (text,) = self.text(run, "evcus_1")
        assert "paused by ann since 20" in text
        assert "wrong text" in text
        (lane,) = [each for each in listed(run("lanes", "list", "--json")) if each["name"] == "jobs/mail"]
        assert (lane["paused_by"], lane["cause"]) == ("ann", "paused")
        assert lane["paused_at"].endswith("Z")

    def test_who_pauses_is_known_without_saying(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail")
        run("lanes", "pause", "mail")
        (lane,) = [each for each in listed(run("lanes", "list", "--json")) if each["name"] == "jobs/mail"]
        assert "@" in lane["paused_by"]
        run("lanes", "resume", "mail")
        (lane,) = [each for each in listed(run("lanes", "list", "--json")) if each["name"] == "jobs/mail"]
        assert (lane["paused_by"], lane["paused_at"], lane["cause"]) == (None, None, None)

    def test_a_hold_says_until_when(self, story: Story, run: Run, config: None) -> None:
        story.tell("evcus_1", "mail")
        hold = Hold(seconds=600, cause="credential", reason="token refused")
        story.perform("mail", "released", hold=hold)
        (text,) = self.text(run, "evcus_1")
        assert text.startswith("hold: its lane, which is on hold until 20")
        assert "token refused" in text

    def test_its_next_attempt(self, story: Story, run: Run, config: None) -> None:
        story.tell("evcus_1", "mail")
        story.perform("mail", "later", text="busy", wait=600)
        (text,) = self.text(run, "evcus_1")
        assert text.startswith("later: its next attempt, at 20")

    def test_its_turn(self, story: Story, run: Run, config: None) -> None:
        for n in (1, 2, 3):
            story.tell(f"evcus_{n}", "mail")
        assert [text.partition(":")[0] for text in self.text(run, "evcus_3")] in ([], ["turn"])

    def test_a_full_concurrency(self, story: Story, run: Run, config: None) -> None:
        for n in (1, 2):
            story.tell(f"evcus_{n}", "mail")
        story.ledger.exchange_jobs("jobs/mail", claim=Claim(token=new_token(), n=1, cap=1))
        (text,) = self.text(run, "evcus_2")
        assert text.startswith("concurrency: a place")

    def test_a_rate(self, story: Story, run: Run, environ: dict[str, str], config: None) -> None:
        file = Path(environ["TIERCAST_CONFIG"])
        file.write_text(file.read_text().replace('kind = "log"', 'kind = "log"\nrate = "1/h"'))
        for n in (1, 2):
            story.tell(f"evcus_{n}", "mail")
        claim = Claim(token=new_token(), n=1, limits=(("rate:mail", 3_600_000_000),))
        story.ledger.exchange_jobs("jobs/mail", claim=claim)
        assert any(text.startswith("rate: the rate limit mail, until 20") for text in self.text(run, "evcus_2"))

    @pytest.mark.parametrize("group", ["order", "once"])
    def test_the_job_before_it_in_its_group(self, story: Story, run: Run, config: None, group: str) -> None:
        for n in (1, 2):
            job = PlannedJob(action="mail")
            setattr(job, group, "g")
            story.tell(f"evcus_{n}", job)
        (text,) = self.text(run, "evcus_2")
        assert text.startswith(f"{group}: {key('evcus_1', 'mail')}, which is owed")

    def test_an_action_that_the_configuration_lacks(self, story: Story, run: Run, config: None) -> None:
        story.tell("evcus_1", "gone")
        (text,) = self.text(run, "evcus_1", "gone")
        assert "no" in text
        assert "gone" in text


class TestReader:
    """Filters are of one place: what reads the ledger for a page gets what a command gets."""

    @pytest.mark.parametrize("which", [Filter(campaign="Coffee club"), Filter(tier="Gold leaf")])
    def test_campaign_and_tier_choose_jobs_and_deliveries(self, story: Story, which: Filter) -> None:
        story.tell("evcus_1", "mail", campaign="Coffee club", tier="Gold leaf")
        story.tell("evcus_2", "mail")
        reader = Reader(story.ledger, story.digests)
        assert [job.key for job in reader.jobs(which)] == [key("evcus_1", "mail")]
        assert [info.event_id for info in reader.deliveries(which)] == ["evcus_1"]
