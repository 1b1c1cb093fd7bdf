"""Checks the broker, and that workers hear every Celery queue that bells ring on."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from celery import Celery

from ...bells import QUEUE, celery_config
from ...config.model import Config
from ...settings import Settings
from .finding import Finding, error, ok, warning

#: Seconds to wait for the broker, and for workers to answer.
_TIMEOUT = 2.0
_ANSWER = 1.0


class BrokerAway(Exception):
    """The broker does not answer."""


def heard_queues(settings: Settings) -> dict[str, list[str]]:
    """Ask the workers: each one's name, with the queues that it hears.

    Raises:
        BrokerAway: there is nobody to ask; the message is the type of what was raised.
    """
    app = Celery("tiercast-check", set_as_current=False)
    app.conf.update(
        celery_config(settings, socket_connect_timeout=_TIMEOUT, socket_timeout=_TIMEOUT, max_retries=0),
        broker_connection_timeout=_TIMEOUT,
    )
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=_TIMEOUT)
            answers = app.control.inspect(timeout=_ANSWER, connection=connection).active_queues() or {}
    except Exception as fault:  # each broker's library raises errors of its own
        raise BrokerAway(type(fault).__name__) from fault
    finally:
        app.close()
    return {worker: [queue["name"] for queue in queues] for worker, queues in answers.items()}


def check_queues(settings: Settings, config: Config | None) -> Iterator[Finding]:
    """Ask the workers which queues they hear."""
    where = _where(settings.broker_url)
    try:
        heard = heard_queues(settings)
    except BrokerAway as fault:
        yield error("broker", f"it does not answer at {where} ({fault}). Is TIERCAST_BROKER_URL right?")
        return
    yield ok("broker", f"answers at {where}")
    yield from _compare(_wanted(config), heard)


def _wanted(config: Config | None) -> dict[str, list[str]]:
    """The queues that bells ring on, each with the actions that name it."""
    wanted: dict[str, list[str]] = {QUEUE: []}
    for spec in config.actions.values() if config else ():
        if spec.queue:
            wanted.setdefault(spec.queue, []).append(spec.name)
    return wanted


def _compare(wanted: dict[str, list[str]], answers: dict[str, list[str]]) -> Iterator[Finding]:
    if not answers:
        yield warning("workers", "no worker answers: what arrives is stored, and waits until one runs.")
        return
    yield ok("workers", f"{len(answers)} answered")
    heard = {queue for queues in answers.values() for queue in queues}
    for queue, actions in wanted.items():
        if queue not in heard:
            whose = f" (of {', '.join(actions)})" if actions else ""
            # Without a name of its own, a second worker on a machine has the name of the first.
            start = f"celery -A worker worker -n {queue}@%h -Q {queue}"
            yield error(f"queue {queue}", f"no worker hears it{whose}. Start one with: {start}")


def _where(url: str) -> str:
    """The broker's kind, host and port, without what may be secret in the address."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2] or parts.path
    return f"{parts.scheme}://{host}"
