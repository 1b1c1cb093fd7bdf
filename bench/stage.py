"""One participant on a fresh server: receiver, workers, load generator, and what can be read off them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import redis

from tiercast.embedded import EmbeddedServer, free_port

from .effects import ACTIONS, SECRET_VARIABLE, STAMPED, STAMPS, URL_VARIABLE, counter
from .environments import ROOT
from .load import Load, Plan, run
from .processes import Process, cpu_of

SECRET = "whsec-of-the-bench"

#: Seconds for a participant to start and do its first work.
_START = 60.0

#: Seconds between two looks at the counters.
_LOOK = 0.005


class Stage:
    """One server, receiver and worker. Everything ends with the context.

    Args:
        folder: for the server's data, the configuration and the logs.
        appendfsync: the server's.
        config: the text of our configuration file.
        env: more variables of the processes.
    """

    def __init__(
        self, folder: Path, *, appendfsync: str = "everysec", config: str = "", env: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.server = EmbeddedServer(folder / "server", appendfsync=appendfsync)
        self.port = free_port()
        self._config = config
        self._env = dict(env or {})
        self.processes: list[Process] = []
        self._senders: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.server.start()
        (self.folder / "tiercast.toml").write_text(self._config)
        self.client: Any = redis.Redis.from_url(self.server.url)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as ending:  # each, whatever becomes of the others; the last first
            ending.callback(self.server.kill)
            ending.callback(self.client.close)
            for process in self.processes:
                ending.callback(process.stop)
            for sender in self._senders:
                ending.callback(sender.wait)
                ending.callback(sender.kill)

    def start(self, name: str, command: Sequence[str]) -> Process:
        """Start a process of the participant."""
        process = Process(command, env=self._variables(), log=self.folder / f"{name}.log")
        self.processes.append(process)
        return process

    def tiercast(self, *arguments: str) -> Any:
        """Run `tiercast ... --json` against this stage's ledger; returns the document.

        Raises:
            CalledProcessError: it failed.
        """
        command = [str(Path(sys.executable).with_name("tiercast")), *arguments, "--json"]
        env = {**os.environ, **self._variables()}
        return json.loads(subprocess.run(command, env=env, cwd=ROOT, capture_output=True, check=True).stdout)

    def _variables(self) -> dict[str, str]:
        return {
            URL_VARIABLE: self.server.url,
            SECRET_VARIABLE: SECRET,
            "TIERCAST_CONFIG": str(self.folder / "tiercast.toml"),
            "TIERCAST_REDIS_URL": self.server.url,
            "TIERCAST_WEBHOOK_SECRETS": SECRET,
            **self._env,
        }

    # --- sending

    def load(self, **plan: Any) -> Load:
        """Run the load generator and wait for it."""
        return self.loading(**plan)()

    def loading(self, **plan: Any) -> Callable[[], Load]:
        """Start the load generator; calling what this returns waits for it.

        Raises:
            ChildProcessError: it could not send everything (when called).
        """
        document = json.dumps({"port": self.port, "secret": SECRET, **plan})
        sender = subprocess.Popen(
            [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
        )
        self._senders.append(sender)
        output: list[str] = []
        reader = threading.Thread(target=lambda: output.append(sender.communicate(document)[0]), daemon=True)
        reader.start()

        def finish() -> Load:
            reader.join()
            if sender.returncode:
                raise ChildProcessError(f"the load generator ended with status {sender.returncode}")
            return Load(**json.loads(output[0]))

        return finish

    def wait_for_port(self) -> None:
        """Wait until the receiver takes a request."""
        self.must(self._takes_one, seconds=_START, what="the receiver takes a request")

    def _takes_one(self) -> bool:
        with contextlib.suppress(OSError):
            return run(Plan(port=self.port, secret=SECRET, count=1, prefix=f"{STAMPED}_warm_")).acks == 1
        return False

    # --- looking

    def effects(self) -> int:
        """How many effects there have been since the last `reset`."""
        return sum(int(value or 0) for value in self.client.mget([counter(action) for action in ACTIONS]))

    def stamps(self) -> dict[str, list[tuple[str, float]]]:
        """When the actions of stamped events started: (action, seconds since 1970) by event id."""
        found: dict[str, list[tuple[str, float]]] = {}
        for line in self.client.lrange(STAMPS, 0, -1):
            event_id, action, at = line.decode().split()
            found.setdefault(event_id, []).append((action, float(at)))
        return found

    def reset(self) -> None:
        """Forget the effects so far."""
        self.client.delete(STAMPS, *(counter(action) for action in ACTIONS))

    def until(self, what: Callable[[], bool], *, seconds: float, every: float = _LOOK) -> bool:
        """Wait until something is so; whether it became so in time. Raises when a process has ended."""
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                return False
            for process in self.processes:
                process.check()
            time.sleep(every)
        return True

    def must(self, condition: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Wait until something is so.

        Raises:
            TimeoutError: it did not become so in time; `what` says what.
        """
        if not self.until(condition, seconds=seconds):
            raise TimeoutError(f"not within {seconds:.0f} s: {what}; see {self.folder}")

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far of the server and each process."""
        assert self.server.process is not None
        return {
            "server": cpu_of(self.server.process.pid),
            **{process.log.stem: process.cpu() for process in self.processes},
        }

    def memory(self) -> int:
        """Bytes that the server's data takes, with the tables that hold it, without its clients' buffers."""
        info = self.client.info("memory")
        return int(info["used_memory"]) - int(info["mem_clients_normal"]) - int(info["mem_aof_buffer"])
