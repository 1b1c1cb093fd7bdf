"""The documented user of the ledger is enough for receivers, workers and commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.stack import Stack
from tiercast.embedded import EmbeddedServer

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
