"""The whole of Tiercast as processes, as the Procfile starts them, for integration tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import redis

from tiercast.embedded import EmbeddedServer, free_port
from tiercast.ledger import Ledger, open_ledger, prepare
from tiercast.ledger.model import JobInfo
from tiercast.ledger.reading import Filter, Reader
from tiercast.samples import envelope, sample_data
from tiercast.settings import load_settings
from tiercast.signature import sign

SECRET = "whsec-of-the-tests"
JOINED = "customer.loyalty.tier.joined"

T = TypeVar("T")


def wait_for(what: Callable[[], T], *, seconds: float = 30.0, every: float = 0.05) -> T:
    """Wait until `what` gives something true, and return it; fail with its last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s; last: {answer!r}")
        time.sleep(every)


class Stack:
    """An embedded server, and web and worker processes on demand, in a folder of their own.

    Args:
        config: the configuration file's text.
        env: more variables of the processes.
    """

    def __init__(self, folder: Path, config: str, *, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.server = EmbeddedServer(folder / "ledger", appendfsync="everysec")
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "tiercast.toml").write_text(config)
        self._env = dict(env or {})

    def change_env(self, **env: str) -> None:
        """Give what is started from now on other variables."""
        self._env |= env

    # --- processes

    @property
    def env(self) -> dict[str, str]:
        """The environment of the processes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TIERCAST_")}
        return kept | {
            "TIERCAST_CONFIG": str(self.folder / "tiercast.toml"),
            "TIERCAST_REDIS_URL": self.server.url,
            "TIERCAST_WEBHOOK_SECRETS": SECRET,
            "TIERCAST_LOG_FORMAT": "json",
            "PORT": str(self.port),
            # What a killed process leaves in its temporary folder goes with the test's.
            "TMPDIR": str(self.folder),
            **self._env,
        }

    def start(
        self, name: str, *command: str, env: Mapping[str, str] | None = None, through: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a process under a name, with more variables, through a command; its output goes to a file."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*through, sys.executable, "-m", *command],
                env=self.env | dict(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=Path(__file__).parents[1],
            )
        self.processes[name] = process
        return process

    def start_web(self, name: str = "web") -> None:
        """Start a receiver and wait until it can store."""
        self.start(name, "receiver", "--port", str(self.port), "--workers", "1")
        wait_for(lambda: self._log_of_running(name) is not None and self.ready(self.port))

    def start_worker(
        self,
        name: str = "worker",
        *,
        concurrency: int = 2,
        queues: str = "tiercast",
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start a worker and wait until it hears bells."""
        self.start(
            name, "celery", "-A", "worker", "worker", "--concurrency", str(concurrency), "-Q", queues,
            "--hostname", f"{name}@test", "--without-mingle", "--without-gossip", "--loglevel", "INFO", env=env,
        )  # fmt: skip
        wait_for(lambda: " ready." in self._log_of_running(name), seconds=60)

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM, *, wait: float = 30.0) -> int:
        """Stop a process by its id and wait for its end."""
        process = self.processes.pop(name)
        if how is signal.SIGKILL:
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        try:
            return process.wait(wait)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise

    def log(self, name: str) -> str:
        """What a process has printed so far."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _log_of_running(self, name: str) -> str:
        """The log of a process that is to be running."""
        assert self.processes[name].poll() is None, self.log(name)
        return self.log(name)

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.server.kill()

    @staticmethod
    def ready(port: int) -> bool:
        """Whether the receiver on a port says that it can store."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
        return False

    # --- as Voucherify

    def post(
        self, body: bytes | dict[str, Any], *, source: str = "voucherify", signature: str | None = None
    ) -> httpx.Response:
        """Post a body, signed with the source's secret unless another signature is given."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        header = (sign(raw, SECRET) if signature is None else signature).encode()
        headers = {b"x-voucherify-signature": header}
        url = f"http://127.0.0.1:{self.port}/webhooks/{source}"
        return httpx.post(url, content=raw, headers=headers, timeout=20, trust_env=False)

    def send(self, type: str = JOINED, *, event_id: str | None = None, **data: Any) -> str:
        """Post a sample event, again where it could not be stored, as the sender does; returns its delivery id."""
        event = envelope(type, sample_data(type, **data), event_id=event_id)
        answers = [self.post(event)]
        while answers[-1].status_code == 503 and len(answers) < 10:
            answers.append(self.post(event))
        answer = answers[-1]
        assert answer.status_code == 202, answer.text
        delivery: str = answer.json()["delivery"]
        return delivery

    # --- as an operator

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[Ledger, Reader]]:
        """The ledger and a reader of it."""
        settings = load_settings(self.env)
        ledger = open_ledger(settings, role="operator")
        try:
            yield ledger, Reader(ledger, prepare(ledger, settings))
        finally:
            ledger.client.close()

    def jobs(self, **which: Any) -> list[JobInfo]:
        """Jobs that match."""
        with self.opened() as (_, reader):
            return list(reader.jobs(Filter(**which)))

    def states(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        counts: dict[str, int] = {}
        for job in self.jobs():
            counts[job.state] = counts.get(job.state, 0) + 1
        return counts

    def owed(self) -> int:
        """How much all lanes owe."""
        with self.opened() as (_, reader):
            return sum(lane.owed for lane in reader.lanes())

    def settled(self, delivery: str) -> dict[str, JobInfo]:
        """Wait until a delivery and all its jobs are settled; returns the jobs by action."""

        def look() -> list[list[JobInfo]]:
            with self.opened() as (_, reader):
                info = reader.delivery(delivery)
                if info is None or info.state == "queued":
                    return []
                jobs = reader.jobs_of(info)
            return [] if any(job.state in ("owed", "parked") for job in jobs) else [jobs]

        return {job.action: job for job in wait_for(look)[0]}

    def cli(self, *arguments: str, expect: int = 0, stdin: str | None = None) -> str:
        """Run a command; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "tiercast.cli", *arguments],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
            check=False,
        )
        assert done.returncode == expect, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def client(self) -> redis.Redis:
        """A client of the embedded server."""
        return redis.Redis.from_url(self.server.url)
