"""FastAPI and arq: verify, `enqueue_job(body)`, validate with pydantic in the worker, a job an action.

Results are not kept and many jobs run at once, since they only wait. arq polls; its default of half a second between
two looks would cap both rate and delay, so it looks every 10 ms (https://arq-docs.helpmanual.io).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import redis.asyncio
from arq import create_pool
from arq.connections import RedisSettings
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict

from bench.effects import ACTIONS, SIGNATURE, effect, redis_url, secret

_SETTINGS = RedisSettings.from_dsn(redis_url())


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Customer(_Open):
    id: str
    name: str | None = None
    email: str | None = None
    source_id: str | None = None
    metadata: dict[str, Any] | None = None


class Campaign(_Open):
    id: str
    name: str | None = None
    metadata: dict[str, Any] | None = None


class Points(_Open):
    to: int | None = None


class Tier(_Open):
    id: str
    name: str | None = None
    campaign_id: str | None = None
    metadata: dict[str, Any] | None = None
    created_at: datetime | None = None
    points: Points | None = None


class Data(_Open):
    customer: Customer | None
    campaign: Campaign | None
    loyalty_tier: Tier | None
    created_at: datetime


class Fact(_Open):
    id: str
    type: str
    created_at: datetime


class Envelope(_Open):
    id: str
    data: Data
    event: Fact


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.pool = await create_pool(_SETTINGS)
    yield
    await app.state.pool.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/voucherify")
async def receive(request: Request) -> Response:
    body = await request.body()
    wanted = hmac.new(secret(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(wanted, request.headers.get(SIGNATURE, "")):
        return Response('{"error": "no valid signature"}', 401, media_type="application/json")
    job = await request.app.state.pool.enqueue_job("process", body)
    return Response(f'{{"delivery": "{job.job_id}"}}', 202, media_type="application/json")


async def process(ctx: dict[str, Any], body: bytes) -> None:
    found = Envelope.model_validate_json(body)
    customer, tier = found.data.customer, found.data.loyalty_tier
    event = {
        "id": found.event.id,
        "type": found.event.type,
        "customer": customer.model_dump(include={"id", "name", "email", "source_id"}) if customer else None,
        "campaign": found.data.campaign.name if found.data.campaign else None,
        "tier": {"id": tier.id, "name": tier.name} if tier else None,
    }
    await asyncio.gather(*(ctx["redis"].enqueue_job("act", action, event) for action in ACTIONS))


async def act(ctx: dict[str, Any], action: str, event: dict[str, Any]) -> None:
    await effect(ctx["client"], action, event["id"])


async def start(ctx: dict[str, Any]) -> None:
    ctx["client"] = redis.asyncio.Redis.from_url(redis_url())


class WorkerSettings:
    functions = (process, act)
    redis_settings = _SETTINGS
    on_startup = start
    keep_result = 0
    log_results = False
    max_jobs = 50
    poll_delay = 0.01
