"""`tiercast reload`: have the workers read their configuration anew."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from . import output
from .context import Context, pass_context, place
from .group import Failure

if TYPE_CHECKING:
    from celery import Celery

    from ..settings import Settings

#: Seconds that workers have to say that they are there, and to read everything.
_HELLO_SECONDS = 2.0
_READ_SECONDS = 15.0

#: Seconds between two questions how far they are.
_ASK_SECONDS = 0.5

#: The commands of the workers (worker/control.py).
_RELOAD = "tiercast_reload"
_STATE = "tiercast_reload_state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of the reload of one worker."""

    worker: str
    ok: bool
    text: str


@click.command()
@click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="How long to wait for the workers.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_context
def reload(context: Context, timeout: float, as_json: bool) -> None:
    """Have all workers read their configuration anew, without losing a job.

    Each worker reads the configuration file and the files that it refers to
    (`file:`). Where a worker finds a fault, nothing changes there, and the fault
    is printed. Otherwise it replaces its pool's processes, one by one: each ends
    what it performs, and the next one works by what was read.

    The exit status is 1 if a worker refused or failed, or none answered.

    What a process has from its environment (`env:`, TIERCAST_*) and the code of
    kinds need a restart of the worker. Receivers read the secrets of sources when
    they start, so restart them after those have changed.

    \b
    Examples:
      tiercast reload
      tiercast check && tiercast reload --timeout 60
    """
    control = _Control(context.settings)
    deadline = time.monotonic() + timeout
    workers = control.hello(min(_HELLO_SECONDS, timeout))
    if not workers:
        raise Failure(
            f"No worker answered. Is one running, and is its broker the one at {place(context.settings.broker_url)} "
            "(TIERCAST_BROKER_URL)?"
        )
    results: list[Result] = []
    for result in control.reload(workers, deadline):
        results.append(result)
        if not as_json:
            click.echo(_line(result))
    if as_json:
        output.as_json({"workers": [asdict(result) for result in results]})
    failed = sum(not result.ok for result in results)
    if failed:
        raise Failure(f"{failed} of {len(results)} workers did not reload.")


def _line(result: Result) -> str:
    first, *more = (output.plain(line) for line in result.text.splitlines() or [""])
    return "\n".join([f"{output.plain(result.worker)}  {first}", *(f"  {line}" for line in more)])


class _Control:
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
            Failure: the broker cannot be reached.
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
            raise Failure(
                f"The broker at {place(self._settings.broker_url)} cannot be used ({type(error).__name__}). "
                "See TIERCAST_BROKER_URL."
            ) from error
        found = {worker: answer for one in answers or () for worker, answer in one.items()}
        return {worker: answer if isinstance(answer, dict) else {} for worker, answer in found.items()}


def _app(settings: Settings) -> Celery:
    from celery import Celery

    from ..bells import celery_config

    app = Celery("tiercast-control", set_as_current=False)
    app.conf.update(celery_config(settings))
    app.conf.update(
        broker_connection_timeout=2.0,
        broker_connection_retry=False,
        broker_transport_options={"socket_connect_timeout": 2.0, "max_retries": 0},
    )
    return app


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
