"""`tiercast history`: what an operator sees of the database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from tests.histories import a_delivery, a_job, delivery_id
from tiercast.cli import main
from tiercast.embedded import EmbeddedServer
from tiercast.errors import HistoryRefused
from tiercast.history.address import HistoryAddress
from tiercast.history.store import History
from tiercast.ledger import open_ledger
from tiercast.settings import load_settings
from worker.filing.archive import Archive


def run(address: str, folder: Path, *args: str) -> Result:
    env = {"TIERCAST_HISTORY_URL": address, "TIERCAST_DATA": str(folder / "none"), "TIERCAST_KEEP_DAYS": ""}
    return CliRunner(env=env).invoke(main, ["history", *args])


def url_of(address: HistoryAddress) -> str:
    return f"sqlite:///{address.path}" if address.path else address.url.replace("+psycopg", "")


def test_status_of_a_history(history: History, tmp_path: Path) -> None:
    history.bind("ledger-1")
    history.file([a_delivery(n, a_job(n), a_job(n, "crm", state="dead", text="x")) for n in range(1200)])
    done = run(url_of(history.address), tmp_path, "status", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert (found["deliveries"], found["jobs"], found["filed_day"], found["keep_days"]) == (1200, 2400, 1200, 90.0)
    assert found["ledger"] == "ledger-1"
    assert found["oldest"] == "2026-09-21T14:13:20.000Z"

    shown = run(url_of(history.address), tmp_path, "status").output
    assert "1,200 filed, 0 removed" in shown
    assert "90 days (TIERCAST_KEEP_DAYS)" in shown
    assert "postgres@" not in shown


def test_migrating_makes_the_tables_once(history_at: HistoryAddress, tmp_path: Path) -> None:
    first = run(url_of(history_at), tmp_path, "migrate")
    again = run(url_of(history_at), tmp_path, "migrate")
    assert (first.exit_code, again.exit_code) == (0, 0), first.output
    assert "is up to date now." in first.output
    assert "was up to date." in again.output
    assert run(url_of(history_at), tmp_path, "status", "--json").exit_code == 0


def test_there_is_no_history_yet(tmp_path: Path) -> None:
    done = run(f"sqlite:///{tmp_path}/history.db", tmp_path, "status")
    assert done.exit_code == 1
    assert "There is no history" in done.output
    assert not (tmp_path / "history.db").exists()


@pytest.mark.parametrize("command", ["status", "migrate"])
def test_a_database_that_is_away(tmp_path: Path, command: str) -> None:
    done = run("postgresql://tiercast:hunter-two@127.0.0.1:1/tiercast", tmp_path, command)
    assert done.exit_code == 1
    assert "does not answer" in done.output
    assert "hunter-two" not in done.output


def test_a_ledger_adopts_a_history_that_belonged_to_another(
    history: History, client: redis.Redis, server: EmbeddedServer, tmp_path: Path
) -> None:
    history.bind("a ledger that was lost")
    env = {
        "TIERCAST_HISTORY_URL": url_of(history.address),
        "TIERCAST_REDIS_URL": server.url,
        "TIERCAST_PREFIX": "t",
        "TIERCAST_DATA": str(tmp_path / "none"),
        "TIERCAST_CONFIG": str(tmp_path / "none.toml"),
    }
    settings = load_settings(env)
    ledger = open_ledger(settings, role="operator")
    archive = Archive(settings.history, ledger)
    with pytest.raises(HistoryRefused, match="tiercast history adopt"):
        archive.open()
    refused = CliRunner(env=env).invoke(main, ["history", "adopt"])
    assert refused.exit_code != 0, "nobody answered"
    with pytest.raises(HistoryRefused):
        archive.open()

    done = CliRunner(env=env).invoke(main, ["history", "adopt", "--yes"])

    assert done.exit_code == 0, done.output
    archive.open()
    archive.close()
    # Then it takes no other one any more
    other = History(HistoryAddress.read(f"sqlite:///{tmp_path}/other.db"))
    other.close()
    with pytest.raises(HistoryRefused, match="files into another history"):
        Archive(other.address, ledger).open()


def test_who_was_forgotten_since_a_backup_is_forgotten_when_a_worker_opens_it(
    history: History, client: redis.Redis, server: EmbeddedServer
) -> None:
    # Given a history that was put back, with a customer whom the ledger has forgotten since
    ledger = open_ledger(load_settings({"TIERCAST_REDIS_URL": server.url, "TIERCAST_PREFIX": "t"}), role="operator")
    history.file([a_delivery(1, a_job(1), customer=("ada-i", "ada-e")), a_delivery(2, customer=("bob-i",))])
    ledger.forget(["ada-i", "ada-e"])

    archive = Archive(history.address, ledger)
    archive.open()
    archive.close()

    left = history.reading.by_id([delivery_id(1), delivery_id(2)])
    assert [each.id for each in left] == [delivery_id(2)]
