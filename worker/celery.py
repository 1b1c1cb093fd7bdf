"""The Celery app: `celery -A worker worker`, and `celery -A worker flower` to watch it.

Importing this opens no connection and reads no configuration file; that happens when a worker starts.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from billiard import pool
from celery import Celery, signals
from kombu.entity import Queue

from tiercast.bells import PERFORM, PROCESS, QUEUE, celery_config
from tiercast.errors import TiercastError
from tiercast.logs import set_up_logs
from tiercast.settings import load_settings

from . import rotation  # noqa: F401 - its signals
from .broker import PromptAMQP, be_lenient
from .timer import Timer

#: Seconds that running jobs have to end when a process of the pool is told to stop.
_GRACE = 8.0

#: Seconds after which a process of the pool that has not returned from a drain is replaced: a drain takes about two,
#: and longer only while the ledger does not answer.
_STUCK = 120


#: Tenths of a second that a process of the pool, told to stop, waits for Celery to hear of its last tasks. Celery may
#: have stopped listening by then, and billiard's own 30 s are longer than most give a worker to end. Nothing hangs on
#: it: bells are acknowledged early, and what they led to is settled in the ledger.
pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 10


def make_app() -> Celery:
    """Make the app from the environment."""
    made = Celery("worker", amqp=PromptAMQP)
    made.conf.update(celery_config(load_settings()))
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
        broker_transport_options={"socket_keepalive": True, "health_check_interval": 10},
        worker_max_tasks_per_child=None,
        task_time_limit=_STUCK,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    made.steps["worker"].add(Timer)
    be_lenient()
    return made


try:
    app = make_app()
except TiercastError as error:
    sys.exit(f"Error: {error}")


@app.task(name=PROCESS)
def process(lane: str) -> dict[str, int]:
    """Read what is due in a source's lane, and record the jobs that the rules ask for."""
    from .drains import drain

    return drain(lane)


@app.task(name=PERFORM)
def perform(lane: str) -> dict[str, int]:
    """Perform what is due in an action's lane."""
    from .drains import drain

    return drain(lane)


@signals.setup_logging.connect
def _set_up_logs(**_: Any) -> None:
    set_up_logs(load_settings(), process="worker")


@signals.worker_init.connect
def _check(**_: Any) -> None:
    """Refuse to start with a configuration or a ledger that cannot be used, with one clear message."""
    from tiercast.ledger import open_ledger, prepare

    from .runtime import load

    try:
        settings, _config = load()
        ledger = open_ledger(settings, role="operator")
        prepare(ledger, settings)
        ledger.client.close()
    except TiercastError as error:
        sys.exit(f"Error: {error}")


@signals.worker_process_init.connect
def _begin(**_: Any) -> None:
    """Open this process's own connections, before its first bell."""
    from .runtime import runtime

    runtime()
    gc.freeze()  # what was loaded stays, so collecting garbage need not look at it again and again


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    from .runtime import close

    close(_GRACE)
