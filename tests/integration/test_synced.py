"""What is acknowledged was synced before: seen in the system calls, since a killed process does not show it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.door import opened
from tests.stack import wait_for
from tests.tracing import Call, calls, first, strace, synced_after
from tiercast.embedded import EmbeddedServer
from tiercast.ids import new_delivery_id
from tiercast.ledger import Ledger
from tiercast.ledger.client import connect

_WRITES = ("write", "writev", "sendto", "sendmsg")


def answer_of(found: list[Call], delivery: str) -> Call | None:
    """The call that sent the receiver's answer for a delivery."""
    return first(found, lambda call: call.name in _WRITES and call.file.startswith("socket:") and delivery in call.text)


def reply_of(found: list[Call], delivery: str) -> Call | None:
    """The call that sent the ledger's reply to whoever had it record a delivery."""
    asked = first(
        found,
        lambda call: call.name in ("read", "recvfrom") and call.file.startswith("socket:") and delivery in call.text,
    )
    if asked is None:
        return None
    return first(
        found,
        # Before it, it may have said that it does not know the script yet.
        lambda call: (
            call.name in _WRITES and call.file == asked.file and call.began > asked.began and "OK" in call.text
        ),
    )


def test_the_spool_is_synced_before_the_answer_leaves(tmp_path: Path) -> None:
    # Given a receiver with a spool, whose ledger is away
    trace = tmp_path / "trace"
    own = EmbeddedServer(tmp_path / "ledger")
    env = {"TIERCAST_SPOOL_DIR": str(tmp_path / "spool")}
    with opened(own, tmp_path, env=env, workers=1, through=strace(trace)) as door:
        # When requests come, some of them together
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda n: door.post(b"%d" % n), range(40)))
        assert {answer.status_code for answer in answers} == {202}
        deliveries = [answer.json()["delivery"] for answer in answers]
        wait_for(lambda: all(answer_of(calls(trace), delivery) for delivery in deliveries))

    # Then each answer left after the write-ahead log, with its delivery in it, had been synced
    found = calls(trace)
    for delivery in deliveries:
        answer = answer_of(found, delivery)
        synced = synced_after(found, delivery, file=".db-wal")
        assert answer is not None
        assert "202 Accepted" in answer.text
        assert synced is not None
        assert synced < answer.began


class TracedServer(EmbeddedServer):
    """An embedded server whose system calls are told."""

    def command(self) -> list[str]:
        """The command line that starts it."""
        return [*strace(self.folder / "trace"), *super().command()]


def test_the_ledgers_file_is_synced_before_it_replies(tmp_path: Path) -> None:
    # Given a ledger as `tiercast up` starts it
    with TracedServer(tmp_path / "ledger") as server:
        client = connect(server.url, timeout=10)
        ledger = Ledger(client, prefix="t")
        # When it records deliveries
        deliveries = [new_delivery_id() for _ in range(20)]
        for delivery in deliveries:
            ledger.record([("voucherify", delivery, b"body")])
        client.close()
        wait_for(lambda: all(reply_of(calls(server.folder / "trace"), delivery) for delivery in deliveries))
        found = calls(server.folder / "trace")

    # Then it replied to each after the append-only file, with the delivery in it, had been synced
    for delivery in deliveries:
        reply = reply_of(found, delivery)
        synced = synced_after(found, delivery, file=".aof")
        assert reply is not None
        assert synced is not None
        assert synced < reply.began
