"""The receiver while the disk under its spool is full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.disk import NoNamespaces, SmallDisk
from tests.door import Door, opened, until
from tests.integration.test_spool import ready, stored
from tiercast.embedded import EmbeddedServer


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A ledger's server of the test's own, which it may ill-treat."""
    server = EmbeddedServer(tmp_path / "ledger")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        with SmallDisk(tmp_path / "spool") as made:
            yield made
    except NoNamespaces as error:
        pytest.skip(str(error))


def test_a_full_disk_under_the_spool_is_503_and_what_was_acknowledged_is_moved_before_there_is_room(
    own: EmbeddedServer, disk: SmallDisk, tmp_path: Path
) -> None:
    env, through = {"TIERCAST_SPOOL_DIR": str(disk.folder)}, disk.enter(tmp_path)
    acknowledged: dict[str, bytes] = {}

    def post(door: Door) -> httpx.Response:
        answer = door.post(body := os.urandom(2000))
        if answer.status_code == 202:
            acknowledged[answer.json()["delivery"]] = body
        return answer

    with opened(own, tmp_path, env=env, through=through, workers=1) as door:
        # Given a ledger that is away, and a disk that runs full
        own.kill()
        disk.fill(leave=300_000)
        until(lambda: post(door).status_code == 503)
        assert acknowledged
        disk.fill()

        # Then what can be stored nowhere is refused, and said to be
        refused = post(door)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert ready(door)[0] == 503
        assert "Traceback" not in door.log()
        door.kill()

    # When another receiver starts on the full disk, and the ledger is back
    own.start()
    with opened(own, tmp_path, env=env, through=through, workers=1) as door:
        # Then everything that was acknowledged moves, though nothing can be written
        until(lambda: stored(own) == acknowledged)
        until(lambda: '"spool.not_emptied"' in door.log())

        # And the room that this gives is used when the ledger goes again
        own.kill()
        until(lambda: post(door).status_code == 202)
        own.start()
        until(lambda: stored(own) == acknowledged)
