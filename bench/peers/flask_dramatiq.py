"""Flask and Dramatiq on Redis: verify, `.send(body)`, validate in the actor, an actor call an action.

Dramatiq's defaults are what its documentation advises for work like this: threads in a process a core, no results.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from flask import Flask, request

from bench.effects import ACTIONS, SIGNATURE, effect, redis_url
from bench.peers.schema import authentic, read

dramatiq.set_broker(RedisBroker(url=redis_url()))
app = Flask(__name__)


@app.post("/webhooks/voucherify")
def receive() -> tuple[str, int]:
    body = request.get_data()
    if not authentic(body, request.headers.get(SIGNATURE, "")):
        return '{"error": "no valid signature"}', 401
    message = process.send(body.decode())
    return f'{{"delivery": "{message.message_id}"}}', 202


@dramatiq.actor
def process(body: str) -> None:
    event = read(body)
    dramatiq.group(act.message(action, event) for action in ACTIONS).run()


@dramatiq.actor
def act(action: str, event: dict[str, Any]) -> None:
    effect(_client(), action, event["id"])


@cache
def _client() -> Any:
    return redis.Redis.from_url(redis_url())
