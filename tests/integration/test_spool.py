"""The receiver while the ledger is away, hangs, is full or read-only: what is acknowledged stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.door import BODY, Door, opened, until
from tests.stack import wait_for
from tiercast.embedded import EmbeddedServer
from tiercast.errors import LedgerError, LedgerUnavailable
from tiercast.ids import new_delivery_id, received_ms
from tiercast.ledger import Ledger, open_ledger, prepare
from tiercast.ledger.client import connect
from tiercast.ledger.model import Claim
from tiercast.settings import load_settings


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A ledger's server of the test's own, which it may ill-treat."""
    server = EmbeddedServer(tmp_path / "ledger")
    server.start()
    try:
        yield server
    finally:
        if server.process is not None:
            server.process.send_signal(signal.SIGCONT)
        server.kill()


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"TIERCAST_SPOOL_DIR": str(tmp_path / "spool")}


@contextmanager
def ledger_of(server: EmbeddedServer) -> Iterator[Ledger]:
    client = connect(server.url, timeout=10)
    try:
        yield Ledger(client, prefix="t")
    finally:
        client.close()


def due(server: EmbeddedServer) -> dict[str, int]:
    """What the lane owes, with when it was due."""
    with ledger_of(server) as ledger:
        found: Any = ledger.client.zrange("t:due:deliveries/voucherify", 0, -1, withscores=True)
        return {delivery.decode(): int(at) for delivery, at in found}


def stored(server: EmbeddedServer) -> dict[str, bytes]:
    """Every body in the ledger, by delivery id."""
    with ledger_of(server) as ledger:
        keys = list(ledger.client.scan_iter("t:b:*", count=1000))
        values: Any = ledger.client.mget(keys) if keys else []
        return {key.decode()[4:]: body for key, body in zip(keys, values, strict=True)}


class Sender:
    """Posts distinct bodies at a rate until told to stop, and keeps what each was answered."""

    def __init__(self, door: Door, *, rate: float) -> None:
        self.door = door
        self.rate = rate
        self.acknowledged: dict[str, bytes] = {}
        self.others: list[int] = []
        self.seconds: list[float] = []
        self._stopping = threading.Event()

    def _post(self, number: int) -> None:
        body = b'{"n": %d}' % number
        started = time.monotonic()
        answer = self.door.post(body)
        self.seconds.append(time.monotonic() - started)
        if answer.status_code == 202:
            self.acknowledged[answer.json()["delivery"]] = body
        else:
            self.others.append(answer.status_code)

    def _run(self) -> None:
        started = time.monotonic()
        with ThreadPoolExecutor(32) as pool:
            number = 0
            while not self._stopping.is_set():
                pool.submit(self._post, number)
                number += 1
                time.sleep(max(0.0, started + number / self.rate - time.monotonic()))

    def __enter__(self) -> Sender:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()


def test_while_the_ledger_is_away_all_is_acknowledged_and_moved_when_it_is_back(
    own: EmbeddedServer, env: dict[str, str], tmp_path: Path
) -> None:
    with opened(own, tmp_path, env=env) as door:
        with Sender(door, rate=100) as sender:
            # Given a stream of deliveries, when the ledger is killed
            until(lambda: len(sender.acknowledged) > 50)
            own.kill()
            began = len(sender.seconds)
            until(lambda: len(sender.seconds) > began + 200, 60)

            # Then readyz says that it can store all the same, and how
            ready = door.http.get("/readyz")
            assert ready.status_code == 200
            assert "wait in the spool" in ready.json()["reason"]
            during = sorted(sender.seconds[began:])
            own.start()
            until(lambda: door.http.get("/readyz").json() == {"status": "ok"})
        until(lambda: len(stored(own)) >= len(sender.acknowledged), 60)
        assert during[len(during) // 2] < 0.1

        # And everything that was acknowledged is there, as it came, due when it arrived, once
        assert sender.others == []
        assert stored(own) == sender.acknowledged
        times = due(own)
        assert set(times) == set(sender.acknowledged)
        assert all(abs(at - received_ms(delivery)) <= 2000 for delivery, at in times.items())
        until(lambda: door.log().count("spool.closed") >= 1)
        assert "Traceback" not in door.log()


def test_a_ledger_that_hangs_counts_as_away_within_a_second(
    own: EmbeddedServer, env: dict[str, str], tmp_path: Path
) -> None:
    with opened(own, tmp_path, env=env, workers=1) as door:
        assert door.post().status_code == 202
        assert own.process is not None

        # When the ledger freezes
        own.process.send_signal(signal.SIGSTOP)

        # Then requests that come together wait for it once, not each
        started = time.monotonic()
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda n: door.post(b"%d" % n).status_code, range(20)))
        assert answers == [202] * 20
        assert time.monotonic() - started < 3

        # And later ones do not wait
        seconds = []
        for n in range(20):
            started = time.monotonic()
            assert door.post(b"later %d" % n).status_code == 202
            seconds.append(time.monotonic() - started)
        assert sorted(seconds)[10] < 0.2

        # And when it goes on, all is there once: also what it was sent while frozen
        own.process.send_signal(signal.SIGCONT)
        until(lambda: len(stored(own)) == 41)
        until(lambda: "spool.closed" in door.log())
        assert (len(stored(own)), len(due(own))) == (41, 41)


