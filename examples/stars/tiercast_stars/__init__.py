"""Kind `stars`: grant stars at an invented vendor, exactly once though its API does not recognise a repeat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import fields, validate

from tiercast.actions import Action, BaseUrl, Job, Secret
from tiercast.outbound import FIXED_PATH, Answer, Client


class GrantStars(Action):
    """Grant stars to a customer.

    The vendor adds again when it is asked again, so an attempt without an answer is looked up by its reference
    before it is repeated.
    """

    kind = "stars"
    repeatable = False

    class Options(Action.Options):
        token = Secret(required=True, metadata={"description": "the vendor's API key"})
        customer = fields.String(required=True, metadata={"description": "who gets them; a template"})
        stars = fields.Integer(required=True, validate=validate.Range(1, 1000), metadata={"description": "how many"})
        base_url = BaseUrl(load_default="https://api.stars.example", metadata={"description": "of the vendor"})

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        # One client for the life of the action: it opens nothing yet, and calls share its connections.
        self._client = Client(timeout=timeout)

    async def perform(self, job: Job) -> str | None:
        grant = {"customer": job.options.customer, "stars": job.options.stars, "reference": job.key}
        await self._send(job, "POST", "/grants", json=grant)
        return f"granted {job.options.stars} stars"

    async def confirm(self, job: Job) -> bool | None:
        """Whether an earlier attempt was granted: the vendor lists grants by the reference that we gave."""
        found = await self._send(job, "GET", "/grants", params={"reference": job.key})
        return bool(found.json()["grants"])

    async def close(self) -> None:
        await self._client.close()

    async def _send(self, job: Job, method: str, path: str, **more: Any) -> Answer:
        # `send` turns every answer into what `perform` may raise, and keeps secrets and names out of messages.
        return await self._client.send(
            method,
            self.options.base_url + path,
            headers={"authorization": f"Bearer {self.options.token}"},
            timeout=job.timeout,
            secrets=[self.options.token],
            personal=job.event,
            setting=FIXED_PATH,
            # A 5xx may come from a gateway that gave up on a grant which goes on behind it.
            unsure=range(500, 600) if method == "POST" else (),
            **more,
        )
