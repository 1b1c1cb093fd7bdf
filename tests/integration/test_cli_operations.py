"""Bulk verbs as operations on the command line, and the commands about operations."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cli_ledger import SOURCE, Run, Story, environ, listed, run, story
from tests.integration.test_operations import Bench
from tiercast.cli import operating, output
from tiercast.history.address import HistoryAddress
from tiercast.history.rows import FiledDelivery, FiledJob
from tiercast.history.store import History

__all__ = ["environ", "run", "story"]


@pytest.fixture
def bench(story: Story) -> Bench:
    return Bench(story)


def began(run: Run, *command: str) -> str:
    """Begin an operation in the background; returns its id."""
    document = json.loads(run(*command, "--background", "--json").stdout)
    return str(document["operation"])


class TestBegin:
    def test_in_the_background_it_says_where_to_look(self, bench: Bench, run: Run) -> None:
        bench.dead(3)
        text = run("jobs", "retry", "--action", "mail", "--background").stdout
        (found,) = bench.operations.all()
        assert f"tiercast operations show {found.id}" in text
        assert found.request.subject == "dead jobs, action mail"
        assert bench.work(found.id).done == 3

    def test_more_than_a_thousand_are_one_and_need_a_reason(
        self, bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given more than 1,000 dead jobs, and no worker
        bench.dead(1001)
        monkeypatch.setattr(operating, "PATIENCE_SECONDS", 0.0)

        # Then without a reason nothing is done
        assert "--why" in run("jobs", "retry", "--state", "dead", "--yes", status=2).stderr
        assert list(bench.operations.all()) == []

        # and with one it waits for a worker, and says so
        result = run("jobs", "retry", "--state", "dead", "--yes", "--why", "mended", status=1)
        assert "No worker has begun" in result.stderr
        (found,) = bench.operations.all()
        assert (found.request.why, found.request.names) == ("mended", ())
        done = bench.work(found.id, until=lambda one: one.state != "counting")
        assert (done.expected, done.state) == (1001, "trying")

    def test_it_reports_as_bulk_verbs_do(self, bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        # Given a worker that works whenever the command looks
        names = bench.dead(3)
        monkeypatch.setattr(time, "sleep", lambda _: bench.work(next(bench.operations.all()).id))

        # When named ones are retried at a rate, of which one is not there
        result = run("jobs", "retry", *names, "evcus_none:of:them", "--rate", "50", "--json")

        # Then the document is that of any bulk verb, and names the operation
        document = json.loads(result.stdout)
        (found,) = bench.operations.all()
        assert (document["chosen"], document["done"]) == (4, 3)
        assert document["not_done"] == [{"reason": "there is no such job", "count": 1}]
        assert (document["operation"], document["state"], found.request.rate) == (found.id, "done", 50.0)

    def test_a_dry_run_estimates(self, bench: Bench, run: Run) -> None:
        bench.dead(30, errors=2)
        run("lanes", "pause", "mail", "--reason", "wrong text")
        result = run("jobs", "retry", "--action", "mail", "--background", "--dry-run")
        assert "Would retry 30 jobs. Nothing was changed." in result.stdout
        assert "15 x answered 401: id <n>" in result.stdout
        assert "jobs/mail stands still (wrong text)" in result.stdout
        document = json.loads(run("jobs", "retry", "--action", "mail", "--background", "--dry-run", "--json").stdout)
        assert (document["chosen"], document["would_do"], document["actions"]) == (30, 30, {"mail": 30})
        assert list(bench.operations.all()) == []

    def test_a_person_is_told_number_and_filter_before(
        self, bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench.dead(2)
        monkeypatch.setattr(output, "can_ask", lambda: True)
        result = run("jobs", "drop", "--action", "mail", "--background", input="n\n", status=1)
        assert "Drop 2 jobs: jobs, action mail." in result.stderr
        assert list(bench.operations.all()) == []
        run("jobs", "drop", "--action", "mail", "--background", input="y\nold campaign\n")
        (found,) = bench.operations.all()
        assert found.request.why == "old campaign"

    def test_nothing_that_matches_begins_nothing(self, bench: Bench, run: Run) -> None:
        assert "No job matches" in run("jobs", "retry", "--action", "mail", "--background").stdout
        assert json.loads(run("jobs", "retry", "--action", "mail", "--background", "--json").stdout)["chosen"] == 0

    def test_replays(self, bench: Bench, run: Run) -> None:
        bench.story.tell("evcus_1")
        id = began(run, "deliveries", "replay", "--state", "ignored", "--action", "mail")
        found = bench.get(id)
        assert (found.verb.name, found.request.only, found.request.which.action) == ("replay", ("mail",), None)
        assert bench.work(id).done == 1

    def test_again_leaves_alone_what_pays_and_must_know_what_does(self, bench: Bench, run: Run) -> None:
        bench.story.tell("evcus_1", "mail")
        bench.perform("done")
        command = ("deliveries", "replay", "--since", "1h", "--again", "--background")
        assert "name one with --action" in run(*command, status=1).stderr
        assert bench.get(began(run, *command[:-1], "--action", "mail")).request.skip == ()


class TestCommands:
    def test_list_and_show_as_json_have_every_field(self, bench: Bench, run: Run) -> None:
        bench.dead(4, errors=2)
        id = began(run, "jobs", "retry", "--action", "mail", "--why", "mended")
        bench.work(id)
        bench.perform("dead", text="answered 500")
        (found,) = listed(run("operations", "list", "--json"))
        assert set(found) == {
            "id", "verb", "subject", "state", "reason", "by", "why", "began_at", "moved_at", "ended_at", "expected",
            "seen", "done", "refused", "not_done", "states", "actions", "errors", "tried", "rate",
        }  # fmt: skip
        assert (found["id"], found["state"], found["done"], found["why"]) == (id, "done", 4, "mended")
        shown = json.loads(run("operations", "show", id, "--json").stdout)
        assert shown.pop("became") == {
            "states": {"dead": 4}, "jobs": {}, "errors": {"answered 500": 4}, "gone": 0, "whole": True,
        }  # fmt: skip
        assert shown == found

    def test_show_says_what_became_of_them(self, bench: Bench, run: Run) -> None:
        names = bench.dead(3)
        id = began(run, "jobs", "drop", *names, "none:of:them", "--why", "old")
        bench.work(id)
        text = run("operations", "show", id[-6:]).stdout
        assert "Now: 3 skipped." in text
        assert "Left alone 1 job: there is no such job" in text
        assert "none:of:them" in text

    def test_what_was_filed_since_is_counted_too(
        self, bench: Bench, run: Run, environ: dict[str, str], tmp_path: Path
    ) -> None:
        # Given an operation of which one job was filed and has left the ledger, and one is in neither
        names = bench.dead(3)
        id = began(run, "jobs", "retry", *names)
        bench.work(id)
        jobs = {name: bench.reader.job(name) for name in names}
        for name in names[1:]:
            info = jobs[name]
            assert info is not None
            bench.ledger.forget([], [(info.delivery, SOURCE)])
        filed = jobs[names[1]]
        assert filed is not None
        job = FiledJob(key=names[1], action="mail", state="dead", changed_ms=1, text="answered 500")
        row = FiledDelivery(
            id=filed.delivery, source=SOURCE, state="processed", settled_ms=1, body=b"{}", event_id=filed.event_id,
            type="t", names=("mail",), jobs=(job,),
        )  # fmt: skip
        environ["TIERCAST_HISTORY_URL"] = f"sqlite:///{tmp_path}/history.db"
        with History(HistoryAddress.read(environ["TIERCAST_HISTORY_URL"])) as history:
            history.file([row])

        # Then the former is counted with what became of it
        became = json.loads(run("operations", "show", id, "--json").stdout)["became"]
        assert (became["states"], became["errors"], became["gone"]) == (
            {"owed": 1, "dead": 1}, {"answered 500": 1}, 1,
        )  # fmt: skip

        # and where the history cannot be read, what there is is shown
        (tmp_path / "history.db").write_bytes(b"this is no database, and long enough to be seen as such by its header")
        result = run("operations", "show", id, "--json")
        assert json.loads(result.stdout)["became"]["gone"] == 2
        assert "What was filed is not counted" in result.stderr

    def test_cancel(self, bench: Bench, run: Run) -> None:
        bench.dead(3)
        id = began(run, "jobs", "retry", "--action", "mail")
        assert f"Cancelled {id}" in run("operations", "cancel", id, "--why", "wrong").stdout
        assert "it is cancelled" in run("operations", "cancel", id, status=1).stderr
        assert "not stopped" in run("operations", "continue", id, status=1).stderr
        assert "There is no operation" in run("operations", "show", "nope", status=1).stderr

    def test_one_that_was_stopped_goes_on(self, bench: Bench, run: Run) -> None:
        bench.dead(10)
        id = began(run, "jobs", "retry", "--action", "mail", "--try-first")
        bench.work(id, until=lambda one: one.tried is not None)
        bench.perform("dead", text="answered 403")
        assert bench.work(id).state == "stopped"
        shown = run("operations", "show", id).stdout
        assert "is dead again: answered 403" in shown
        assert "5 dead" in shown
        run("operations", "continue", id, "--why", "403 is expected")
        assert bench.work(id).done == 10

    def test_a_table_fits_a_terminal(self, bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "No operations." in run("operations", "list").stdout
        bench.dead(1)
        began(run, "jobs", "retry", "--action", "mail", "--source", SOURCE, "--since", "2h")
        monkeypatch.setattr(output, "is_terminal", lambda: True)
        monkeypatch.setenv("COLUMNS", "80")
        lines = run("operations", "list").stdout.splitlines()
        assert len(lines) == 2
        assert all(len(line) <= 80 for line in lines)

    def test_the_lane_can_be_paused_by_its_name(self, bench: Bench, run: Run) -> None:
        bench.dead(1)
        began(run, "jobs", "retry", "--action", "mail")
        run("lanes", "pause", "operations/all", "--reason", "calm down")
        assert bench.claim() is None
        lanes: list[dict[str, Any]] = listed(run("lanes", "list", "--json"))
        (lane,) = [lane for lane in lanes if lane["name"] == "operations/all"]
        assert (lane["owed"], lane["paused"]) == (1, True)
