"""Plans, outcomes and held jobs as the scripts take and give them."""

from __future__ import annotations

import math
from typing import Any

from ..rule_outcomes import encode
from ..text import clean_text
from . import keys
from .model import HeldJob, Outcome, Plan, PlannedJob

#: Seconds; nothing waits or lasts longer than ten years.
_LONGEST = 10 * 365 * 86400.0


def plan(of: Plan) -> dict[str, Any]:
    """A plan, for deliveries.lua."""
    request: dict[str, Any] = {"k": of.delivery, "t": of.token, "o": of.state}
    if of.reason:
        request["r"] = clean_text(of.reason)
    if of.rules and (rules := encode(of.rules)):
        request["v"] = rules
    if of.customer:
        request["c"] = of.customer
        if of.keeps_names and len(of.customer) > 1:
            request["ln"] = 1
    if of.type:
        request |= {"e": of.event_id, "at": of.at, "h": keys.event_head(of.created_us, of.form, of.type)}
    if of.jobs:
        request["jobs"] = [_planned_job(job) for job in of.jobs]
    if of.project:
        request["p"] = of.project
    if of.rank:
        request["rk"] = of.rank
    return request


def _planned_job(job: PlannedJob) -> str | dict[str, Any]:
    request: dict[str, Any] = {}
    if job.order:
        request["og"] = job.order
    if job.once:
        request["cg"] = job.once
    if job.unordered:
        request["u"] = 1
    if job.skipped:
        request |= {"s": "skipped", "r": job.skipped}
    return request | {"a": job.action} if request else job.action


def outcome(of: Outcome) -> dict[str, Any]:
    """An outcome, for jobs.lua."""
    request: dict[str, Any] = {"k": of.job, "t": of.token, "o": of.verdict}
    if of.text:
        request["r"] = of.text
    if of.wait is not None:
        request["w"] = _ms(of.wait)
    if of.effect_possible is not None:
        request["m"] = int(of.effect_possible)
    if of.duration is not None:
        request["du"] = _ms(of.duration)
    if of.answered and of.verdict != "done":
        request["y"] = 1
    if of.signal:
        request["x"] = of.signal
    if of.alike:
        request["c"] = [of.alike.code, of.alike.reason, of.alike.most]
    if of.hold:
        request["h"] = [_ms(of.hold.seconds), of.hold.cause, of.hold.reason]
        if of.hold.limit:
            request["h"].append(of.hold.limit)
    return request


def _ms(seconds: float) -> int:
    """Milliseconds, within what a time can be: an outcome with another would have its whole batch refused."""
    return 0 if math.isnan(seconds) else round(min(max(0.0, seconds), _LONGEST) * 1000)


def held_job(row: list[Any], token: str, now: int) -> HeldJob:
    """A job that jobs.lua claimed under this token, `now` by the ledger's clock (milliseconds)."""
    name, expiries, delay, job, (head, at), body = row
    key = name.decode()
    source, event_id, _ = keys.parts_of(key)
    n, before, effect_possible, delivery, once, since, failing = job
    created_us, form, kind = keys.parts_of_head(head.decode() if head else None)
    return HeldJob(
        key=key,
        token=token,
        attempts=int(n),
        tries=int(n) - int(before or 0),
        effect_possible=effect_possible == b"1",
        expiries=int(expiries),
        delay=int(delay) / 1000,
        delivery=delivery.decode(),
        event_id=event_id,
        type=kind,
        at=at.decode() if at else "",
        created_us=created_us,
        source=source,
        form=form,
        once=once.decode() if once else None,
        body=body or b"",
        since=(now - int(since)) / 1000 if since else None,
        failing=int(failing) / 1000 if failing else None,
    )
