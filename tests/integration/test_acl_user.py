"""The documented user of the ledger is enough for receivers, workers and commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.stack import Stack
from tiercast.embedded import EmbeddedServer
from tiercast.errors import LedgerUnsuited
from tiercast.ledger import open_ledger, prepare
from tiercast.settings import load_settings

ROOT = Path(__file__).parents[2]
CONFIG = '[actions.say]\nkind = "log"\nmessage = "hello"\norder = "latest"\n\n[[rules]]\non = "*"\ndo = ["say"]\n'


def documented() -> list[str]:
    """The command of the docs, as words."""
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    found = re.search(r"ACL SETUSER tiercast on >PASSWORD ([^`]*)```", text)
    assert found
    return found[1].split()


def test_the_documented_user_can_do_everything(server: EmbeddedServer, client: Any, tmp_path: Path) -> None:
    with Stack(tmp_path, CONFIG) as stack:
        admin: Any = stack.client
        admin.execute_command("ACL", "SETUSER", "tiercast", "on", ">a-password", *documented())
        stack.change_env(
            TIERCAST_REDIS_URL=f"redis://tiercast:a-password@127.0.0.1:{stack.server.port}/0",
            TIERCAST_BROKER_URL=server.url,
        )
        stack.start_web()
        stack.start_worker()
        delivery = stack.send()
        (job,) = stack.settled(delivery).values()
        assert job.state == "done"
        for command in (
            ("deliveries", "list", "--json"),
            ("deliveries", "list", "--customer", "ines.okafor@example.com"),
            ("deliveries", "show", delivery, "--body"),
            ("deliveries", "replay", delivery, "--yes"),
            ("jobs", "list"),
            ("jobs", "show", job.key),
            ("lanes", "list"),
            ("lanes", "pause", "say", "--reason", "a test"),
            ("lanes", "resume", "say"),
            ("check",),
        ):
            stack.cli(*command)
        assert "NOPERM" not in stack.log("web") + stack.log("worker")
        assert "permission" not in (stack.log("web") + stack.log("worker")).lower()


def test_a_server_that_hides_its_settings_works_and_check_says_what_it_did_not_see(
    server: EmbeddedServer, client: Any, tmp_path: Path
) -> None:
    # Given a user as managed servers have it
    rights = [right for right in documented() if right not in ("+config|get", "+bgrewriteaof")]
    with Stack(tmp_path, CONFIG) as stack:
        admin: Any = stack.client
        admin.execute_command("ACL", "SETUSER", "tiercast", "on", ">a-password", *rights)
        stack.change_env(
            TIERCAST_REDIS_URL=f"redis://tiercast:a-password@127.0.0.1:{stack.server.port}/0",
            TIERCAST_BROKER_URL=server.url,
        )

        # When it is used
        stack.start_web()
        stack.start_worker()
        (job,) = stack.settled(stack.send()).values()

        # Then it works, and what could not be seen is said
        assert job.state == "done"
        said = stack.cli("check")
        assert "refuses CONFIG GET, so its appendfsync could not be seen" in said
        assert "maxmemory-policy" not in said, "INFO says that"

        # But what cannot be seen is not promised
        settings = load_settings(stack.env | {"TIERCAST_DURABILITY": "fsync"})
        ledger = open_ledger(settings, role="operator")
        with pytest.raises(LedgerUnsuited, match=r"refuses CONFIG GET. Allow that"):
            prepare(ledger, settings)
        ledger.close()
