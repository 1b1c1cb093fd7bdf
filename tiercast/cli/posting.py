"""Posting sample events over a few connections that are kept open."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import httpx

from ..event import Event, Json
from ..samples import envelope, new_id, sample_data, sample_event
from ..signature import HEADER, sign

#: The most connections, and how many events each should have at least.
_CONNECTIONS = 8
_EACH = 10

#: Seconds to wait for an answer; Voucherify waits as long.
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample event, ready to send."""

    id: str
    type: str
    data: Json = field(repr=False)
    body: bytes = field(repr=False)

    def event(self, source: str) -> Event:
        """The event that it tells."""
        return sample_event(self.type, id=self.id, source=source, data=self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the receiver said to one event: a status, or in words why there was none. `ms` is how long it took."""

    event: str
    status: str
    ms: float
    delivery: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What became of all of them."""

    accepted: int
    refused: dict[str, int]
    seconds: float
    answers: list[Answer]


def samples(
    type: str, *, count: int, customer: str | None, email: str | None, tier: str | None, raw: bool, url: str
) -> list[Sample]:
    """Make so many new events, each a millisecond after the one before, so that none is another's copy."""
    last = datetime.now(UTC)
    return [
        _sample(
            type,
            at=last - timedelta(milliseconds=count - 1 - number),
            who=_who(number, customer=customer, email=email),
            tier=tier,
            raw=raw,
            url=url,
        )
        for number in range(count)
    ]


def _who(number: int, *, customer: str | None, email: str | None) -> dict[str, Any]:
    """The customer of the nth event: a new one, unless one is named; the first has the sample's own address."""
    who: dict[str, Any] = {"customer_id": customer or new_id("cust_")}
    if email is not None:
        who["email"] = email or None
    if number and not customer:
        who = {"email": f"ines.okafor+{number}@example.com"} | who | {"source_id": f"crm-40217-{number}"}
    return who


def _sample(type: str, *, at: datetime, who: dict[str, Any], tier: str | None, raw: bool, url: str) -> Sample:
    data = sample_data(type, at=at, tier=tier, **who)
    id = new_id("evcus_")
    document = data if raw else envelope(type, data, event_id=id, target_url=url)
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return Sample(id=id, type=type, data=data, body=body)


def post_all(url: str, made: list[Sample], secret: str) -> Posted:
    """Post all of them, a few at a time; stops when nothing listens there."""
    threads = max(1, min(_CONNECTIONS, len(made) // _EACH))
    stop = threading.Event()
    begun = time.perf_counter()
    answers: list[Answer] = []
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(_post_some, url, made[n::threads], secret, stop, answers) for n in range(threads)]
        try:
            _watch(parts, answers, len(made))
        finally:
            stop.set()
    seconds = time.perf_counter() - begun
    accepted = sum(answer.delivery is not None for answer in answers)
    refused = Counter(answer.status for answer in answers if answer.delivery is None)
    if len(answers) < len(made):
        refused["not sent"] = len(made) - len(answers)
    return Posted(accepted=accepted, refused=dict(refused), seconds=round(seconds, 3), answers=answers)


def _post_some(url: str, made: list[Sample], secret: str, stop: threading.Event, answers: list[Answer]) -> None:
    with httpx.Client(timeout=_TIMEOUT, trust_env=False) as client:
        for sample in made:
            if stop.is_set():
                return
            answer = _post(client, url, sample, secret)
            answers.append(answer)
            if answer.status == REFUSED:
                stop.set()


#: The status of an event that nobody was there to hear.
REFUSED = "connection refused"


def _post(client: httpx.Client, url: str, sample: Sample, secret: str) -> Answer:
    headers = {"content-type": "application/json", HEADER: sign(sample.body, secret)}
    begun = time.perf_counter()
    delivery = None
    try:
        response = client.post(url, content=sample.body, headers=headers)
        status = f"{response.status_code} {response.reason_phrase}".strip()
        if response.status_code == 202:
            delivery = _delivery(response)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise click.BadParameter("it is no http or https address.", param_hint="--url") from None
    except httpx.ConnectError:
        status = REFUSED
    except httpx.HTTPError as error:
        status = f"no answer ({type(error).__name__})"
    return Answer(event=sample.id, status=status, ms=(time.perf_counter() - begun) * 1000, delivery=delivery)


def _delivery(response: httpx.Response) -> str | None:
    """The delivery's id; None where what answered 202 is no receiver of ours."""
    try:
        document = response.json()
    except ValueError:
        return None
    delivery = document.get("delivery") if isinstance(document, dict) else None
    return delivery if isinstance(delivery, str) else None


def _watch(parts: list[Future[None]], answers: list[Answer], count: int) -> None:
    """Wait until all are posted; a person at a terminal sees how far it is."""
    hidden = not sys.stderr.isatty() or count < 100
    with click.progressbar(length=count, label=f"post {count}", file=sys.stderr, width=30, hidden=hidden) as bar:
        left: set[Future[None]] = set(parts)
        while left:
            done, left = wait(left, timeout=0.2)
            for part in done:
                part.result()
            bar.update(len(answers) - bar.pos)
