"""Posting sample events over a few connections that are kept open."""

from __future__ import annotations

import copy
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import IO, Any

import click

from ..event import Event, Json, data_of, is_envelope, iso_from_us, json_text
from ..http_client import HttpAnswer, HttpClient, NoAnswer, NotConnected, UnusableAddress
from ..samples import envelope, new_id, sample_data, sample_event
from ..signature import HEADER, sign
from .group import Failure

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


class UnusableChange(ValueError):
    """A value cannot be put where a change says; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An event that somebody saved: its envelope where it has one, and its data."""

    type: str | None
    envelope: Json | None = field(repr=False)
    data: Json = field(repr=False)


def read_event(file: IO[bytes]) -> Given:
    """Read an event from a file: an envelope, or the bare object of a Raw payload.

    Raises:
        Failure: it holds none; the message names the file.
    """
    try:
        document = json.loads(json_text(file.read()))
        if not isinstance(document, dict):
            raise ValueError("it holds no object")
        data = data_of(document)
    except (ValueError, RecursionError) as error:
        raise Failure(f"Cannot read an event from {file.name}: {error or 'it is nested too deeply'}.") from None
    if not is_envelope(document):
        return Given(type=None, envelope=None, data=data)
    fact = document.get("event")
    named = fact.get("type") if isinstance(fact, dict) else document.get("type")
    return Given(type=named if isinstance(named, str) else None, envelope=document, data=data)


def samples(
    type: str,
    *,
    count: int,
    customer: str | None = None,
    email: str | None = None,
    tier: str | None = None,
    raw: bool = False,
    url: str = "",
    given: Given | None = None,
    changes: Sequence[tuple[Sequence[str], Any]] = (),
) -> list[Sample]:
    """Make so many new events, each a millisecond after the one before, so that none is another's copy.

    Args:
        type: the event's type.
        count: how many.
        customer: the customer's id; by default each has a new one.
        email: the customer's email; empty for null.
        tier: the tier's name.
        raw: without the envelope.
        url: where the envelope says that it is sent.
        given: the event to send instead of a sample.
        changes: (path below `data`, value) pairs, made last.

    Raises:
        UnusableChange: a value cannot be put where a change says.
    """
    last = datetime.now(UTC)
    made = []
    for number in range(count):
        at = last - timedelta(milliseconds=count - 1 - number)
        if given is None:
            data = sample_data(type, at=at, tier=tier, **_who(number, customer=customer, email=email))
        else:
            data = copy.deepcopy(given.data)
            _adapt(data, type, customer=customer, email=email, tier=tier)
            if count > 1 and "created_at" in data:
                data["created_at"] = iso_from_us(round(at.timestamp() * 1_000_000))
        for path, value in changes:
            _put(data, path, value)
        made.append(_sample(type, data, raw=raw, url=url, given=given))
    return made


def _who(number: int, *, customer: str | None, email: str | None) -> dict[str, Any]:
    """The customer of the nth event: a new one, unless one is named; the first has the sample's own address."""
    who: dict[str, Any] = {"customer_id": customer or new_id("cust_")}
    if email is not None:
        who["email"] = email or None
    if number and not customer:
        who = {"email": f"ines.okafor+{number}@example.com"} | who | {"source_id": f"crm-40217-{number}"}
    return who


def _adapt(data: Json, type: str, *, customer: str | None, email: str | None, tier: str | None) -> None:
    """Change in a saved event what options name."""
    person = data.get("customer")
    if isinstance(person, dict):
        person |= {"id": customer} if customer else {}
        person |= {"email": email or None} if email is not None else {}
    elif customer or email:
        data["customer"] = {"id": customer, "email": email or None, "object": "customer"}
    name = "loyalty_tier_to" if type.rpartition(".")[2] in {"upgraded", "downgraded"} else "loyalty_tier"
    if tier and isinstance(data.get(name), dict):
        data[name]["name"] = tier


def _put(data: Json, path: Sequence[str], value: Any) -> None:
    """Put a value at a path; objects that are missing on the way are made."""
    here: Any = data
    for depth, name in enumerate(path):
        last = depth == len(path) - 1
        where = ".".join(["data", *path[:depth]])
        if isinstance(here, list):
            if not name.isdecimal() or int(name) >= len(here):
                raise UnusableChange(f"{where} is a list of {len(here)}, so {name} is no place in it.")
            place: Any = int(name)
        elif isinstance(here, dict):
            place = name
        else:
            raise UnusableChange(f"{where} is neither an object nor a list.")
        if last:
            here[place] = copy.deepcopy(value)
        else:
            if isinstance(here, dict) and here.get(name) is None:
                here[name] = {}
            here = here[place]


def _sample(type: str, data: Json, *, raw: bool, url: str, given: Given | None) -> Sample:
    id = new_id("evcus_")
    document = data if raw else envelope(type, data, event_id=id, target_url=url)
    if not raw and given is not None and given.envelope is not None:
        fact = given.envelope.get("event")
        document = given.envelope | {"id": new_id("whs_"), "data": data}
        if isinstance(fact, dict):
            document["event"] = fact | {"id": id, "type": type}
        else:
            document["id"] = id
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
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
    with _client(url) as client:
        for sample in made:
            if stop.is_set():
                return
            answer = _post(client, url, sample, secret)
            answers.append(answer)
            if answer.status == REFUSED:
                stop.set()


#: The status of an event that nobody was there to hear.
REFUSED = "connection refused"


def _client(url: str) -> HttpClient:
    try:
        return HttpClient(url, timeout=_TIMEOUT)
    except UnusableAddress:
        raise click.BadParameter("it is no http or https address.", param_hint="--url") from None


def _post(client: HttpClient, url: str, sample: Sample, secret: str) -> Answer:
    headers = {"content-type": "application/json", HEADER: sign(sample.body, secret)}
    begun = time.perf_counter()
    delivery = None
    try:
        answer = client.request("POST", url, body=sample.body, headers=headers)
        status = str(answer)
        if answer.status == 202:
            delivery = _delivery(answer)
    except NotConnected:
        status = REFUSED
    except NoAnswer as error:
        status = f"no answer ({error})"
    return Answer(event=sample.id, status=status, ms=(time.perf_counter() - begun) * 1000, delivery=delivery)


def _delivery(answer: HttpAnswer) -> str | None:
    """The delivery's id; None where what answered 202 is no receiver of ours."""
    try:
        document = json.loads(answer.body)
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
