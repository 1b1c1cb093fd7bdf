"""What the kinds `customerio` and `customerio-event` share: the credential, the batch call, what its answers mean.

The call: https://docs.customer.io/integrations/api/track/#operation/batch
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from marshmallow import fields, validate

from tiercast.actions import Action, BaseUrl, Halt, Job, Permanent, Result, Secret, Skip, Unknown
from tiercast.outbound import (
    FIXED_PATH,
    Answer,
    Bulk,
    Client,
    Deadline,
    Item,
    Meaning,
    ValueForm,
    Vendor,
    body_object,
    encode_json,
    json_list,
    personal_values,
    unix_seconds,
)

BATCH = "/api/v2/batch"
REGION = "/api/v1/accounts/region"

#: The default rate: 80 % of 1,000 calls a second, which Customer.io names and does not enforce.
RATE = "800/s"

IDENTIFIERS = ("id", "email", "phone", "cio_id")

#: A body stays under 500 KB, and an entry within 32 KB.
MOST_BYTES = 500_000
_MOST_ENTRY_BYTES = 32 * 1024
_MOST_IDENTIFIER_BYTES = 150

_HOSTS = {"us": "https://track.customer.io", "eu": "https://track-eu.customer.io"}


def _midnight(day: date) -> int:
    return unix_seconds(datetime(day.year, day.month, day.day, tzinfo=UTC))


#: Times are whole seconds since 1970. An empty text empties an attribute.
FORM = ValueForm(cleared="", day=_midnight, time=unix_seconds)

_WRONG_REGION = Meaning("setting", "the account is in another region: set region to us or eu")

_CUSTOMERIO = Vendor(
    name="Customer.io",
    meanings={
        # It names each entry that it refuses, and the call returns, so that each job gets its own reason.
        400: Meaning("done"),
        401: Meaning("credential", "check site_id, api_key and region"),
        **dict.fromkeys((301, 302, 303, 307, 308), _WRONG_REGION),
    },
)


class CustomerIOOptions(Action.Options):
    """The options of both kinds."""

    site_id = Secret(required=True, metadata={"description": "Site ID of the workspace's Track API key"})
    api_key = Secret(required=True, metadata={"description": "the Track API key"})
    region = fields.String(
        load_default="us", validate=validate.OneOf(list(_HOSTS)), metadata={"description": "us or eu"}
    )
    identifier = fields.String(
        load_default="id",
        validate=validate.OneOf(IDENTIFIERS),
        metadata={"description": "what `id` is: id, email, phone or cio_id"},
    )
    id = fields.String(required=True, metadata={"description": "which person; a template"})
    base_url = BaseUrl(
        load_default=None, allow_none=True, metadata={"description": "in place of the region's host; for tests"}
    )


class CustomerIOApi:
    """Customer.io's batch call for one action.

    Args:
        options: the action's, of a schema that derives from `CustomerIOOptions`.
        entry: makes the entry of a job, but for type and identifiers.
        in_order: whether entries of one person go in calls of their own, in order.
        most: the most entries in a call.
        timeout: seconds of one attempt.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        entry: Callable[[Job], Mapping[str, Any]],
        in_order: bool,
        most: int,
        timeout: float,
    ) -> None:
        self._base: str = options["base_url"] or _HOSTS[options["region"]]
        self._region: str = options["region"]
        self._identifier: str = options["identifier"]
        token = base64.b64encode(f"{options['site_id']}:{options['api_key']}".encode()).decode()
        self._secrets = [options["site_id"], options["api_key"], token]
        self._headers = {"authorization": f"Basic {token}", "content-type": "application/json"}
        self._client = Client(timeout=timeout, vendor=_CUSTOMERIO)
        self._entry = entry
        self._in_order = in_order
        self._bulk = Bulk(item=self.item, send=self._send, most=most, most_bytes=MOST_BYTES)

    async def one(self, job: Job) -> Result:
        """Send the entry of one job."""
        return await self._bulk.one(job, Deadline(job.timeout))

    async def settle(self, jobs: list[Job]) -> AsyncIterator[tuple[Job, Result | Exception]]:
        """Send the entries of jobs."""
        async for settled in self._bulk.settle(jobs, Deadline(min(job.timeout for job in jobs))):
            yield settled

    async def verify(self) -> str:
        """Prove credential and region: Customer.io tells which region the account is in."""
        answer = await self._client.send(
            "GET", self._base + REGION, headers=self._headers, secrets=self._secrets, setting=FIXED_PATH
        )
        found = str(body_object(answer).get("data_center") or body_object(answer).get("region") or "").lower()
        if found in _HOSTS and found != self._region:
            raise Halt(f'the Customer.io account is in the region {found}: set region = "{found}"', cause="setting")
        return f"Customer.io takes the key, region {self._region}"

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    def item(self, job: Job) -> Item:
        """The entry of a job.

        Raises:
            Skip: there is nobody to name. Permanent: it is more than Customer.io takes.
        """
        value = str(job.options.id).strip()
        if not value:
            raise Skip("option id is empty for this event")
        if len(value.encode("utf-8", "replace")) > _MOST_IDENTIFIER_BYTES:
            raise Permanent(f"option id has more than {_MOST_IDENTIFIER_BYTES} bytes; nothing was sent")
        content = encode_json({"type": "person", "identifiers": {self._identifier: value}, **self._entry(job)})
        if len(content) > _MOST_ENTRY_BYTES:
            raise Permanent("the entry has more than 32 KB, which Customer.io does not take; nothing was sent")
        identity = value.casefold() if self._identifier == "email" else value
        return Item(job, content, identity=identity if self._in_order else "")

    async def _send(self, items: Sequence[Item], seconds: float) -> Mapping[str, Result | Exception]:
        answer = await self._client.send(
            "POST",
            self._base + BATCH,
            content=b'{"batch":' + json_list(items) + b"}",
            headers=self._headers,
            timeout=seconds,
            secrets=self._secrets,
            personal=_Personal(items),
            setting=FIXED_PATH,
        )
        body = _body(answer)
        errors = _errors(body)
        failed = {place: self._refusal(error, items[place]) for place, error in _placed(errors, len(items)).items()}
        if answer.status >= 400 and len(failed) < len(items):
            raise _refused(errors, items)
        outcomes: dict[str, Result | Exception] = {items[place].job.key: error for place, error in failed.items()}
        # Where an error names no entry, or a 207 no error, nobody knows of those that are not named.
        if answer.status == 200 or (answer.status == 207 and errors and len(failed) == len(errors)):
            outcomes |= {item.job.key: "accepted" for place, item in enumerate(items) if place not in failed}
        return outcomes

    def _refusal(self, error: Mapping[str, Any], item: Item) -> Exception:
        return _refused([error], [item])


