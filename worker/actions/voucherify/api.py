"""What the kinds that answer through Voucherify's own API share: the credential, what its answers mean, its paths.

Errors: https://docs.voucherify.io/api-reference/errors, limits: https://docs.voucherify.io/api-reference/rate-limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from marshmallow import fields

from tiercast.actions import Action, BaseUrl, RetryLater, Secret, Unavailable, Unknown
from tiercast.event import Event
from tiercast.outbound import Answer, Client, Deadline, Meaning, Vendor, Waits, body_object

#: The default rate: a quarter of the smallest paid plan (100 a minute). The shop of the customer lives on the rest.
RATE = "25/min"

#: The least wait, in seconds, where the calls of the plan's cycle are used up.
_CYCLE_WAIT = 3600.0

#: What the details of a refused metadata schema begin with: the name of the property.
_REFUSED_PROPERTY = re.compile(r"([\w .-]{1,64}): ")


def _cycle(answer: Answer) -> float | None:
    """How long to wait where the plan is used up, and not only the rate."""
    return _CYCLE_WAIT if answer.headers.get("x-rate-limit-type", "").lower().endswith("_cycle") else None


def _judge(answer: Answer) -> Meaning | None:
    """What the key of an error alone does not tell."""
    body = body_object(answer)
    if answer.status == 404 and body.get("resource_type") == "customer":
        return Meaning("dead", "Voucherify has no such customer")
    if body.get("key") == "metadata_validation_failed":
        found = _REFUSED_PROPERTY.match(str(body.get("details") or ""))
        which = f"the property {found[1]}" if found else "a property"
        return Meaning("dead", f"the project's metadata schema refuses {which}: change its type, or the schema")
    return None


VOUCHERIFY = Vendor(
    name="Voucherify",
    meanings={
        402: Meaning("setting", "the plan of the Voucherify account does not allow the call, or has ended"),
        423: Meaning("later"),  # the resource is locked by another call
    },
    judge=_judge,
    waits=Waits(until=("x-rate-limit-retry",), more=_cycle),
)


class Credential(Action.Options):
    """The options of every kind that calls Voucherify."""

    app_id = Secret(required=True, metadata={"description": "X-App-Id of an API key of the project"})
    app_token = Secret(required=True, metadata={"description": "X-App-Token of that key"})
    base_url = BaseUrl(
        load_default="https://api.voucherify.io",
        metadata={"description": "https://us1.api.voucherify.io, https://as1.api.voucherify.io or a host of yours"},
    )


class Api:
    """Voucherify's API for one action.

    Args:
        options: the action's, of a schema that derives from `Credential`.
        timeout: seconds of one attempt.
    """

    def __init__(self, options: Mapping[str, Any], *, timeout: float) -> None:
        self._base: str = options["base_url"]
        self._headers = {"x-app-id": options["app_id"], "x-app-token": options["app_token"]}
        self._client = Client(timeout=timeout, vendor=VOUCHERIFY)

    async def send(
        self, method: str, path: str, *, deadline: Deadline, personal: Iterable[str] | Event = (), **more: Any
    ) -> Answer:
        """One call; see `Client.send`.

        Raises:
            RetryLater: the attempt's time was used up before the call, as in a process that was frozen.
        """
        if deadline.left <= 0:
            raise RetryLater("the time of the attempt was used up before the next call")
        return await self._client.send(
            method,
            f"{self._base}{path}",
            headers=self._headers,
            timeout=deadline.left,
            secrets=self._headers.values(),
            personal=personal,
            **more,
        )

    async def read(self, path: str, **more: Any) -> Mapping[str, Any]:
        """GET an object. Nothing can have happened, so what has no answer is asked again later."""
        try:
            answer = (await self.send("GET", path, **more)).json()
        except Unknown as error:
            raise (Unavailable if error.unavailable else RetryLater)(str(error)) from None
        except ValueError:
            raise RetryLater("Voucherify's answer is no JSON or was cut off") from None
        if not isinstance(answer, dict):
            raise RetryLater("Voucherify's answer is not an object")
        return answer

    async def verify(self, seconds: float) -> str:
        """Prove the credential: list a campaign, which changes nothing.

        Raises:
            Halt: it is refused.
        """
        await self.read("/v1/campaigns", params={"limit": "1"}, deadline=Deadline(seconds), setting=range(300, 500))
        return "Voucherify takes the API key"

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


def segment(text: str) -> str:
    """An id or a name as one part of a path; dots alone would climb."""
    return "%2E" * len(text) if text in {".", ".."} else quote(text.encode("utf-8", "replace"), safe="")


def customer_field(description: str = "id or source id of the customer") -> fields.String:
    """The option that says who the customer is."""
    return fields.String(load_default="{{ event.customer.id }}", metadata={"description": description})


def is_template(text: str) -> bool:
    """Whether an option holds a template, so that an event decides what it is."""
    return "{{" in text or "{%" in text
