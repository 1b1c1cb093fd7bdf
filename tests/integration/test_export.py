"""Everything of one customer in a zip file: complete, of nobody else, readable by its owner only."""

from __future__ import annotations

import json
import sqlite3
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cli_ledger import Run, Story, environ, listed, run, story
from tiercast.history.address import HistoryAddress
from tiercast.history.rows import FiledAttempt, FiledDelivery, FiledJob
from tiercast.history.store import History
from tiercast.ids import new_delivery_id
from tiercast.ledger.model import PlannedJob
from tiercast.samples import envelope, sample_data

__all__ = ["environ", "run", "story"]

JOINED = "customer.loyalty.tier.joined"
ADA: dict[str, Any] = {"customer_id": "cust_Ada0000001", "email": "ada@example.com", "source_id": "crm-ada-1815"}
BOB: dict[str, Any] = {"customer_id": "cust_Bob0000001", "email": "bob@example.com", "source_id": "crm-bob-77"}


def read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The documents of each file of an export."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = [name for name in archive.namelist() if name.endswith(".jsonl")]
        return {name[:-6]: [json.loads(line) for line in archive.read(name).splitlines()] for name in names}


@pytest.fixture
def told(story: Story) -> list[str]:
    """Two events of one customer, one of another, and one that cannot be read; returns the first one's deliveries."""
    first = story.tell("evcus_1", "mail", PlannedJob(action="points", once="abc"), **ADA)
    story.tell("evcus_2", "mail", **BOB)
    story.perform("mail", "done", text="sent")
    story.perform("points", "dead", text="HTTP 500")
    second = story.tell("evcus_3", "mail", **ADA)
    unread = story.arrive(json.dumps(envelope(JOINED, sample_data(**ADA), event_id="evcus_4")).encode())
    return [first, second, unread]


@pytest.mark.parametrize("name", ["customer_id", "email", "source_id"])
def test_it_holds_all_of_theirs_and_nothing_of_others(told: list[str], run: Run, tmp_path: Path, name: str) -> None:
    # When a customer is exported by any of their names
    path = tmp_path / "ada.zip"
    document = json.loads(run("export", ADA[name], "--out", str(path), "--why", "article 15", "--json").stdout)

    # Then the file has their deliveries with bodies, jobs with attempts, and places
    found = read(path)
    assert [one["id"] for one in found["deliveries"]] == sorted(told)
    assert {one["state"] for one in found["deliveries"]} == {"processed", "queued"}
    assert all(one["body"]["event"]["id"] in ("evcus_1", "evcus_3", "evcus_4") for one in found["deliveries"])
    jobs = {one["key"]: one for one in found["jobs"]}
    assert sorted(jobs) == ["voucherify:evcus_1:mail", "voucherify:evcus_1:points", "voucherify:evcus_3:mail"]
    assert (jobs["voucherify:evcus_1:mail"]["result"], jobs["voucherify:evcus_1:points"]["error"]) == (
        "sent",
        "HTTP 500",
    )
    assert jobs["voucherify:evcus_1:mail"]["history"][0]["outcome"] == "done"
    assert [(one["action"], one["sent_as"]) for one in found["places"]] == [
        ("points", jobs["voucherify:evcus_1:points"]["sent_as"])
    ]
    assert (document["deliveries"], document["jobs"], document["places"]) == (3, 3, 1)

    # and nothing of the other customer
    with zipfile.ZipFile(path) as archive:
        everything = b"".join(archive.read(each) for each in archive.namelist()).decode()
    assert not [value for value in BOB.values() if value in everything]
    assert "Everything that Tiercast keeps" in everything

    # and only its owner can read it, and the audit log knows of it by a digest
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    entry = listed(run("audit", "--json"))[0]
    assert (entry["verb"], entry["count"], entry["why"]) == ("export", 3, "article 15")
    assert entry["subject"].startswith("#")


def test_what_is_exported_is_what_forgetting_removes(told: list[str], run: Run, tmp_path: Path) -> None:
    before = json.loads(run("export", ADA["email"], "--out", str(tmp_path / "1.zip"), "--json").stdout)
    removed = json.loads(run("forget", ADA["email"], "--yes", "--json").stdout)
    after = json.loads(run("export", ADA["email"], "--out", str(tmp_path / "2.zip"), "--json").stdout)
    assert (before["deliveries"], before["jobs"]) == (removed["deliveries"], removed["jobs"]) == (3, 3)
    assert (after["deliveries"], after["jobs"], after["places"], after["audit"]) == (0, 0, 0, 0)


def test_what_operators_did_with_it_is_told_without_who(told: list[str], run: Run, tmp_path: Path) -> None:
    run("jobs", "retry", "voucherify:evcus_1:points")
    run("jobs", "drop", "voucherify:evcus_2:mail", status=1)
    path = tmp_path / "ada.zip"
    run("export", ADA["email"], "--out", str(path))
    (entry,) = read(path)["audit"]
    assert (entry["verb"], entry["subject"]) == ("retry", "voucherify:evcus_1:points")
    assert "by" not in entry


def test_a_body_that_is_no_json_comes_as_its_bytes(story: Story, run: Run, tmp_path: Path) -> None:
    story.arrive(b'\xff{"customer": {"id": "cust_Ada0000001"}}')
    path = tmp_path / "ada.zip"
    run("export", ADA["customer_id"], "--out", str(path))
    for one in read(path)["deliveries"]:
        assert one["body"] is None
        assert one["body_base64"]