def test_what_a_killed_receiver_spooled_is_moved_by_the_next_which_starts_without_the_ledger(
    own: EmbeddedServer, env: dict[str, str], tmp_path: Path
) -> None:
    # Given a receiver that is killed, with all its processes, while the ledger is away
    own.kill()
    acknowledged: dict[str, bytes] = {}
    with opened(own, tmp_path, env=env) as door:
        for n in range(30):
            answer = door.post(b"first %d" % n)
            assert answer.status_code == 202
            acknowledged[answer.json()["delivery"]] = b"first %d" % n
        door.kill()

    # When another starts, still without the ledger
    with opened(own, tmp_path, env=env) as door:
        answer = door.post(b"second")
        acknowledged[answer.json()["delivery"]] = b"second"
        own.start()

        # Then it moves the files of both
        until(lambda: stored(own) == acknowledged)
        until(
            lambda: all(path.suffix != ".db" or path.stat().st_size < 50_000 for path in (tmp_path / "spool").iterdir())
        )
        assert '"spool.adopted"' in door.log()


def test_without_a_spool_a_full_ledger_is_503_and_with_one_it_is_202(
    own: EmbeddedServer, env: dict[str, str], tmp_path: Path
) -> None:
    limits = {"TIERCAST_MAX_OWED": "3"}
    with opened(own, tmp_path, env=limits, workers=1) as door:
        assert [door.post(b"%d" % n).status_code for n in range(4)] == [202, 202, 202, 503]
        refused = door.post()
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")

    with opened(own, tmp_path, env=env | limits, workers=1) as door:
        assert [door.post(b"more %d" % n).status_code for n in range(4)] == [202] * 4
        assert len(stored(own)) == 3

        # When what is owed is worked off, then the rest moves in
        with ledger_of(own) as ledger:
            ledger.client.delete("t:due:deliveries/voucherify")
        until(lambda: len(stored(own)) == 6)


@pytest.mark.parametrize("share", [1.1, 0.9])
def test_a_ledger_out_of_memory_is_relieved_by_the_spool(
    own: EmbeddedServer, env: dict[str, str], tmp_path: Path, share: float
) -> None:
    """Both above our share of its memory, and above all of it, where the server itself refuses to write."""
    with ledger_of(own) as ledger:
        # Given a receiver without a spool, when the ledger's memory is used up
        with opened(own, tmp_path, workers=1) as door:
            assert [door.post(os.urandom(100_000)).status_code for _ in range(5)] == [202] * 5
            used = int(ledger.client.info("memory")["used_memory"])
            ledger.client.config_set("maxmemory", round(share * used))
            until(lambda: door.post(b"refused").status_code == 503)
            until(lambda: "memory" in ready(door)[1])
            assert ready(door)[0] == 503
        before = len(stored(own))

        # When there is a spool, then it takes over, also in a receiver that only starts now
        with opened(own, tmp_path, env=env, workers=1) as door:
            assert [door.post(os.urandom(100_000)).status_code for _ in range(5)] == [202] * 5
            assert len(stored(own)) == before

            # Until there is memory again
            ledger.client.config_set("maxmemory", 100 * used)
            until(lambda: len(stored(own)) == before + 5)


def test_a_ledger_that_became_a_replica_takes_nothing_and_the_spool_does(
    own: EmbeddedServer, env: dict[str, str], tmp_path: Path
) -> None:
    with opened(own, tmp_path, env=env, workers=1) as door, ledger_of(own) as ledger:
        assert door.post().status_code == 202
        ledger.client.replicaof("127.0.0.1", "1")
        assert [door.post(b"%d" % n).status_code for n in range(3)] == [202] * 3
        assert "replica" in door.http.get("/readyz").json()["reason"]

        ledger.client.replicaof("NO", "ONE")
        until(lambda: len(stored(own)) == 4)


