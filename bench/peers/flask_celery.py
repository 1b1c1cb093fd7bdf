"""Flask and Celery on Redis, as most would build it: verify, `.delay(body)`, validate in the task, a task an action.

Tuned after https://docs.celeryq.dev/en/stable/userguide/optimizing.html: results ignored, a large prefetch for short
tasks, a pool of broker connections as large as the threads that use it, no rate limits, no gossip.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import redis
from celery import Celery
from flask import Flask, request

from bench.effects import ACTIONS, SIGNATURE, effect, redis_url
from bench.peers.schema import authentic, read

celery = Celery("peer", broker=redis_url())
celery.conf.update(
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=64,
    worker_disable_rate_limits=True,
    broker_pool_limit=64,
    worker_send_task_events=False,
)
app = Flask(__name__)


@app.post("/webhooks/voucherify")
def receive() -> tuple[str, int]:
    body = request.get_data()
    if not authentic(body, request.headers.get(SIGNATURE, "")):
        return '{"error": "no valid signature"}', 401
    answer = process.delay(body.decode())
    return f'{{"delivery": "{answer.id}"}}', 202


@celery.task
def process(body: str) -> None:
    event = read(body)
    for action in ACTIONS:
        act.delay(action, event)


@celery.task
def act(action: str, event: dict[str, Any]) -> None:
    effect(_client(), action, event["id"])


@cache
def _client() -> Any:
    return redis.Redis.from_url(redis_url())
