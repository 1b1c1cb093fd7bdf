"""What the kinds `braze` and `braze-event` share: the credential, `/users/track`, what its answers mean.

The call: https://www.braze.com/docs/api/endpoints/user_data/post_user_track
Its errors: https://www.braze.com/docs/api/errors
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from marshmallow import fields, validate

from tiercast.actions import Action, BaseUrl, Done, Fixed, Job, Permanent, Result, Secret, Skip, Unknown
from tiercast.outbound import (
    FIXED_PATH,
    Answer,
    Bulk,
    Client,
    Deadline,
    Item,
    Meaning,
    Vendor,
    Waits,
    body_object,
    encode_json,
    json_list,
    personal_values,
    without_values,
)

TRACK = "/users/track"

#: The most objects, over all lists of a call, and the most bytes of an object and of a call. Braze takes 4 MB; sending
#: more than 1 MB in one piece would hold up the event loop.
MOST_OBJECTS = 75
_MOST_BYTES = 1_000_000
_MOST_OBJECT_BYTES = 100_000

#: The default rate: 80 % of 3,000 calls in 3 seconds. Accounts of other plans state theirs.
RATE = "800/s"

IDENTIFIERS = ("external_id", "braze_id", "email", "phone", "user_alias")

_QUEUED = "queued by Braze, which is under maintenance"


def _reset(answer: Answer) -> float | None:
    """The end of the window, where Braze does not name a shorter wait."""
    if "x-ratelimit-retry-after" in answer.headers:
        return None
    return Waits(after=(), until=("x-ratelimit-reset",)).seconds(answer)


_BRAZE = Vendor(
    name="Braze",
    meanings={
        # It names each object that it refuses, and the call returns, so that each job gets its own reason.
        400: Meaning("done"),
        401: Meaning("credential", "check token, and that host is the instance of its workspace"),
        403: Meaning("credential", "give the key the permission users.track"),
        404: Meaning("setting", "check host: it is the REST endpoint of the workspace's instance"),
    },
    waits=Waits(after=("retry-after", "x-ratelimit-retry-after"), more=_reset),
)


class BrazeOptions(Action.Options):
    """The options of both kinds."""

    token = Secret(required=True, metadata={"description": "REST API key with the permission users.track"})
    host = Fixed(
        required=True,
        pattern=r"rest\.[a-z]{2,4}-[0-9]{2}\.braze\.(com|eu)",
        example="rest.fra-02.braze.eu",
        metadata={"description": "REST endpoint of the workspace's instance, such as rest.fra-02.braze.eu"},
    )
    identifier = fields.String(
        load_default="external_id",
        validate=validate.OneOf(IDENTIFIERS),
        metadata={"description": "what `id` is: external_id, braze_id, email, phone or user_alias"},
    )
    id = fields.String(required=True, metadata={"description": "which user; a template"})
    alias_label = fields.String(
        load_default=None,
        allow_none=True,
        metadata={"description": "the label, where `id` is the name of a user_alias"},
    )
    create = fields.Boolean(
        load_default=False, metadata={"description": "create users whom Braze does not know; else they are left out"}
    )
    base_url = BaseUrl(load_default=None, allow_none=True, metadata={"description": "in place of host; for tests"})


class BrazeApi:
    """`/users/track` for one list of one action.

    Args:
        options: the action's, of a schema that derives from `BrazeOptions`.
        array: the list of the body that its objects stand in.
        object_of: makes what the object of a job says beside the user.
        timeout: seconds of one attempt.

    Raises:
        ValueError: the options contradict one another.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        array: Literal["attributes", "events"],
        object_of: Callable[[Job], Mapping[str, Any]],
        timeout: float,
    ) -> None:
        if (options["identifier"] == "user_alias") != bool(options["alias_label"]):
            raise ValueError('alias_label: goes with identifier = "user_alias", and with no other')
        self._options = options
        self._array = array
        self._object_of = object_of
        self._url = (options["base_url"] or f"https://{options['host']}") + TRACK
        self._headers = {"authorization": f"Bearer {options['token']}", "content-type": "application/json"}
        self._client = Client(timeout=timeout, vendor=_BRAZE)
        # Attributes can be set again; an event that is sent again is a second one.
        self._repeatable = array == "attributes"
        self._bulk = Bulk(
            item=self.item,
            send=self._send,
            most=MOST_OBJECTS,
            most_bytes=_MOST_BYTES,
            repeatable=self._repeatable,
            unmentioned="Braze's answer does not say what became of this object",
        )

    async def one(self, job: Job) -> Result:
        """Send the object of one job."""
        return await self._bulk.one(job, Deadline(job.timeout))

    async def settle(self, jobs: list[Job]) -> AsyncIterator[tuple[Job, Result | Exception]]:
        """Send the objects of jobs."""
        async for settled in self._bulk.settle(jobs, Deadline(min(job.timeout for job in jobs))):
            yield settled

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    def item(self, job: Job) -> Item:
        """The object of a job.

        Raises:
            Skip: there is nobody to name. Permanent: it is more than Braze takes.
        """
        value = str(job.options.id).strip()
        if not value:
            raise Skip("option id is empty for this event")
        name = self._options["identifier"]
        who: Any = value
        if name == "user_alias":
            who = {"alias_name": value, "alias_label": self._options["alias_label"]}
        made = {**self._object_of(job), name: who, "_update_existing_only": not self._options["create"]}
        content = encode_json(made)
        if len(content) > _MOST_OBJECT_BYTES:
            raise Permanent("the object has more than 100 KB, which Braze does not take; nothing was sent")
        identity = value.casefold() if name == "email" else value
        return Item(job, content, identity=identity if self._array == "attributes" else "")

    async def _send(self, items: Sequence[Item], seconds: float) -> Mapping[str, Result | Exception]:
        answer = await self._client.send(
            "POST",
            self._url,
            content=b'{"%s":%s}' % (self._array.encode(), json_list(items)),
            headers=self._headers,
            timeout=seconds,
            secrets=[self._options["token"]],
            personal=_Personal(items),
            setting=FIXED_PATH,
            # A gateway may have given up on what goes on behind it.
            unsure=() if self._repeatable else range(500, 600),
        )
        body = body_object(answer)
        errors = [error for error in body.get("errors") or () if isinstance(error, dict)]
        failed = {
            items[place].job.key: _refusal(error, answer.status, [items[place]])
            for place, error in self._placed(errors, len(items)).items()
        }
        if answer.status >= 400:
            # Nothing was taken.
            if len(failed) < len(items):
                raise _refusal(errors[0] if errors else body, answer.status, items)
            return failed
        done = _done(body)
        if done is None:
            raise Unknown("Braze's answer says neither success nor queued")
        if len(failed) < len(errors):
            # An error names no object, so nobody knows of those that are not named.
            return failed
        return failed | {item.job.key: done for item in items if item.job.key not in failed}

    def _placed(self, errors: Sequence[Mapping[str, Any]], count: int) -> dict[int, Mapping[str, Any]]:
        """The errors that name an object of ours, by its place."""
        return {
            place: error
            for error in reversed(errors)
            if error.get("input_array") == self._array
            and isinstance(place := error.get("index"), int)
            and not isinstance(place, bool)
            and 0 <= place < count
        }


def _done(body: Mapping[str, Any]) -> Result:
    """What a message of success means; None where it is none."""
    told: dict[str, Result] = {"success": "accepted", "queued": Done("accepted", _QUEUED)}
    return told.get(str(body.get("message")))


def _refusal(error: Mapping[str, Any], status: int, items: Sequence[Item]) -> Exception:
    """An error as an outcome. Braze has sentences and no codes; one sentence gives one code."""
    said = without_values(str(error.get("type") or error.get("message") or "no reason"))
    if "blacklist" in said.lower():
        # One user's alone: Braze bans ids that many users share, such as those of tests.
        return Permanent("Braze bans this external_id (it looks like one of a test, or many users share it)")
    code = re.sub(r"[^a-z]+", "_", said.lower()).strip("_")[:60].strip("_")
    found = _BRAZE.item(codes=[code], message=said, otherwise=Meaning("dead"), personal=_Personal(items))
    return found or Permanent(f"Braze answered {status}")


class _Personal:
    """What no message may repeat of the customers of some jobs; gathered only where there is a message."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[str]:
        jobs = (item.job for item in self._items)
        return (value for job in jobs for value in (*personal_values(job.event), str(job.options.id)))