def test_the_spool_of_this_machine_is_searched(
    told: list[str], run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    environ["TIERCAST_SPOOL_DIR"] = str(folder)
    with sqlite3.connect(folder / "one.db") as db:
        db.execute(
            "CREATE TABLE deliveries (seq INTEGER PRIMARY KEY, id TEXT, source TEXT, received INTEGER, body BLOB)"
        )
        for who in (ADA, BOB):
            body = json.dumps(envelope(JOINED, sample_data(**who))).encode()
            db.execute(
                "INSERT INTO deliveries (id, source, received, body) VALUES (?, 'voucherify', 1, ?)",
                (new_delivery_id(), body),
            )
    db.close()
    path = tmp_path / "ada.zip"
    run("export", ADA["email"], "--out", str(path))
    (spooled,) = read(path)["spooled"]
    assert spooled["body"]["data"]["customer"]["email"] == ADA["email"]


def test_a_file_that_is_there_stays_as_it_is(told: list[str], run: Run, tmp_path: Path) -> None:
    path = tmp_path / "ada.zip"
    path.write_bytes(b"precious")
    assert "is there already" in run("export", ADA["email"], "--out", str(path), status=1).stderr
    assert path.read_bytes() == b"precious"
    assert "cannot be written" in run("export", ADA["email"], "--out", str(tmp_path / "no" / "x.zip"), status=1).stderr
    assert listed(run("audit", "--json")) == []


def file_into(path: Path, *filed: FiledDelivery) -> str:
    """File deliveries into a history; returns its address."""
    address = f"sqlite:///{path}"
    with History(HistoryAddress.read(address)) as history:
        history.file(filed)
    return address


def filed_of(story: Story, event: str, who: dict[str, Any], *jobs: FiledJob, id: str | None = None) -> FiledDelivery:
    """A delivery as it was filed."""
    kinds = (("id", "customer_id"), ("source_id", "source_id"), ("email", "email"))
    return FiledDelivery(
        id=id or new_delivery_id(), source="voucherify", project="voucherify", state="processed",
        settled_ms=1_790_000_000_000, event_id=event, type=JOINED,
        body=json.dumps(envelope(JOINED, sample_data(**who), event_id=event)).encode(),
        at="2026-11-20T10:00:00.000Z", form="envelope", names=tuple(job.action for job in jobs), jobs=jobs,
        customer=tuple(story.digests.customer("voucherify", kind, who[name]) for kind, name in kinds if name in who),
    )  # fmt: skip


def test_what_was_filed_is_in_it_and_what_the_ledger_has_is_told_as_it_is_there(
    told: list[str], story: Story, run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    # Given a history with an older delivery of theirs, one that the ledger has, too, and one of somebody with that name
    attempt = FiledAttempt(number=1, started_ms=1_790_000_000_000, duration_ms=12, outcome="done", error="sent")
    old = FiledJob(
        key="voucherify:evcus_old:mail", action="mail", state="done", changed_ms=1_790_000_000_000, attempts=1,
        text="sent", history=(attempt,),
    )  # fmt: skip
    environ["TIERCAST_HISTORY_URL"] = file_into(
        tmp_path / "history.db",
        filed_of(story, "evcus_old", ADA, old),
        filed_of(story, "evcus_1", ADA, id=told[0]),
        filed_of(story, "evcus_bob", {**BOB, "source_id": ADA["source_id"]}),
    )

    # When they are exported by their id
    path = tmp_path / "ada.zip"
    document = json.loads(run("export", ADA["customer_id"], "--out", str(path), "--json").stdout)

    # Then all of it is there, each delivery once, and nothing of the other
    found = read(path)
    assert {one["event_id"] for one in found["deliveries"]} == {"evcus_old", "evcus_1", "evcus_3", None}
    assert len(found["deliveries"]) == document["deliveries"] == 4
    (told_old,) = [one for one in found["jobs"] if one["key"] == old.key]
    assert (told_old["result"], told_old["history"][0]["duration_ms"]) == ("sent", 12)
    assert len(found["jobs"]) == 4
    assert BOB["email"] not in path.read_bytes().decode("latin-1")
    assert BOB["email"] not in json.dumps(found)


def test_a_name_that_only_the_history_tells_leads_on(
    story: Story, run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    # Given an event with an email only in the ledger, and one with email and id in the history
    story.tell("evcus_mail", "mail", email=ADA["email"], customer_id="cust_Ada0000001", source_id=None)
    environ["TIERCAST_HISTORY_URL"] = file_into(tmp_path / "history.db", filed_of(story, "evcus_old", ADA))

    # When they are exported by the source id, which the ledger does not know
    path = tmp_path / "ada.zip"
    run("export", ADA["source_id"], "--out", str(path))

    # Then the id leads to the event in the ledger
    assert {one["event_id"] for one in read(path)["deliveries"]} == {"evcus_old", "evcus_mail"}


def test_a_history_that_cannot_be_read_fails_the_export(
    told: list[str], run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "history.db").write_bytes(b"this is no database, and long enough to be seen as such by its header")
    environ["TIERCAST_HISTORY_URL"] = f"sqlite:///{tmp_path}/history.db"
    path = tmp_path / "ada.zip"
    assert "history" in run("export", ADA["email"], "--out", str(path), status=1).stderr
    assert not path.exists()


def test_nobody_named_is_wrong_usage(run: Run) -> None:
    run("export", " ", status=2)
