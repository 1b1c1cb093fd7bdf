"""What the kinds `hubspot` and `hubspot-event` share: the token, the version, what HubSpot's answers mean.

Its errors: https://developers.hubspot.com/docs/api-reference/error-handling
The account: https://developers.hubspot.com/docs/api-reference/2026-03/account/account-information/get-account-details
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tiercast.actions import Action, BaseUrl, Fixed, Job, Secret
from tiercast.outbound import (
    FIXED_PATH,
    Answer,
    Client,
    Meaning,
    ValueForm,
    Vendor,
    Waits,
    body_object,
    personal_values,
    usual_codes,
)

ACCOUNT = "/account-info/{version}/details"

#: 409 is two writers at once, or values that belong to another contact for good; it names the first conflict only.
CONFLICT = 409

#: The least wait, in seconds, where the day's calls are used up: they come back at midnight of the account's zone.
_DAILY_WAIT = 1800.0

#: What a property that does not exist is called in the list that an error's message holds.
_NO_PROPERTY = "PROPERTY_DOESNT_EXIST"

#: An empty text is what clears a property. All values are text; those of a list are parted by semicolons.
FORM = ValueForm(cleared="", as_text=True, lists=False, separator=";")


def _daily(answer: Answer) -> float | None:
    """How long to wait where the body says that the day's calls are used up."""
    return _DAILY_WAIT if str(body_object(answer).get("policyName")).upper() == "DAILY" else None


def _codes(answer: Answer) -> Iterator[str]:
    """What is wrong with single properties tells more than the category of the whole."""
    yield from dict.fromkeys(
        str(part.get("error", "")) for part in listed_in(body_object(answer).get("message")) if part.get("error")
    )
    yield from usual_codes(answer)


def _judged(answer: Answer) -> Meaning | None:
    advice = advice_of(body_object(answer).get("message"))
    return Meaning("dead", advice) if advice else None


HUBSPOT = Vendor(
    name="HubSpot",
    meanings={
        CONFLICT: Meaning("later"),
        423: Meaning("later"),  # the contact is locked
        477: Meaning("later"),  # the account is being moved, with Retry-After
        "RATE_LIMITS": Meaning("limited"),
        "RATE_LIMIT": Meaning("limited"),
    },
    codes=_codes,
    judge=_judged,
    waits=Waits(more=_daily),
)


class HubSpotOptions(Action.Options):
    """The options of both kinds."""

    token = Secret(required=True, metadata={"description": "access token of a private app or service key"})
    version = Fixed(
        pattern=r"20[0-9]{2}-(03|09)",
        example="2026-03",
        load_default="2026-03",
        metadata={"description": "of HubSpot's API; each is served for 18 months"},
    )
    base_url = BaseUrl(
        load_default="https://api.hubapi.com", metadata={"description": "where HubSpot's API is; for tests"}
    )


class HubSpotApi:
    """HubSpot's API for one action.

    Args:
        options: the action's, of a schema that derives from `HubSpotOptions`.
        timeout: seconds of one attempt.
    """

    def __init__(self, options: Mapping[str, Any], *, timeout: float, vendor: Vendor = HUBSPOT) -> None:
        self._base: str = options["base_url"]
        self._version: str = options["version"]
        self._secrets = [options["token"]]
        self._headers = {"authorization": f"Bearer {options['token']}", "content-type": "application/json"}
        self._client = Client(timeout=timeout, vendor=vendor)

    async def send(self, method: str, path: str, **more: Any) -> Answer:
        """One call; `{version}` in the path is the version. See `Client.send`."""
        return await self._client.send(
            method,
            self._base + path.format(version=self._version),
            headers=self._headers,
            secrets=self._secrets,
            setting=FIXED_PATH,
            **more,
        )

    async def verify(self) -> str:
        """Prove the token: read the account, which changes nothing."""
        account = body_object(await self.send("GET", ACCOUNT)).get("portalId")
        return f"the token belongs to account {account}" if account else "HubSpot takes the token"

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


def advice_of(message: object) -> str:
    """What to do about properties that HubSpot does not have; empty where there are none."""
    missing = [str(part.get("name", "it")) for part in listed_in(message) if part.get("error") == _NO_PROPERTY]
    if not missing:
        return ""
    which = f"the property {missing[0]}" if len(missing) == 1 else f"the properties {', '.join(missing)}"
    return f"create {which} in HubSpot, or take {'it' if len(missing) == 1 else 'them'} out of properties"


def listed_in(message: object) -> list[Mapping[str, Any]]:
    """The properties that a message lists as JSON behind its first words."""
    _, bracket, rest = str(message or "").partition("[")
    try:
        return objects_in(json.loads(bracket + rest)) if bracket else []
    except (ValueError, RecursionError):
        return []


def reason_of(message: object) -> str:
    """The message; where it lists properties as JSON, only their names and what is wrong, not their values."""
    listed = listed_in(message)
    if not listed:
        return str(message or "no message")
    told = (f"{part.get('name', 'a property')}: {part.get('error', 'refused')}" for part in listed)
    return f"{str(message).partition('[')[0].strip()} {'; '.join(told)}"


def objects_in(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list."""
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


class Personal:
    """What no message may repeat of the customers of some jobs; gathered only where there is a message."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs

    def __iter__(self) -> Iterator[str]:
        return (value for job in self._jobs for value in (*personal_values(job.event), str(job.options.id)))
