"""A primary with replicas, and sentinels that move to a replica when the primary is gone. All of them are real."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

import redis

from tests.stack import wait_for
from tiercast.embedded import EmbeddedServer, find_server, free_port

#: The name of the primary, and what sentinels want of those who ask them.
NAME = "the-ledger"
PASSWORD = "of-the-sentinels"

#: Milliseconds without an answer after which a sentinel takes a primary to be down.
_DOWN_MS = 1000


class Sentinels:
    """Three sentinels that watch a primary with replicas. A context manager.

    Args:
        folder: where the data of all of them lies.
        primary: the server that is the primary at first; it is started by whoever has it.
        replicas: how many replicas it has.
    """

    def __init__(self, folder: Path, primary: EmbeddedServer, *, replicas: int = 1) -> None:
        self._folder = folder
        self._primary = primary
        self._replicas = [
            EmbeddedServer(folder / f"replica-{n}", repl_diskless_sync_delay="0") for n in range(replicas)
        ]
        self.ports = [free_port() for _ in range(3)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """The address of whatever is the primary."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"sentinel://{hosts}/{NAME}?sentinel_password={PASSWORD}"

    def __enter__(self) -> Self:
        for replica in self._replicas:
            replica.start()
            self._tell(replica.port, "REPLICAOF", "127.0.0.1", str(self._primary.port))
        for port in self.ports:
            self._start(port)
        wait_for(lambda: all(self._is_ready(port) for port in self.ports))
        return self

    def __exit__(self, *_: object) -> None:
        for port in list(self._processes):
            self.kill_sentinel(port)
        for server in (self._primary, *self._replicas):
            server.kill()

    def kill_sentinel(self, port: int) -> None:
        """End a sentinel for good."""
        process = self._processes.pop(port)
        process.kill()
        process.wait()

    def fail_over(self, *, freeze: bool = False) -> EmbeddedServer:
        """Kill the primary and wait until the sentinels have made another. Returns that one.

        With `freeze` the old one is only stopped, and then goes on: for some seconds it takes itself for the primary.
        """
        assert self._primary.process is not None
        old = self._primary.process
        if freeze:
            old.send_signal(signal.SIGSTOP)
        else:
            self._primary.kill()
        promoted = self._await_promotion()
        if freeze:
            old.send_signal(signal.SIGCONT)
        return promoted

    def _await_promotion(self) -> EmbeddedServer:
        others = {replica.port: replica for replica in self._replicas}
        port = wait_for(lambda: (found := self._primary_port()) in others and found, seconds=60)
        wait_for(lambda: self._info(port)["role"] == "master")
        promoted, old = others[port], self._primary
        self._replicas.remove(promoted)
        self._replicas.append(old)
        self._primary = promoted
        return promoted

    def bring_back(self) -> None:
        """Start the primary that was killed last; the sentinels make it a replica."""
        back = self._replicas[-1]
        if back.process is None:
            back.start()
        wait_for(lambda: self._info(back.port)["role"] == "slave", seconds=60)

    def _start(self, port: int) -> None:
        folder = self._folder / f"sentinel-{port}"
        folder.mkdir(parents=True)
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"logfile {folder / 'log'}",
            f"requirepass {PASSWORD}",
            f"sentinel sentinel-pass {PASSWORD}",
            f"sentinel monitor {NAME} 127.0.0.1 {self._primary.port} 2",
            f"sentinel down-after-milliseconds {NAME} {_DOWN_MS}",
            f"sentinel failover-timeout {NAME} 10000",
        ]
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
        self._processes[port] = subprocess.Popen(
            [find_server(), str(folder / "sentinel.conf"), "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _is_ready(self, port: int) -> bool:
        """Whether a sentinel knows the others and the replicas, and those have their first copy."""
        with contextlib.suppress(redis.RedisError):
            state = self._ask(port, "SENTINEL", "MASTER", NAME)
            known = int(state["num-other-sentinels"]), int(state["num-slaves"])
            copied = all(self._info(replica.port)["master_link_status"] == "up" for replica in self._replicas)
            return known == (len(self.ports) - 1, len(self._replicas)) and copied
        return False

    def _primary_port(self) -> int:
        for port in self._processes:
            with contextlib.suppress(redis.RedisError):
                return int(self._ask(port, "SENTINEL", "MASTER", NAME)["port"])
        return 0

    def _ask(self, port: int, *command: str) -> Any:
        return self._tell(port, *command, password=PASSWORD)

    def _info(self, port: int) -> Any:
        with contextlib.closing(redis.Redis(port=port, socket_timeout=5)) as client:
            return client.info("replication")

    @staticmethod
    def _tell(port: int, *command: str, password: str | None = None) -> Any:
        with contextlib.closing(
            redis.Redis(port=port, password=password, socket_timeout=5, decode_responses=True)
        ) as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]
