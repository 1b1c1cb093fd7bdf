"""`python -m tests.chaos.baseline`: the scenario kill-workers against the usual set-up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import psutil

from tests.stack import SECRET, wait_for
from tiercast.embedded import EmbeddedServer, free_port

from ..arena import pause
from ..audit import asked_for
from ..sender import Sender
from ..sink import Sink

#: Seconds without a new effect after which nothing more is expected (by default Celery gives back what a dead worker
#: had taken after an hour).
_QUIET = 15.0


class Usual:
    """The processes of the usual set-up: granian with Flask, and Celery workers at their defaults."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = EmbeddedServer(folder / "broker")
        self.sink = Sink(folder / "sink")
        self.port = free_port()
        self.workers: list[subprocess.Popen[bytes]] = []
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Usual:
        self.sink.__enter__()
        self.broker.start()
        web = ("granian", "--interface", "wsgi", "--port", str(self.port), "tests.chaos.baseline.app:app")
        self._start("web", *web)
        for _ in range(2):
            self.add_worker()
        wait_for(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.broker.kill()
        self.sink.__exit__()

    def add_worker(self) -> None:
        """Start a worker with two processes, and wait until it is ready."""
        name = f"worker-{len(self._started)}"
        command = ("celery", "-A", "tests.chaos.baseline.app:celery", "worker", "--concurrency", "2", "-n", name)
        self.workers.append(self._start(name, *command, "--loglevel", "INFO"))
        wait_for(lambda: " ready." in (self.folder / f"{name}.log").read_text(errors="replace"), seconds=60)

    def kill_some(self) -> None:
        """Kill a whole worker and one process of the other's pool; start another worker."""
        victim = self.workers.pop(0)
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
        for child in psutil.Process(self.workers[0].pid).children()[:1]:
            child.kill()
        self.add_worker()

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        variables = {"BASELINE_BROKER": self.broker.url, "BASELINE_SINK": self.sink.url, "BASELINE_SECRET": SECRET}
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=os.environ | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=Path(__file__).parents[3],
            )
        self._started.append(process)
        return process

    def _answers(self) -> bool:
        import httpx

        with contextlib.suppress(httpx.HTTPError):
            return httpx.post(f"http://127.0.0.1:{self.port}/webhook", trust_env=False).status_code == 401
        return False


@click.command(name="python -m tests.chaos.baseline")
@click.option("--events", default=2200, show_default=True, help="Events to send.")
@click.option("--rate", default=200.0, show_default=True, help="Events a second.")
def main(events: int, rate: float) -> None:
    """Kill the workers of a plain Flask and Celery set-up as `kill-workers` does, and count."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the processes end with us
    with tempfile.TemporaryDirectory(prefix="chaos-usual-") as folder, Usual(Path(folder)) as usual:
        sender = Sender(SECRET, lambda: [usual.port], events, rate=rate, path="/webhook")
        sender.start()
        for share in (0.2, 0.5, 0.8):
            sender.wait(share)
            usual.kill_some()
        sender.finish()
        effects = _settled(usual)
    wanted = set(asked_for(sender.accepted))
    doubled = sum(count - 1 for count in effects.values())
    click.echo(f"{len(sender.accepted)} accepted, {len(wanted)} jobs asked for, {sum(effects.values())} effects")
    click.echo(
        f"{len(wanted - set(effects))} jobs without an effect {_QUIET:.0f} s after the last one, {doubled} doubled"
    )


def _settled(usual: Usual) -> dict[str, int]:
    """Wait until nothing has happened for a while; how often each job had its effect."""
    counts: dict[str, int] = {}
    changed = time.monotonic()
    while time.monotonic() - changed < _QUIET:
        pause(1)
        now = {key: len(happened) for key, happened in usual.sink.effects().items()}
        if now != counts:
            counts, changed = now, time.monotonic()
    return counts


if __name__ == "__main__":
    main()