def _refused(errors: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> Exception:
    """An error as an outcome; it names the attribute and the reason."""
    error = errors[0] if errors else {}
    field, message = str(error.get("field") or ""), str(error.get("message") or "")
    found = _CUSTOMERIO.item(
        codes=[str(error.get("reason") or ""), field],
        message=message,
        otherwise=Meaning("dead"),
        personal=_Personal(items),
    )
    assert found is not None  # noqa: S101 - "dead" always raises
    return found


def _placed(errors: Sequence[Mapping[str, Any]], count: int) -> dict[int, Mapping[str, Any]]:
    """The errors that name an entry, by its place."""
    return {
        place: error
        for error in reversed(errors)
        if isinstance(place := error.get("batch_index"), int) and not isinstance(place, bool) and 0 <= place < count
    }


def _errors(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = body.get("errors")
    return [error for error in found if isinstance(error, dict)] if isinstance(found, list) else []


def _body(answer: Answer) -> Mapping[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        if answer.status >= 400:
            return {}
        raise Unknown("Customer.io's answer is no JSON object or was cut off")
    return body


class _Personal:
    """What no message may repeat of the customers of some jobs; gathered only where there is a message."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[str]:
        jobs = (item.job for item in self._items)
        return (value for job in jobs for value in (*personal_values(job.event), str(job.options.id)))