def test_a_full_spool_is_503_with_retry_after(own: EmbeddedServer, env: dict[str, str], tmp_path: Path) -> None:
    own.kill()
    with opened(own, tmp_path, env=env | {"TIERCAST_SPOOL_MAX": str(2**20)}, workers=1) as door:
        answers = [door.post(os.urandom(200_000)) for _ in range(8)]

        assert answers[0].status_code == 202
        assert (answers[-1].status_code, answers[-1].headers["Retry-After"]) == (503, "5")
        # A small one may still find room; the file itself stays within the limit.
        assert sum(path.stat().st_size for path in (tmp_path / "spool").glob("*.db")) <= 2**20
        assert "Traceback" not in door.log()


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_spool_that_cannot_be_used_is_an_error_at_start(server: EmbeddedServer, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TIERCAST_")},
        "TIERCAST_REDIS_URL": server.url,
        "TIERCAST_WEBHOOK_SECRETS": "a-secret-of-tests",
        "TIERCAST_SPOOL_DIR": str(tmp_path / where),
    }
    done = subprocess.run(
        [sys.executable, "-m", "receiver", "--port", "1"],
        env=env, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2], timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert "TIERCAST_SPOOL_DIR" in done.stderr
    assert "Traceback" not in done.stderr


# --- durability


