"""The narrator of `tiercast up`: says, a line each, what came in, what became of it, and what was refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..errors import TiercastError
from ..ledger.following import Follower
from ..ledger.model import DeliveryInfo, DeliveryState, JobInfo
from .terminal import say as say_on_terminal

#: Seconds between two looks into the ledger, and how many times as long as a look itself takes: with hundreds that
#: wait, following costs a twentieth of a processor at most.
_LOOK = 0.2
_LOOK_FACTOR = 20

#: Seconds after which a job that is still owed gets a line of its own.
_SLOW = 2.0

#: The most queued deliveries that get a line each.
_MAX_SLOW_LINES = 5

#: The most deliveries that are followed to their end at once.
_FOLLOWED = 2000


@dataclass(slots=True)
class _Followed:
    since: float
    slow_told: bool = False
    state_told: bool = False


class Narrator:
    """Follows the ledger from now on."""

    def __init__(self, follower: Follower, *, home: Path, say: Callable[[str], None] = say_on_terminal) -> None:
        self._follower = follower
        self._home = home
        self._say = say
        self._since = follower.now_ms()
        self._seen: set[str] = set()
        self._followed: dict[str, _Followed] = {}
        #: What was read of followed deliveries: it does not change while their jobs wait.
        self._read: dict[str, DeliveryInfo] = {}
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
        pause = _LOOK
        while not self._stop.wait(pause):
            began = time.monotonic()
            try:
                self.look()
                away = False
            except TiercastError as error:
                if not away and not self._stop.is_set():
                    self._say(f"{_now()}  cannot look into the ledger ({type(error).__name__})")
                away = True
            pause = max(_LOOK, min(_LOOK_FACTOR * (time.monotonic() - began), 10.0))

    def stop(self) -> None:
        """Say nothing more; the ledger may be closed after that."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def look(self) -> None:
        """Say what is new."""
        new = self._follower.arrived(self._since, _FOLLOWED)
        for delivery in new:
            if delivery not in self._seen and len(self._followed) < _FOLLOWED:
                self._seen.add(delivery)
                self._followed[delivery] = _Followed(time.monotonic())
        newest = max((int(one[:8] + one[9:13], 16) for one in new), default=0)
        self._since = max(self._since, newest - 2000)
        unread = [delivery for delivery in self._followed if delivery not in self._read]
        self._read |= self._follower.read(unread)
        jobs = self._follower.jobs(self._read.values())
        for delivery in sorted(self._read):
            self._tell(self._read[delivery], jobs.get(delivery, []))
        self._tell_queued(
            [delivery for delivery in unread if delivery not in self._read and delivery in self._followed]
        )
        if len(self._seen) > 20 * _FOLLOWED:
            self._seen = set(self._followed)

    def _tell_queued(self, deliveries: list[str]) -> None:
        for delivery in self._follower.gone(deliveries):
            self._end(delivery)
        slow = [one for one in deliveries if one in self._followed and self._is_slow(self._followed[one])]
        for delivery in slow:
            self._followed[delivery].slow_told = True
        if len(slow) > _MAX_SLOW_LINES:
            self._say(f"{_now()}  {len(slow)} deliveries are queued; no worker has taken them yet")
        else:
            for delivery in slow:
                self._say(f"{_now()}  {delivery} is queued; no worker has taken it yet")

    @staticmethod
    def _is_slow(followed: _Followed) -> bool:
        return not followed.slow_told and time.monotonic() - followed.since > _SLOW

    def _tell(self, info: DeliveryInfo, jobs: list[JobInfo]) -> None:
        followed = self._followed[info.id]
        waiting = [job for job in jobs if not job.state.final]
        if not waiting:
            self._head(info, followed)
            for job in jobs:
                self._say(f"          {self.line(job)}")
            self._end(info.id)
        elif self._is_slow(followed):
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
        self._read.pop(delivery, None)
        self.told(delivery).set()

    def line(self, job: JobInfo) -> str:
        """What became of a job, in a line; files below the current folder by their relative name."""
        text = (job.text or "").replace(str(self._home) + "/", "")
        state = click.style(f"{job.state:<10}", fg=job.state.colour)
        return f"{job.action:<16}{state}{text}".rstrip()


def describe(info: DeliveryInfo) -> str:
    """What a delivery told, in a line."""
    what = info.type or "an event that could not be read"
    state = "" if info.state is DeliveryState.PROCESSED else f"  {info.state}"
    reason = info.reason or (f"told before by {info.first}" if info.first else "")
    return f"{what}{state}{f': {reason}' if reason else ''}"


def _now() -> str:
    return time.strftime("%H:%M:%S")
