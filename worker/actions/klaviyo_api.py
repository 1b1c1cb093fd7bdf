"""What the kinds `klaviyo` and `klaviyo-event` share: the credential, the identifier, what Klaviyo's answers mean.

https://developers.klaviyo.com/en/reference/api_overview, revision 2026-07-15. A revision is served for two years.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from marshmallow import fields, validate

from tiercast.actions import Action, BaseUrl, Fixed, Job, Permanent, Secret, Skip
from tiercast.outbound import FIXED_PATH, Answer, Client, Meaning, Vendor, body_object, personal_values

IDENTIFIERS = ("external_id", "email", "phone_number")

#: What Klaviyo takes for a phone number (E.164). Another one would lose the whole profile.
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")

#: Where an error points, as far as it is shown: names of the configuration, no values.
_POINTER = re.compile(r"/data/([\w/ .-]{1,120})")

_ID = re.compile(r"[A-Za-z0-9]{1,40}")


def _judge(answer: Answer) -> Meaning | None:
    """What an error's code alone does not tell: which property, and which profile."""
    errors = body_object(answer).get("errors")
    error = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    if error.get("code") == "duplicate_profile":
        meta = error.get("meta")
        other = str(meta.get("duplicate_profile_id") or "") if isinstance(meta, dict) else ""
        which = f"one of them is {other}; " if _ID.fullmatch(other) else ""
        return Meaning("dead", f"the identifiers belong to two profiles, {which}merge them in Klaviyo")
    source = error.get("source")
    found = _POINTER.fullmatch(str(source.get("pointer") or "")) if isinstance(source, dict) else None
    if answer.status == 400 and found:
        return Meaning("dead", f"Klaviyo refuses {found[1]}")
    return None


_KLAVIYO = Vendor(
    name="Klaviyo",
    meanings={
        403: Meaning("credential", "give the private key the scopes profiles:write and events:write"),
        # An id and an e-mail address of different profiles; a wrong path has no code.
        (404, "not_found"): Meaning("dead"),
        410: Meaning("setting", "Klaviyo has retired this revision: set version to a newer one"),
    },
    judge=_judge,
)

#: The key is right, whatever it may do: nothing more can be told without an effect.
_KNOWN_KEY = Vendor(name="Klaviyo", meanings={403: Meaning("done"), 410: _KLAVIYO.meanings[410]})


class KlaviyoOptions(Action.Options):
    """The options of both kinds."""

    token = Secret(required=True, metadata={"description": "private API key (pk_...)"})
    identifier = fields.String(
        load_default="external_id",
        validate=validate.OneOf(IDENTIFIERS),
        metadata={"description": "what `id` is: external_id, email or phone_number"},
    )
    id = fields.String(required=True, metadata={"description": "which profile; a template"})
    version = Fixed(
        pattern=r"20[0-9]{2}-[01][0-9]-[0-3][0-9]",
        example="2026-07-15",
        load_default="2026-07-15",
        metadata={"description": "revision of Klaviyo's API; each is served for two years"},
    )
    base_url = BaseUrl(
        load_default="https://a.klaviyo.com", metadata={"description": "where Klaviyo's API is; for tests"}
    )


class KlaviyoApi:
    """Klaviyo's API for one action.

    Args:
        options: the action's, of a schema that derives from `KlaviyoOptions`.
        timeout: seconds of one attempt.
    """

    def __init__(self, options: Mapping[str, Any], *, timeout: float) -> None:
        self._base: str = options["base_url"]
        self._secrets = [options["token"]]
        self._headers = {
            "authorization": f"Klaviyo-API-Key {options['token']}",
            "revision": options["version"],
            # Else a retired revision is served as another one, silently.
            "x-klaviyo-revision-fall-forward-opt-out": "1",
            "content-type": "application/vnd.api+json",
            "accept": "application/vnd.api+json",
        }
        self._client = Client(timeout=timeout, vendor=_KLAVIYO)

    async def post(self, path: str, body: Any, job: Job, *, hidden: Iterable[str] = ()) -> Answer:
        """Send a job's body."""
        return await self._client.send(
            "POST",
            self._base + path,
            json=body,
            headers=self._headers,
            timeout=job.timeout,
            secrets=self._secrets,
            personal=[*personal_values(job.event), *hidden],
            setting=FIXED_PATH,
        )

    async def verify(self) -> str:
        """Prove the key: read the account, for which it may lack the scope."""
        answer = await self._client.send(
            "GET",
            f"{self._base}/api/accounts",
            headers=self._headers,
            secrets=self._secrets,
            setting=FIXED_PATH,
            vendor=_KNOWN_KEY,
        )
        data = body_object(answer).get("data")
        account = data[0].get("id") if isinstance(data, list) and data and isinstance(data[0], dict) else None
        return f"the key belongs to account {account}" if account else "Klaviyo knows the key"

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


def identified(job: Job, identifier: str) -> dict[str, str]:
    """The identifier of a job's profile.

    Raises:
        Skip: it is empty. Permanent: it is a phone number that Klaviyo does not take.
    """
    value = str(job.options.id).strip()
    if not value:
        raise Skip("option id is empty for this event")
    if identifier == "phone_number" and not is_phone(value):
        raise Permanent("option id is no phone number in the form +4930123456; nothing was sent")
    return {identifier: value}


def is_phone(value: object) -> bool:
    """Whether Klaviyo takes a value for a phone number."""
    return isinstance(value, str) and _PHONE.fullmatch(value) is not None
