"""Kind `webhook`: call an HTTP endpoint, signed by Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
from marshmallow import fields, validate
from standardwebhooks.webhooks import Webhook as Signer

from tiercast.actions import Action, Job, Permanent, Secret
from tiercast.outbound import AddressRefused, make_client, personal_values, refuse_private_host, send

#: Headers that are ours or HTTP's to set.
_RESERVED = frozenset(
    {
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
    }
)

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TEMPLATE = re.compile(r"\{[{%#]")
#: What a webhook-id may hold as it is: visible ASCII but the percent sign.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")

#: What the default body tells of the event.
_PARTS = ("id", "type", "at", "source", "customer", "campaign", "tier", "previous_tier")


class Webhook(Action):
    """Call an HTTP endpoint with JSON, signed by Standard Webhooks.

    Safe to repeat: every attempt carries the job's key as `webhook-id` (percent-encoded where it is not visible
    ASCII), by which the endpoint recognises a repeat. Redirects are not followed. Hosts that are, or resolve to,
    private addresses are refused unless `allow_hosts` names them.
    """

    kind = "webhook"

    class Options(Action.Options):
        url = fields.String(required=True, metadata={"description": "https address; a template in path and query only"})
        secret = Secret(
            load_default=None,
            metadata={"description": "signing secret: whsec_ and base64, or any text; without it, unsigned"},
        )
        authorization = Secret(
            load_default=None, metadata={"description": "the whole Authorization header, if the endpoint wants one"}
        )
        method = fields.String(load_default="POST", validate=validate.OneOf(["POST", "PUT", "PATCH"]))
        body = fields.Raw(
            load_default=None,
            allow_none=True,
            metadata={"description": "what to send: a table, or text that is JSON; by default the event"},
        )
        headers = fields.Dict(keys=fields.String(), values=fields.String(), load_default=dict)
        allow_hosts = fields.List(
            fields.String(), load_default=list, metadata={"description": "hosts that may have private addresses"}
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        self._origin = _static_origin(self.options.url)
        try:
            refuse_private_host(self._origin.host, self.options.allow_hosts)
        except AddressRefused as error:
            raise ValueError(f"url: {error}") from None
        _check_headers(self.options.headers)
        self._signer = _signer(self.options.secret)
        self._secrets = [value for value in (self.options.secret, self.options.authorization) if value]
        self._client = make_client(timeout=timeout, allow_hosts=self.options.allow_hosts)

    def perform(self, job: Job) -> str | None:
        content = self._content(job)
        request = self._client.build_request(
            self.options.method, self._url(job), content=content, headers=self._headers(job, content)
        )
        answer = send(
            self._client, request, timeout=job.timeout, secrets=self._secrets, personal=personal_values(job.event)
        )
        return f"{self._origin.host} answered {answer.status_code}"

    def close(self) -> None:
        self._client.close()

    def _url(self, job: Job) -> httpx.URL:
        try:
            url = httpx.URL(job.options.url.strip())
        except httpx.InvalidURL:
            raise Permanent("option url is no address for this event; pass values through | urlencode") from None
        if _origin_of(url) != _origin_of(self._origin) or url.userinfo:
            raise Permanent("option url leads to another host for this event than the configuration names")
        return url

    def _content(self, job: Job) -> bytes:
        body = job.options.body
        if body is None:
            body = {part: getattr(job.event, part) for part in _PARTS}
        if isinstance(body, str):
            if not _has(job.options.headers, "content-type"):
                _require_json(body)
            return body.encode("utf-8", "replace")
        return json.dumps(body, separators=(",", ":"), default=str).encode()

    def _headers(self, job: Job, content: bytes) -> dict[str, str]:
        headers: dict[str, str] = {"content-type": "application/json"}
        for name, value in job.options.headers.items():
            headers[name.lower()] = _header_value(name, value)
        if self.options.authorization:
            headers["authorization"] = self.options.authorization.strip()
        now = datetime.now(UTC)
        headers["webhook-id"] = quote(job.key, safe=_PLAIN)
        headers["webhook-timestamp"] = str(int(now.timestamp()))
        if self._signer is not None:
            headers["webhook-signature"] = self._signer.sign(headers["webhook-id"], now, content.decode())
        return headers


def _static_origin(url: str) -> httpx.URL:
    """The scheme and host of the configured address, which no event may change."""
    template = _TEMPLATE.search(url)
    fixed = url[: template.start()] if template else url
    match = re.fullmatch(r"(https?://[^/?#\\]+)(?:[/?#].*)?", fixed.strip(), re.DOTALL | re.IGNORECASE)
    if match is None or (template and fixed.strip() == match[1]):
        raise ValueError(
            "url: expected http:// or https:// and a host; templates may stand only after the host, "
            'as in "https://example.com/hooks/{{ event.customer.id | urlencode }}"'
        )
    try:
        origin = httpx.URL(match[1])
    except httpx.InvalidURL as error:
        raise ValueError(f"url: {error}") from None
    if origin.userinfo:
        raise ValueError("url: holds a user or password; give the authorization option instead")
    return origin


def _origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _check_headers(headers: Mapping[str, str]) -> None:
    for name in headers:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"headers: {name!r} is no name of a header")
        if name.lower() in _RESERVED:
            raise ValueError(f"headers: {name} is set by Tiercast; remove it")
        if name.lower() == "authorization":
            raise ValueError("headers: use the authorization option, which takes env: or file:")


def _signer(secret: str | None) -> Signer | None:
    if secret is None:
        return None
    key = secret.encode()
    if secret.startswith("whsec_"):
        encoded = secret.removeprefix("whsec_")
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except binascii.Error:
            raise ValueError("secret: what follows whsec_ is not base64") from None
    if not key:
        raise ValueError("secret: is empty")
    return Signer(key)


def _header_value(name: str, value: str) -> str:
    value = value.strip()
    if not value.isprintable() or not value.isascii():
        raise Permanent(f"option headers.{name} holds a line break or a character that no header can hold")
    return value


def _require_json(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        raise Permanent(
            "option body is not JSON for this event; pass values through | tojson, or set headers.content-type"
        ) from None


def _has(headers: Mapping[str, str], name: str) -> bool:
    return any(key.lower() == name for key in headers)
