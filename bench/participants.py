"""Who takes part: the commands that start each, and what they need."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from .effects import ACTIONS
from .environments import Environment, node_folder, python

#: The participant that ratios refer to.
REFERENCE = "flask-celery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """One set-up. `kind` is set for ours: the kind that its actions are of."""

    name: str
    label: str
    environment: Environment
    web: tuple[str, ...]
    worker: tuple[str, ...] = ()
    kind: str = ""
    bulk: bool = False

    def config(self) -> str:
        """The text of our configuration file."""
        return configuration(dict.fromkeys(ACTIONS, self.kind)) if self.kind else ""


def configuration(kinds: Mapping[str, str], *, timeout: float | None = None) -> str:
    """A configuration with one action for each name, all at default settings; `timeout` in seconds, where given."""
    more = "" if timeout is None else f"timeout = {timeout:g}\n"
    actions = "\n".join(f'[actions.{name}]\nkind = "{kind}"\n{more}' for name, kind in kinds.items())
    return f'{actions}\n[[rules]]\non = "customer.loyalty.tier.joined"\ndo = {list(kinds)}\n'


#: Our worker, as in the Procfile.
OWN_WORKER = (
    *(sys.executable, "-m", "celery", "-A", "worker", "worker", "--loglevel", "INFO"),
    *("--without-mingle", "--without-gossip", "-Q", "tiercast"),
)

#: Our receiver, as in the Procfile; the port follows.
OWN_WEB = (sys.executable, "-m", "receiver", "--port")

ALL = (
    Participant(
        name="flask-celery",
        label="Flask + Celery",
        environment="flask",
        web=(python("flask"), "-m", "bench.peers.serve", "bench.peers.flask_celery:app"),
        worker=(
            *(python("flask"), "-m", "celery", "-A", "bench.peers.flask_celery:celery", "worker"),
            *("--concurrency", "2", "--loglevel", "WARNING"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
    ),
    Participant(
        name="flask-dramatiq",
        label="Flask + Dramatiq",
        environment="flask",
        web=(python("flask"), "-m", "bench.peers.serve", "bench.peers.flask_dramatiq:app"),
        worker=(python("flask"), "-m", "dramatiq", "--processes", "2", "--threads", "8", "bench.peers.flask_dramatiq"),
    ),
    Participant(
        name="fastapi-arq",
        label="FastAPI + arq",
        environment="arq",
        web=(python("arq"), "-m", "bench.peers.serve_asgi"),
        worker=(python("arq"), "-m", "bench.peers.work_arq"),
    ),
    Participant(
        name="fastify-bullmq",
        label="Fastify + BullMQ",
        environment="node",
        web=("node", str(node_folder() / "web.js")),
        worker=("node", str(node_folder() / "worker.js")),
    ),
    Participant(
        name="empty-flask",
        label="empty Flask route",
        environment="own",
        web=(sys.executable, "-m", "bench.peers.serve", "bench.peers.empty_flask:app"),
    ),
    Participant(
        name="tiercast",
        label="Tiercast",
        environment="own",
        web=OWN_WEB,
        worker=OWN_WORKER,
        kind="bench.kinds:Incr",
    ),
    Participant(
        name="tiercast-bulk",
        label="Tiercast, bulk kind",
        environment="own",
        web=OWN_WEB,
        worker=OWN_WORKER,
        kind="bench.kinds:IncrMany",
        bulk=True,
    ),
)

BY_NAME = {one.name: one for one in ALL}
