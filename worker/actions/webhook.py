"""Kind `webhook`: call an HTTP endpoint, signed by Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from marshmallow import fields, validate

from tiercast.actions import Action, Job, Permanent, Secret
from tiercast.outbound import AddressRefused, Client, encode_json, refuse_private_host

from .webhook_address import Address

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
_REFERENCE = re.compile(r"(env|file):(\S.*)", re.DOTALL)
#: What a webhook-id may hold as it is: visible ASCII but the percent sign.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")

#: What the default body holds of the event.
_PARTS = ("id", "type", "at", "source", "customer", "campaign", "tier", "previous_tier")

#: Answers that mean a wrong setting where no event changes the address: redirects, the plan, the method, the type,
#: and 410, by which the endpoint says that it wants no more (Standard Webhooks). 404 is left to the job: endpoints
#: answer it for a customer that they do not know.
_SETTING = frozenset({*range(300, 400), 402, 405, 406, 410, 415})


class Webhook(Action):
    """Call an HTTP endpoint with JSON, signed by Standard Webhooks.

    Safe to repeat: every attempt carries the job's key as `webhook-id` (percent-encoded where it is not visible
    ASCII), by which the endpoint recognises a repeat. Redirects are not followed. Hosts that are, or resolve to,
    private addresses are refused unless `allow_hosts` names them.

    The whole `url`, or the whole value of a header, may be `env:NAME` or `file:PATH` where it is a secret, such as the
    address of a chat's incoming webhook. A value that a template puts into the path of `url` is one segment of it: a
    job whose values would lead it out of the configured path is dead, and one whose segment is empty is skipped.
    """

    kind = "webhook"

    class Options(Action.Options):
        url = fields.String(
            required=True,
            metadata={
                "description": "https address; a template in path and query only; env: or file: where it is a secret"
            },
        )
        secret = Secret(
            load_default=None,
            metadata={"description": "signing secret: whsec_ and base64, or any text; without it, unsigned"},
        )
        authorization = Secret(
            load_default=None, metadata={"description": "the whole Authorization header, if the endpoint wants one"}
        )
        method = fields.String(
            load_default="POST",
            validate=validate.OneOf(["POST", "PUT", "PATCH"]),
            metadata={"description": "of HTTP"},
        )
        body = fields.Raw(
            load_default=None,
            allow_none=True,
            metadata={"description": "what to send: a table, or text that is JSON; by default the event"},
        )
        headers = fields.Dict(
            keys=fields.String(),
            values=fields.String(),
            load_default=dict,
            metadata={"description": "headers to add; a value may be env: or file: where it is a secret"},
        )
        allow_hosts = fields.List(
            fields.String(), load_default=list, metadata={"description": "hosts that may have private addresses"}
        )

    def __init__(self, name: str, options: Mapping[str, Any], *, timeout: float = 10.0) -> None:
        super().__init__(name, options, timeout=timeout)
        hidden = _resolved("url", self.options.url)
        try:
            self._address = Address(hidden or self.options.url)
            if hidden and not self._address.fixed:
                raise ValueError("url: what the reference names holds a template; templates stand in the file itself")
            refuse_private_host(self._address.host, self.options.allow_hosts)
        except AddressRefused as error:
            raise ValueError(f"url: {error}") from None
        self._fixed_url = (hidden or self.options.url).strip() if self._address.fixed else None
        _check_headers(self.options.headers)
        self._fixed_headers, secret_headers = _fixed_headers(self.options.headers)
        self._has_type = "content-type" in map(str.lower, self.options.headers)
        if self.options.authorization:
            self._fixed_headers["authorization"] = self.options.authorization.strip()
        self._signing_key = _signing_key(self.options.secret)
        self._secrets = [
            value
            for value in (self.options.secret, self.options.authorization, *secret_headers, *_secrets_of_url(hidden))
            if value
        ]
        self._done = f"{self._address.host} answered "
        self._client = Client(timeout=timeout, allow_hosts=self.options.allow_hosts)

    async def perform(self, job: Job) -> str | None:
        url = self._fixed_url or self._address.check(job.options.url)
        content = self._content(job)
        answer = await self._client.send(
            self.options.method,
            url,
            content=content,
            headers=self._headers(job, content),
            timeout=job.timeout,
            secrets=self._secrets,
            personal=job.event,
            setting=_SETTING if self._fixed_url else (),
        )
        return f"{self._done}{answer.status}"

    async def close(self) -> None:
        await self._client.close()

    def _content(self, job: Job) -> bytes:
        body = job.options.body
        if body is None:
            event = job.event
            return encode_json({part: getattr(event, part) for part in _PARTS})
        if isinstance(body, str):
            if not self._has_type:
                _require_json(body)
            return body.encode("utf-8", "replace")
        return encode_json(body)

    def _headers(self, job: Job, content: bytes) -> dict[str, str]:
        headers: dict[str, str] = {"content-type": "application/json"}
        for name, value in job.options.headers.items():
            if (lower := name.lower()) not in self._fixed_headers:
                headers[lower] = _header_value(name, value)
        headers |= self._fixed_headers
        headers["webhook-id"] = key = quote(job.key, safe=_PLAIN)
        headers["webhook-timestamp"] = now = str(int(time.time()))
        if self._signing_key is not None:
            digest = hmac.digest(self._signing_key, f"{key}.{now}.".encode() + content, "sha256")
            headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        return headers


def _resolved(option: str, value: str) -> str | None:
    """What a whole `env:NAME` or `file:PATH` names; None where the value is no reference.

    Raises:
        ValueError: there is nothing there; the message never holds the value.
    """
    found = _REFERENCE.fullmatch(value.strip())
    if found is None:
        return None
    name = found[2].strip()
    if found[1] == "env":
        if not (text := os.environ.get(name, "").strip()):
            raise ValueError(f"{option}: the environment variable {name} is not set")
        return text
    # Relative paths start at the configuration file's folder, as those of all secrets do.
    path = Path(os.environ.get("TIERCAST_CONFIG") or "tiercast.toml").parent / name
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no UTF-8"
        raise ValueError(f"{option}: the file {path} cannot be read: {why}") from None
    if not text:
        raise ValueError(f"{option}: the file {path} is empty")
    return text


def _secrets_of_url(url: str | None) -> list[str]:
    """A secret address, and its path, which a vendor may repeat without the host."""
    if not url:
        return []
    path = url.partition("://")[2].partition("/")[2]
    return [url, *(part for part in (path, *path.split("/")) if len(part) >= 8)]


def _fixed_headers(headers: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The headers that are references, resolved, by lower-case name; and their values, which are secret."""
    fixed: dict[str, str] = {}
    for name, value in headers.items():
        found = _resolved(f"headers.{name}", value)
        if found is not None:
            if not (found.isascii() and found.isprintable()):
                raise ValueError(f"headers.{name}: what it names holds a character that no header can hold")
            fixed[name.lower()] = found
    return fixed, list(fixed.values())


def _check_headers(headers: Mapping[str, str]) -> None:
    for name in headers:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"headers: {name!r} is no name of a header")
        if name.lower() in _RESERVED:
            raise ValueError(f"headers: {name} is set by Tiercast; remove it")
        if name.lower() == "authorization":
            raise ValueError("headers: use the authorization option, which takes env: or file:")


def _signing_key(secret: str | None) -> bytes | None:
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
    return key


def _header_value(name: str, value: str) -> str:
    value = value.strip()
    if not value.isprintable() or not value.isascii():
        raise Permanent(f"option headers.{name} holds a line break or a character that no header can hold")
    return value


def _require_json(text: str) -> None:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        raise Permanent(
            "option body is not JSON for this event; pass values through | tojson, or set headers.content-type"
        ) from None
