"""A primary with two replicas, behind one address or watched by sentinels, and the move to one of them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any, Self

from tests.servers.sentinels import Sentinels
from tests.stack import wait_for
from tiercast.embedded import EmbeddedServer

from .arena import Arena
from .sink import connect


class Proxy:
    """Passes connections on to the port that is the target just now. A context manager."""

    def __init__(self) -> None:
        self.target = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = starting.result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def cut(self) -> None:
        """Refuse every connection from now on, and end those that stand."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, back}
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(_pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side ends, then end the other."""
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()


class Replicated(Arena):
    """The arena with two replicas of its ledger; everybody connects through the proxy."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.server = EmbeddedServer(folder / "ledger", repl_diskless_sync_delay="0")
        self._replicas = [EmbeddedServer(folder / f"replica-{n}", repl_diskless_sync_delay="0") for n in (1, 2)]
        self._proxy = Proxy()

    def __enter__(self) -> Self:
        self._proxy.__enter__()
        self._proxy.target = self.server.port
        self._env["TIERCAST_REDIS_URL"] = f"redis://127.0.0.1:{self._proxy.port}/0"
        super().__enter__()
        for replica in self._replicas:
            replica.start()
            _tell(replica, "REPLICAOF", "127.0.0.1", str(self.server.port))
        wait_for(lambda: all(_offset(replica) for replica in self._replicas))
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for replica in self._replicas:
            replica.kill()
        self._proxy.__exit__()

    def fail_over(self) -> None:
        """Kill the primary for good, promote the replica that knows most, have the other one follow it."""
        self.server.kill()
        self._replicas.sort(key=_offset)
        self.server, *self._replicas = reversed(self._replicas)
        _tell(self.server, "REPLICAOF", "NO", "ONE")
        for replica in self._replicas:
            _tell(replica, "REPLICAOF", "127.0.0.1", str(self.server.port))
        self._proxy.target = self.server.port


class Watched(Arena):
    """The arena with two replicas and three sentinels; everybody asks those where ledger and broker are."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.server = EmbeddedServer(folder / "ledger", repl_diskless_sync_delay="0")
        self.sentinels = Sentinels(folder, self.server, replicas=2)

    def __enter__(self) -> Self:
        self._env["TIERCAST_REDIS_URL"] = self.sentinels.url
        super().__enter__()
        self.sentinels.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.sentinels.__exit__()

    def fail_over(self, *, freeze: bool = False) -> None:
        """Kill the primary, or freeze it for a while, and wait until the sentinels have made another."""
        self.server = self.sentinels.fail_over(freeze=freeze)


def _tell(server: EmbeddedServer, *command: str) -> None:
    client: Any = connect(server.url)
    client.execute_command(*command)
    client.close()


def _offset(server: EmbeddedServer) -> int:
    """How far a replica has come; 0 until it has its first copy."""
    client: Any = connect(server.url)
    found = client.info("replication")
    client.close()
    ready = found.get("master_link_status") == "up" or found.get("slave_repl_offset", 0) > 0
    return int(found["slave_repl_offset"]) if ready else 0
