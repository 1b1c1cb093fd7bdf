"""The scenario of a full disk under the spool, while the ledger is away."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.disk import NoNamespaces, SmallDisk
from tests.stack import wait_for

from .arena import CAPACITY, Arena, pause
from .audit import unsettled
from .scenario import CannotBeShown, Scenario
from .sender import Sender

#: Bytes that the spool finds room for before its disk is full.
_ROOM = 400_000

#: Seconds that moving may take while the disk is full.
_PATIENCE = 60.0


class Cramped(Arena):
    """The arena with the receivers' spool on a small disk of its own."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.disk = SmallDisk(folder / "spool")
        self._env["TIERCAST_SPOOL_DIR"] = str(self.disk.folder)

    def __enter__(self) -> Self:
        try:
            self.disk.__enter__()
        except NoNamespaces as error:
            raise CannotBeShown(str(error)) from None
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.disk.__exit__()

    def start(
        self, name: str, *command: str, env: Mapping[str, str] | None = None, through: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a process; a receiver on the disk."""
        if command[0] == "receiver":
            through = self.disk.enter(Path(__file__).parents[2])
        return super().start(name, *command, env=env, through=through)


class FullSpoolDisk(Scenario):
    """Fill the disk under the spool while the ledger is away, and restart a receiver; all is moved while it is full."""

    name = "full-spool-disk"
    stage = Cramped

    def __init__(self) -> None:
        self._wrong: list[str] = []

    def disturb(self, arena: Arena, sender: Sender) -> int:
        assert isinstance(arena, Cramped)
        sender.wait(0.1)
        arena.disk.fill(leave=_ROOM)
        arena.server.kill()
        before = len(sender.accepted)
        wait_for(lambda: sender.refused["503"] >= 20, seconds=60)
        # Somebody else takes what is left, so that nothing more can be written at all.
        arena.disk.fill()
        spooled = len(sender.accepted) - before
        self._say("nothing was spooled: the scenario shows nothing", spooled == 0)
        self._say("a receiver says that it can store, and cannot", any(arena.ready(port) for port in arena.ports()))

        name = next(iter(arena.webs))
        arena.restart_web(name)
        self._say("the disk was not full: the scenario shows nothing", not arena.disk.is_full())
        arena.server.start()
        self._say("what was spooled is not moved while the disk is full", not _all_settled(arena, sender))
        told = any('"spool.not_emptied"' in arena.log(web) for web in arena.webs)
        self._say("what was moved could be deleted: the scenario shows nothing", not told)
        wait_for(lambda: all(arena.ready(port) for port in arena.ports()), seconds=60)

        arena.disk.clear()
        refused = sender.refused["503"]
        arena.server.kill()
        pause(2)
        self._say("refused though the disk has room again", sender.refused["503"] > refused)
        arena.server.start()
        return 2 * CAPACITY

    def check(self, arena: Arena, sender: Sender) -> list[str]:
        others = [f"{count} answers were {status}" for status, count in sender.refused.items() if status != "503"]
        return [*self._wrong, *(text for text in others if not text.endswith("no answer"))]

    def _say(self, text: str, is_so: bool) -> None:
        if is_so:
            self._wrong.append(text)


def _all_settled(arena: Arena, sender: Sender) -> bool:
    """Whether all that was accepted so far is settled in time."""
    deliveries = [one.delivery for one in sender.accepted]
    with contextlib.suppress(AssertionError):
        return wait_for(lambda: not unsettled(arena, deliveries), seconds=_PATIENCE, every=0.5)
    return False
