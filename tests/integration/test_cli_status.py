"""What `check`, `status` and `forget` say of a ledger with work in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.integration.test_cli_again import config
from tests.integration.test_cli_ledger import SOURCE, Run, Story, environ, run, story
from tiercast.cli import output
from tiercast.ledger.model import DeliveryState

__all__ = ["config", "environ", "run", "story"]


def findings(run: Run, *args: str, status: int) -> list[dict[str, Any]]:
    found = json.loads(run("check", "--json", *args, status=status).stdout)["findings"]
    return [each for each in found if each["about"].startswith(("jobs/", "deliveries/"))]


class TestCheck:
    @pytest.mark.parametrize(
        ("verdict", "more"),
        [("dead", {"text": "HTTP 401 refused"}), ("uncertain", {"text": "no answer", "effect_possible": True})],
    )
    def test_stuck_jobs_are_a_trouble(
        self, story: Story, run: Run, config: None, verdict: str, more: dict[str, Any]
    ) -> None:
        for n in (1, 2):
            story.tell(f"evcus_{n}", "mail")
        assert findings(run, status=0) == []
        story.perform("mail", verdict, **more)
        (finding,) = findings(run, status=1)
        assert (finding["level"], finding["about"]) == ("trouble", "jobs/mail")
        assert f"2 {verdict}" in finding["text"]
        assert more["text"] in finding["text"]
        assert len(findings(run, "--fail-on", "error", status=0)) == 1

    def test_quarantined_deliveries_are_a_trouble(self, story: Story, run: Run, config: None) -> None:
        story.arrive()
        story.settle(state=DeliveryState.QUARANTINED, reason="no JSON")
        (finding,) = findings(run, status=1)
        assert finding["about"] == f"deliveries/{SOURCE}"
        assert "1 quarantined" in finding["text"]
        assert "no JSON" in finding["text"]

    def test_jobs_that_are_about_to_be_given_up_are_a_trouble(
        self, story: Story, run: Run, config: None, client: redis.Redis
    ) -> None:
        story.tell("evcus_1", "mail")
        story.perform("mail", "later", text="busy", wait=600)
        assert findings(run, status=0) == []
        seconds, _ = client.time()
        client.hset(f"t:j:{SOURCE}:evcus_1:mail", "ff", (int(seconds) - 23 * 3600) * 1000)
        (finding,) = findings(run, status=1)
        assert "1 job is about to be given up" in finding["text"]
        assert "busy" in finding["text"]

    def test_a_paused_lane_that_owes_is_a_trouble(self, story: Story, run: Run, config: None) -> None:
        story.tell("evcus_1", "mail")
        run("lanes", "pause", "mail", "--by", "ann", "--reason", "wrong text")
        (finding,) = findings(run, status=1)
        assert "wrong text (ann" in finding["text"]

    def test_work_that_is_long_due_and_nobody_does_is_a_trouble(
        self, story: Story, run: Run, config: None, client: redis.Redis
    ) -> None:
        story.tell("evcus_1", "mail")
        seconds, _ = client.time()
        client.zadd("t:due:jobs/mail", {f"{SOURCE}:evcus_1:mail": int(seconds) * 1000 - 300_000})
        (finding,) = findings(run, status=1)
        assert "1 due, the oldest for 5m, and nobody works on them" in finding["text"]

    @pytest.fixture
    def unwritable(self, client: redis.Redis) -> Iterator[None]:
        client.config_set("min-replicas-to-write", 1)
        yield
        client.config_set("min-replicas-to-write", 0)

    def test_a_ledger_that_takes_no_writes_is_an_error(self, run: Run, unwritable: None) -> None:
        text = run("check", status=1).stdout
        assert "takes no writes" in text
        assert "NOREPLICAS" in text

    def test_what_waits_in_the_spool_is_seen(self, run: Run, environ: dict[str, str], tmp_path: Any) -> None:
        environ["TIERCAST_SPOOL_DIR"] = str(tmp_path / "no-folder")
        (tmp_path / "no-folder").write_text("")
        assert "is no folder" in run("check", status=1).stdout


class TestStatus:
    def test_one_screen_tells_all(self, story: Story, run: Run, config: None, monkeypatch: pytest.MonkeyPatch) -> None:
        for n in range(3):
            story.tell(f"evcus_{n}", "mail", "points")
        story.perform("mail", "dead", text="HTTP 503 from request 7f3a9c21d0")
        story.arrive()
        story.settle(state=DeliveryState.QUARANTINED, reason="no JSON")

        document = json.loads(run("status", "--json").stdout)

        actions = {each["name"]: each for each in document["actions"]}
        assert (actions["mail"]["owed"], actions["mail"]["dead"], actions["points"]["owed"]) == (0, 3, 3)
        assert document["sources"][0]["last_received_at"].endswith("Z")
        assert document["deliveries"] | {"queued": 0, "processed": 3, "quarantined": 1} == document["deliveries"]
        assert {"count": 3, "state": "dead", "of": "mail", "reason": "HTTP 503 from request …"} in document["reasons"]

        monkeypatch.setattr(output, "is_terminal", lambda: True)
        monkeypatch.setenv("COLUMNS", "80")
        lines = run("status").stdout.splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80
        assert any(line.split()[:2] == ["3", "dead"] for line in lines)

    def test_an_empty_ledger(self, run: Run) -> None:
        assert "Jobs: 0 owed." in run("status").stdout


class TestForget:
    def test_other_customers_who_lose_bodies_are_named_before_and_after(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", "mail", customer_id="cust_a", source_id="crm-shared")
        story.tell("evcus_2", "mail", customer_id="cust_b", source_id="crm-shared", email="bo@example.com")
        story.perform("mail", "done")
        result = run("forget", "cust_a", "--yes")
        assert "1 delivery of other customers, which name them, would lose their bodies: cust_b 1" in result.stderr
        assert "cust_b 1" in result.stdout

    def test_a_script_gets_them(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", customer_id="cust_a", source_id="crm-shared")
        story.tell("evcus_2", customer_id="cust_b", source_id="crm-shared", email="bo@example.com")
        document = json.loads(run("forget", "cust_a", "--yes", "--json").stdout)
        assert document["others"] == [{"customer_id": "cust_b", "deliveries": 1}]

    def test_a_name_that_two_go_by_says_so(self, story: Story, run: Run) -> None:
        story.tell("evcus_1", customer_id="cust_a", source_id="crm-shared")
        story.tell("evcus_2", customer_id="cust_b", source_id="crm-shared")
        assert "More than one customer goes by that name" in run("forget", "crm-shared", "--yes").stderr
