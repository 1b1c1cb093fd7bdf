"""Kind `stars`: grant stars at an invented vendor, exactly once though its API does not recognise a repeat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
from marshmallow import fields, validate

from tiercast.actions import Action, Job, Secret
from tiercast.outbound import make_client, personal_values, send


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
        base_url = fields.Url(load_default="https://api.stars.example", require_tld=False)

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        # One client for the life of the action; it may be used from several threads.
        self._client = make_client(timeout=timeout)

    def perform(self, job: Job) -> str | None:
        grant = {"customer": job.options.customer, "stars": job.options.stars, "reference": job.key}
        self._send(job, "POST", "/grants", json=grant)
        return f"granted {job.options.stars} stars"

    def confirm(self, job: Job) -> bool | None:
        """Whether an earlier attempt was granted: the vendor lists grants by the reference that we gave."""
        found = self._send(job, "GET", f"/grants?reference={quote(job.key, safe='')}").json()
        return bool(found["grants"])

    def close(self) -> None:
        self._client.close()

    def _send(self, job: Job, method: str, path: str, json: Any = None) -> httpx.Response:
        url = self.options.base_url.rstrip("/") + path
        headers = {"authorization": f"Bearer {self.options.token}"}
        request = self._client.build_request(method, url, json=json, headers=headers)
        # `send` turns every answer into what `perform` may raise, and keeps secrets and names out of messages.
        return send(
            self._client,
            request,
            timeout=job.timeout,
            secrets=[self.options.token],
            personal=personal_values(job.event),
        )
