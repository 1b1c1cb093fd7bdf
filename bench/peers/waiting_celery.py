"""Flask and Celery where actions wait for a network: one signed call, one mail or one record in bulk for each event.

The calls are what the common libraries make at their best: urllib3 (which requests is built on, at half its cost) with
connections that are kept, and smtplib with sessions that are kept. One program serves both pools:

- prefork: many processes, each with one connection;
- gevent: a few processes with hundreds of greenlets each, which share a pool of as many connections, started as
  https://docs.celeryq.dev/en/stable/userguide/concurrency/gevent.html advises.

After https://docs.celeryq.dev/en/stable/userguide/optimizing.html: results ignored, rate limits off, no gossip, a pool
of broker connections for the greenlets that enqueue.

`BENCH_SHAPE` is `event`: one task validates and calls; or `action`: a task for the event enqueues a task for its
action, which can be retried alone. Records go into a list, and every hundredth has a task make the bulk call.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import smtplib
import time
from email.message import EmailMessage
from functools import cache
from queue import Empty, LifoQueue
from typing import Any

import redis
import urllib3
from celery import Celery
from flask import Flask, request

from bench.effects import SIGNATURE, redis_url
from bench.peers.schema import authentic, read

_WORKLOAD = os.environ.get("BENCH_WORKLOAD", "http")
_PORT = int(os.environ.get("BENCH_TARGET_PORT", "0"))
_CONNECTIONS = int(os.environ.get("BENCH_CONNECTIONS", "1"))
_KEY = base64.b64decode(os.environ.get("BENCH_ENDPOINT_SECRET", ""))
_BULK, _RECORDS, _COUNT = 100, "bench:records", "bench:recorded"

celery = Celery("peer", broker=redis_url())
celery.conf.update(
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_disable_rate_limits=True,
    worker_send_task_events=False,
    broker_pool_limit=64,
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
    if _WORKLOAD == "crm":
        collect(event)
    elif os.environ.get("BENCH_SHAPE") == "action":
        act.delay(event)
    else:
        perform(event)


@celery.task
def act(event: dict[str, Any]) -> None:
    perform(event)


def perform(event: dict[str, Any]) -> None:
    """Have the effect; what it raises fails the task."""
    if _WORKLOAD == "smtp":
        mail(event)
    else:
        call(event)


def call(event: dict[str, Any]) -> None:
    """One call, signed by Standard Webhooks."""
    body = json.dumps(event).encode()
    now = str(int(time.time()))
    content = b".".join([event["id"].encode(), now.encode(), body])
    signature = base64.b64encode(hmac.new(_KEY, content, hashlib.sha256).digest()).decode()
    post(
        "/hook",
        body,
        {"webhook-id": event["id"], "webhook-timestamp": now, "webhook-signature": f"v1,{signature}"},
    )


def mail(event: dict[str, Any]) -> None:
    """One mail, over a session that is kept."""
    message = EmailMessage()
    message["From"] = "rewards@shop.example"
    message["To"] = event["customer"]["email"]
    message["Subject"] = f"Event {event['id']}"
    message.set_content(f"Hello {event['customer']['name']}, welcome to {event['tier']['name']}.\n")
    try:
        session = _sessions().get_nowait()
    except Empty:
        session = smtplib.SMTP("127.0.0.1", _PORT, timeout=30)
    session.send_message(message)
    _sessions().put(session)


def collect(event: dict[str, Any]) -> None:
    """Keep a record for the bulk call; each hundredth enqueues one."""
    record = {
        "idProperty": "voucherify_id",
        "id": event["customer"]["id"],
        "properties": {"event": event["id"], "tier": event["tier"]["name"]},
        "objectWriteTraceId": event["id"],
    }
    pipe = _client().pipeline()
    pipe.rpush(_RECORDS, json.dumps(record))
    pipe.incr(_COUNT)
    if pipe.execute()[1] % _BULK == 0:
        flush.delay()


@celery.task
def flush() -> None:
    records = _client().lpop(_RECORDS, _BULK) or []
    post("/records", b'{"inputs":[' + b",".join(records) + b"]}", {"authorization": "Bearer bench"})


def post(path: str, body: bytes, headers: dict[str, str]) -> None:
    answer = _pool().urlopen("POST", path, body=body, headers={"content-type": "application/json", **headers})
    if answer.status != 200:
        raise ValueError(f"the endpoint answered {answer.status}")


@cache
def _pool() -> urllib3.HTTPConnectionPool:
    return urllib3.HTTPConnectionPool("127.0.0.1", _PORT, maxsize=_CONNECTIONS, timeout=30, retries=False)


@cache
def _sessions() -> LifoQueue[smtplib.SMTP]:
    return LifoQueue()


@cache
def _client() -> Any:
    return redis.Redis.from_url(redis_url())
