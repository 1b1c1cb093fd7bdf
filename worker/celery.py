"""The Celery app: `celery -A worker worker`, and `celery -A worker flower` to watch it.

Importing this opens no connection and reads no configuration file; that happens when a worker starts.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

import structlog
from celery import Celery, Task, signals
from kombu.entity import Queue

from tiercast.bells import FILE, OPERATE, PERFORM, PROCESS, QUEUE, celery_config
from tiercast.errors import HistoryUnavailable, LedgerError, TiercastError
from tiercast.ledger import Ledger, open_ledger, prepare
from tiercast.ledger.filing import is_filing, start_filing
from tiercast.logs import place, set_up_logs
from tiercast.settings import Settings, load_settings

from . import celery_patches, control
from . import process as worker_process
from .drains import LEDGER
from .filing.archive import Archive
from .timer import Timer

log = structlog.get_logger()

#: Seconds that running jobs have to end when a process of the pool is told to stop.
GRACE_SECONDS = 8.0

#: Seconds after which a process of the pool that has not returned from a task is replaced: a task takes a moment, and
#: longer only while the process is started.
STUCK_SECONDS = 120

#: Pools that replace what event loops and threads are made of.
REFUSED_POOLS = ("gevent", "eventlet")


class JobsDied(Exception):
    """Jobs ended dead. The task that reports it fails, so that monitors show it; its counts are the argument."""


class DrainFault(Exception):
    """A fault of ours in a task: what was raised and where, without its text."""


class BellTask(Task):
    """A task whose failure is one line in monitors: Celery would send them a traceback, with lines of our code."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:  # noqa: ARG002
        """Called before Celery logs and sends the failure."""
        einfo.traceback = f"{type(exc).__name__}: {exc}"


def make_app() -> Celery:
    """Make the app from the environment."""
    celery_patches.apply()
    made = Celery("worker", amqp=celery_patches.PromptAMQP, task_cls=BellTask)
    made.conf.update(celery_config(load_settings(), socket_keepalive=True, health_check_interval=10))
    made.conf.update(
        task_queues=[Queue(QUEUE)],  # type: ignore[no-untyped-call]
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        task_acks_late=False,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A server at its memory limit refuses what kombu writes for each bell; a worker that ended there could not
        # drain it.
        broker_channel_error_retry=True,
        worker_max_tasks_per_child=None,
        task_time_limit=STUCK_SECONDS,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    made.steps["worker"].add(Timer)
    return made


try:
    app = make_app()
except TiercastError as error:
    sys.exit(f"Error: {error}")


@app.task(name=PROCESS, throws=(JobsDied,))
def process(lane: str) -> dict[str, Any]:
    """Read what is due in a source's lane, and record the jobs that the rules ask for."""
    return _hear(lane)


@app.task(name=PERFORM, throws=(JobsDied,))
def perform(lane: str) -> dict[str, Any]:
    """Perform what is due in an action's lane."""
    return _hear(lane)


@app.task(name=FILE)
def file(lane: str) -> dict[str, Any]:
    """Write what is settled to the history, and let go of it in the ledger."""
    return _hear(lane)


@app.task(name=OPERATE)
def operate(lane: str) -> dict[str, Any]:
    """Carry on with the operations that are due."""
    return _hear(lane)


def _hear(lane: str) -> dict[str, Any]:
    """Have a lane drained; returns what is known of it within a moment, for monitors.

    Raises:
        JobsDied: among what ended were dead jobs.
    """
    try:
        current = worker_process.process()
        if not current.knows(lane):
            log.warning("drain.unknown_lane", lane=lane, remedy="its source or action left this configuration")
            return {"unknown": 1}
        counts = current.hear(lane)
    except LedgerError as error:
        LEDGER.failed(error)
        return {"ledger_away": 1}
    except Exception as error:
        # Celery logs and sends about what a task raises, and that could quote an event.
        raise DrainFault(place(error)) from None
    jobs = counts.get("jobs")
    if counts.get("dead") or (isinstance(jobs, dict) and jobs.get("dead")):
        raise JobsDied(counts)
    return counts


@signals.setup_logging.connect
def _set_up_logs(**_: Any) -> None:
    set_up_logs(load_settings(), process="worker")


@signals.worker_init.connect
def refuse_to_start(sender: Any, **_: Any) -> None:
    """Exit with one clear message where the pool, the configuration or the ledger cannot be used."""
    pool = getattr(sender, "pool_cls", None)
    name = getattr(pool, "__module__", str(pool)).rpartition(".")[2]
    if name in REFUSED_POOLS:
        sys.exit(
            f"Error: the pool {name} does not work here: each process runs an event loop and threads of its own, which "
            f"{name} replaces. Use --pool prefork (the default); async kinds make hundreds of calls at once there."
        )
    try:
        settings, _config = worker_process.load()
        ledger = open_ledger(settings, role="operator")
        prepare(ledger, settings)
        _look_at_history(settings, ledger)
        ledger.close()
    except TiercastError as error:
        sys.exit(f"Error: {error}")


def _look_at_history(settings: Settings, ledger: Ledger) -> None:
    """Begin to file where a history is named; one that is away now is opened later.

    Raises:
        HistoryRefused: it is not the one that belongs to this ledger.
        LedgerError: the ledger fails.
    """
    if not settings.files:
        if is_filing(ledger):
            log.warning("history.not_named", remedy="set TIERCAST_HISTORY_URL as for the other workers")
        return
    start_filing(ledger)
    archive = Archive(settings.history, ledger)
    try:
        archive.open()
    except HistoryUnavailable as error:
        log.warning("history.away", reason=str(error), remedy="what is settled waits in the ledger until it is back")
    finally:
        # Before the pool is forked: its processes open their own connections.
        archive.close()


@signals.celeryd_after_setup.connect
def _note_queues(**_: Any) -> None:
    """Known before the pool is forked, and inherited by its processes."""
    worker_process.serve_queues(app.amqp.queues.consume_from)


@signals.worker_process_init.connect
def _begin(**_: Any) -> None:
    """Open this process's own connections, before its first bell."""
    worker_process.process()
    gc.freeze()  # what was loaded stays, so collecting garbage need not look at it again and again


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    worker_process.stop(GRACE_SECONDS, patient=control.is_leaving())
