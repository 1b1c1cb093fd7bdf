"""The narrator of `tiercast up`: says, a line each, what came in, what became of it, and what was refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import redis

from ..errors import TiercastError
from ..ledger.model import DeliveryInfo, DeliveryState, JobInfo, JobState
from ..ledger.reading import Filter, Reader

#: Seconds between two looks into the ledger.
_LOOK = 0.2

#: Seconds after which a job that is still owed gets a line of its own.
_SLOW = 2.0

#: The most deliveries that are followed to their end at once.
_FOLLOWED = 2000

_FINAL = (JobState.DONE, JobState.SKIPPED, JobState.SUPERSEDED, JobState.DEAD, JobState.UNCERTAIN)

_COLOURS = {"done": "green", "skipped": "yellow", "dead": "red", "uncertain": "red"}


@dataclass(slots=True)
class _Followed:
    since: float
    slow_told: bool = False
    state_told: bool = False


class Narrator:
    """Follows the ledger from now on."""

    def __init__(self, reader: Reader, *, home: Path, say: Callable[[str], None] = click.echo) -> None:
        self._reader = reader
        self._home = home
        self._say = say
        self._since = reader.now_ms()
        self._seen: set[str] = set()
        self._followed: dict[str, _Followed] = {}
        self._told: dict[str, threading.Event] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def heard(self, process: str, fields: dict[str, Any]) -> None:
        """A log line of one of the processes."""
        event = fields.get("event")
        if event == "delivery.refused":
            source = fields.get("source")
            self._say(f"{_now()}  refused{f' for {source}' if source else ''}: {fields.get('reason', '')}")
        elif fields.get("level") in ("error", "critical"):
            details = " ".join(f"{k}={v}" for k, v in fields.items() if k in ("error", "lane", "jobs", "remedy"))
            self._say(f"{_now()}  {process}: {event} {details}".rstrip())

    def told(self, delivery: str) -> threading.Event:
        """Set once all of a delivery was told."""
        with self._lock:
            return self._told.setdefault(delivery, threading.Event())

    def start(self) -> None:
        """Follow, in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="narrator", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Follow until stopped."""
        away = False
        while not self._stop.wait(_LOOK):
            try:
                self.look()
                away = False
            except (TiercastError, redis.RedisError) as error:
                if not away and not self._stop.is_set():
                    self._say(f"{_now()}  cannot look into the ledger ({type(error).__name__})")
                away = True

    def stop(self) -> None:
        """Say nothing more; the ledger may be closed after that."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def look(self) -> None:
        """Tell what is new."""
        newest = self._since
        for info in self._reader.deliveries(Filter(since_ms=self._since, limit=_FOLLOWED)):
            newest = max(newest, info.received_ms)
            if info.id not in self._seen and len(self._followed) < _FOLLOWED:
                self._seen.add(info.id)
                self._followed[info.id] = _Followed(time.monotonic())
        self._since = max(self._since, newest - 2000)
        for delivery in sorted(self._followed):
            self._tell(delivery)
        if len(self._seen) > 20 * _FOLLOWED:
            self._seen = set(self._followed)

    def _tell(self, delivery: str) -> None:
        info = self._reader.delivery(delivery)
        followed = self._followed[delivery]
        if info is None:
            self._end(delivery)
            return
        if info.state is DeliveryState.QUEUED:
            if not followed.slow_told and time.monotonic() - followed.since > _SLOW:
                followed.slow_told = True
                self._say(f"{_now()}  {delivery} is queued; no worker has taken it yet")
            return
        jobs = self._reader.jobs_of(info)
        waiting = [job for job in jobs if job.state not in _FINAL]
        if not waiting:
            self._head(info, followed)
            for job in jobs:
                self._say(f"          {self.line(job)}")
            self._end(delivery)
        elif not followed.slow_told and time.monotonic() - followed.since > _SLOW:
            followed.slow_told = True
            self._head(info, followed)
            for job in waiting:
                why = f" ({job.text})" if job.text else ""
                self._say(f"          {job.action:<16}{job.state} after {job.attempts} attempts{why}")

    def _head(self, info: DeliveryInfo, followed: _Followed) -> None:
        """What came in, once, right before what became of it."""
        if not followed.state_told:
            followed.state_told = True
            self._say(f"{_now()}  {describe(info)}")

    def _end(self, delivery: str) -> None:
        del self._followed[delivery]
        self.told(delivery).set()

    def line(self, job: JobInfo) -> str:
        """What became of a job, in a line; files below the current folder by their relative name."""
        text = (job.text or "").replace(str(self._home) + "/", "")
        state = click.style(f"{job.state:<10}", fg=_COLOURS.get(job.state))
        return f"{job.action:<16}{state}{text}".rstrip()


def describe(info: DeliveryInfo) -> str:
    """What a delivery told, in a line."""
    what = info.type or "an event that could not be read"
    state = "" if info.state is DeliveryState.PROCESSED else f"  {info.state}"
    reason = info.reason or (f"told before by {info.first}" if info.first else "")
    return f"{what}{state}{f': {reason}' if reason else ''}"


def _now() -> str:
    return time.strftime("%H:%M:%S")
