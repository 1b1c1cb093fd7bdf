"""Reloading the workers: they are told over the broker, and say each what became of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from celery import Celery

from ..bells import celery_config
from ..errors import TiercastError
from ..redis_address import place
from ..settings import Settings
from .audit import AuditLog, Note, new_request

#: Seconds that workers have to say that they are there, and to read everything.
_HELLO_SECONDS = 2.0
_READ_SECONDS = 15.0

#: Seconds between two questions how far they are.
_ASK_SECONDS = 0.5

#: The commands of the workers (worker/control.py).
_RELOAD = "tiercast_reload"
_STATE = "tiercast_reload_state"


class BrokerAway(TiercastError):
    """The workers cannot be told anything, since their broker cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of the reload of one worker."""

    worker: str
    ok: bool
    text: str


class Workers:
    """Sends remote control commands to the workers of one broker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app = _app(settings)

    def hello(self, seconds: float) -> list[str]:
        """The names of the workers that answer within so many seconds."""
        return sorted(self._send("ping", seconds))

    def reload(self, workers: list[str], deadline: float) -> Iterable[Result]:
        """Have these workers reload; gives each one's result when it is known."""
        id = uuid.uuid4().hex
        waiting = set(workers)
        found = self._send(_RELOAD, min(_READ_SECONDS, _left(deadline)), waiting, id=id)
        # Whoever has not answered yet may still be reading.
        while True:
            for worker in sorted(found):
                if (result := _result(worker, found[worker])) is not None and worker in waiting:
                    waiting.discard(worker)
                    yield result
            if not waiting or not _left(deadline):
                break
            time.sleep(min(_ASK_SECONDS, _left(deadline)))
            found = self._send(_STATE, min(_HELLO_SECONDS, _left(deadline)), waiting, id=id)
        for worker in sorted(waiting):
            yield Result(worker=worker, ok=False, text=_late(found.get(worker)))

    def _send(
        self, command: str, seconds: float, destination: Iterable[str] = (), **arguments: str
    ) -> dict[str, dict[str, Any]]:
        """Send a command and collect the answers: by worker, until all have answered or the time is over.

        Raises:
            BrokerAway: the broker cannot be reached.
        """
        names = sorted(destination)
        try:
            answers = self._app.control.broadcast(
                command,
                arguments=arguments,
                destination=names or None,
                limit=len(names) or None,
                timeout=max(seconds, 0.1),
                reply=True,
            )
        except Exception as error:
            # Each transport raises errors of its own.
            raise BrokerAway(
                f"The broker at {place(self._settings.broker_url)} cannot be used ({type(error).__name__}). "
                "See TIERCAST_BROKER_URL."
            ) from error
        found = {worker: answer for one in answers or () for worker, answer in one.items()}
        return {worker: answer if isinstance(answer, dict) else {} for worker, answer in found.items()}


def _app(settings: Settings) -> Celery:
    app = Celery("tiercast-control", set_as_current=False)
    app.conf.update(
        celery_config(settings, socket_connect_timeout=2.0, max_retries=0),
        broker_connection_timeout=2.0,
        broker_connection_retry=False,
    )
    return app


def reload(workers: Workers, names: list[str], audit: AuditLog, note: Note, deadline: float) -> Iterator[Result]:
    """Have these workers reload, and gives each one's result when it is known.

    Two entries of the audit log frame it: one before, so that there is none without an entry, and one with the result.

    Args:
        workers: of the broker.
        names: which of them.
        audit: where it goes on record.
        note: who asks, and why.
        deadline: how long to wait for them, by the monotonic clock.

    Raises:
        LedgerError: it cannot go on record, so nobody was told.
        BrokerAway: the workers cannot be told.
    """
    note = replace(note, request=new_request())
    audit.note(note, "reload")
    done = failed = 0
    for result in workers.reload(names, deadline):
        done, failed = done + result.ok, failed + (not result.ok)
        yield result
    said = "reloaded" if not failed else f"{failed} of {done + failed} workers did not reload"
    audit.note(replace(note, part=2), "reload", count=done, refused=failed, result=said)


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _result(worker: str, answer: dict[str, Any]) -> Result | None:
    """What an answer says; None where the worker is not done yet."""
    match answer.get("state"):
        case "running":
            return None
        case "done":
            count = answer.get("replaced")
            return Result(worker=worker, ok=True, text=f"reloaded: {count} process{'es' * (count != 1)} replaced")
        case "refused":
            return Result(worker=worker, ok=False, text=f"refused, nothing has changed: {answer.get('error')}")
        case "failed":
            how_far = f"{answer.get('replaced')} of {answer.get('total')} processes replaced"
            return Result(worker=worker, ok=False, text=f"failed, {how_far}: {answer.get('error')}")
        case "unknown":
            return Result(worker=worker, ok=True, text="was restarted meanwhile, so it has read everything")
    return Result(worker=worker, ok=False, text="does not know how; it runs another version, so restart it")


def _late(answer: dict[str, Any] | None) -> str:
    if answer is None:
        return "gave no answer in time; it may still reload"
    return f"is not done yet: {answer.get('replaced')} of {answer.get('total')} processes replaced; it goes on"