@pytest.fixture
def replica(own: EmbeddedServer, tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A replica of `own`."""
    server = EmbeddedServer(tmp_path / "replica", replicaof=f"127.0.0.1 {own.port}")
    server.start()
    try:
        yield server
    finally:
        if server.process is not None:
            server.process.send_signal(signal.SIGCONT)
        server.kill()


def ready(door: Door) -> tuple[int, str]:
    answer = door.http.get("/readyz")
    return answer.status_code, answer.json().get("reason", "")


def test_what_a_replica_does_not_confirm_in_time_is_not_stored(
    own: EmbeddedServer, replica: EmbeddedServer, tmp_path: Path
) -> None:
    with opened(own, tmp_path, env={"TIERCAST_DURABILITY": "replica:1"}, workers=1) as door:
        until(lambda: ready(door)[0] == 200)
        assert door.post(BODY).status_code == 202
        assert len(stored(replica)) == 1
        assert replica.process is not None

        # When the replica freezes, then nothing is acknowledged
        replica.process.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        refused = door.post(b"refused")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert time.monotonic() - started < 3

        # When it is back, then it is again
        replica.process.send_signal(signal.SIGCONT)
        until(lambda: door.post(b"again").status_code == 202)
        assert b"again" in stored(replica).values()

        # And when it is gone, then readyz says so
        replica.kill()
        until(lambda: ready(door)[0] == 503)
        assert "replica:1" in ready(door)[1]


def test_what_a_replica_did_not_confirm_waits_in_the_spool_until_it_does(
    own: EmbeddedServer, replica: EmbeddedServer, env: dict[str, str], tmp_path: Path
) -> None:
    with opened(own, tmp_path, env=env | {"TIERCAST_DURABILITY": "replica:1"}, workers=1) as door:
        until(lambda: ready(door) == (200, ""))
        assert replica.process is not None

        # Given a frozen replica: the ledger has the write, but it does not count
        replica.process.send_signal(signal.SIGSTOP)
        answer = door.post(b"one")
        assert answer.status_code == 202
        assert stored(own) == {answer.json()["delivery"]: b"one"}
        until(lambda: '"ledger.away"' in door.log())

        # Then it stays in the spool though the ledger is asked again and again, on connections old and new
        with ledger_of(own) as ledger:
            ledger.client.client_kill_filter(_type="normal", skipme=True)
        before = writes(own)
        until(lambda: writes(own) >= before + 3)
        assert "deliveries.moved" not in door.log()

        # And leaves it, undoubled, when the replica confirms
        replica.process.send_signal(signal.SIGCONT)
        until(lambda: '"deliveries.moved"' in door.log())
        assert stored(replica) == stored(own) == {answer.json()["delivery"]: b"one"}
        assert len(due(own)) == 1
        until(lambda: ready(door) == (200, ""))


def test_a_repeated_write_is_not_believed_to_have_reached_a_replica_that_hangs(
    own: EmbeddedServer, replica: EmbeddedServer
) -> None:
    """WAIT on a connection that wrote nothing says at once that all is well."""
    deliveries = [("voucherify", new_delivery_id(), b"x")]
    with ledger_of(own) as ledger:
        until(lambda: ledger.client.info("replication").get("slave0", {}).get("state") == "online")
    assert replica.process is not None
    replica.process.send_signal(signal.SIGSTOP)

    for _ in range(2):
        # Another receiver is at work, so that the repeated script has nothing at all to write.
        with ledger_of(own) as other:
            other.record([("voucherify", new_delivery_id(), b"another")])
        client = connect(own.url, timeout=5)
        with pytest.raises(LedgerUnavailable, match="0 of 1 replicas"):
            Ledger(client, prefix="t", replicas=1, replica_timeout=0.2).record(deliveries)
        client.close()

    replica.process.send_signal(signal.SIGCONT)
    client = connect(own.url, timeout=10)
    Ledger(client, prefix="t", replicas=1, replica_timeout=8).record(deliveries)
    client.close()
    assert stored(replica) == stored(own)
    assert len(due(own)) == 3


def writes(server: EmbeddedServer) -> int:
    """How many times replicas were waited for."""
    with ledger_of(server) as ledger:
        return int(ledger.client.info("commandstats").get("cmdstat_wait", {}).get("calls", 0))


def test_readyz_sees_when_the_ledger_stops_syncing(own: EmbeddedServer, tmp_path: Path) -> None:
    with opened(own, tmp_path, env={"TIERCAST_DURABILITY": "fsync"}, workers=1) as door, ledger_of(own) as ledger:
        assert ready(door) == (200, "")
        # What is known is remembered for a second
        ledger.client.config_set("appendfsync", "everysec")
        wait_for(lambda: ready(door)[0] == 503)
        assert "appendfsync always" in ready(door)[1]
        ledger.client.config_set("appendfsync", "always")
        wait_for(lambda: ready(door) == (200, ""))


# --- access


#: The least that a user of the ledger needs; PREFIX is TIERCAST_PREFIX. The broker's keys come on top where it is the
#: same server.
ACL = (
    "resetkeys ~t:* resetchannels -@all +@read +@write +@scripting +@connection -@dangerous "
    "+multi +exec +discard +time +wait +info +role +config|get +bgrewriteaof"
)


def test_a_user_with_few_rights_is_enough_and_one_with_too_few_is_refused(own: EmbeddedServer, tmp_path: Path) -> None:
    with ledger_of(own) as ledger:
        admin: Any = ledger.client
        admin.execute_command("ACL", "SETUSER", "tiercast", "on", ">acl-password", *ACL.split())
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">acl-password", "~*", "+@read", "+info")
    url = f"redis://tiercast:acl-password@127.0.0.1:{own.port}/0"

    with opened(own, tmp_path, env={"TIERCAST_REDIS_URL": url, "TIERCAST_DURABILITY": "fsync"}, workers=1) as door:
        answer = door.post()
        assert answer.status_code == 202
        assert ready(door) == (200, "")
        assert "acl-password" not in door.log()

    client = connect(url, timeout=5)
    worker = Ledger(client, prefix="t")
    assert [one.id for one in worker.exchange_deliveries("voucherify", claim=Claim(token="x", n=9)).claimed] == [
        answer.json()["delivery"]
    ]
    worker.due(["deliveries/voucherify"])
    worker.trim()
    worker.shift()
    client.close()

    settings = load_settings({"TIERCAST_REDIS_URL": f"redis://reader:acl-password@127.0.0.1:{own.port}/0"})
    refused = open_ledger(settings, role="operator")
    with pytest.raises(LedgerError, match=r"NOPERM|permission") as caught:
        prepare(refused, settings)
    assert "acl-password" not in str(caught.value)
    refused.client.close()


def test_front_door_answers_health_while_everything_is_away(own: EmbeddedServer, tmp_path: Path) -> None:
    own.kill()
    door = Door(own, tmp_path, workers=1)
    try:
        until(lambda: alive(door))
        assert ready(door)[0] == 503
        assert door.post().status_code == 503
    finally:
        door.http.close()
        door.process.terminate()
        door.process.wait(10)


def alive(door: Door) -> bool:
    try:
        return door.http.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False
