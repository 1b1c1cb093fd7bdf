"""An endpoint of one's own that takes signed webhooks: https://www.standardwebhooks.com/."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from .server import Answer, FakeVendor, Request, Route, Window

SECRET = "whsec_" + base64.b64encode(b"a-secret-of-the-tests-32-bytes-xx").decode()

#: Seconds that a timestamp may be off.
_TOLERANCE_SECONDS = 300


class FakeEndpoint(FakeVendor):
    """Checks signature and timestamp, takes JSON only, and does each `webhook-id` once.

    Attributes:
        done: the bodies that it acted on, by `webhook-id`.
    """

    name: ClassVar[str] = "webhook"
    published: ClassVar[Mapping[str, Sequence[Window]]] = {}
    max_body_bytes: ClassVar[int] = 1024 * 1024

    def __init__(self, *, limits: Mapping[str, Sequence[Window]] | None = None) -> None:
        self.done: dict[str, Any] = {}
        super().__init__(limits=limits)

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/hook", self._take)

    def options(self) -> dict[str, Any]:
        return {"url": f"{self.url}/hook", "secret": SECRET, "allow_hosts": ["127.0.0.1"]}

    def effects(self) -> Any:
        return dict(self.done)

    def refuse(self, request: Request) -> Answer | None:
        key, at = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
        secret = base64.b64decode(SECRET.removeprefix("whsec_"))
        digest = hmac.digest(secret, f"{key}.{at}.".encode() + request.body, "sha256")
        signature = f"v1,{base64.b64encode(digest).decode()}"
        if not key or not at.isdigit() or abs(time.time() - int(at)) > _TOLERANCE_SECONDS:
            return Answer(status=400, body={"message": "no id, or the timestamp is off"})
        if signature not in request.headers.get("webhook-signature", "").split(" "):
            return Answer(status=401, body={"message": "the signature is wrong"})
        return None

    def _take(self, request: Request) -> Answer:
        try:
            body = request.json
        except ValueError:
            return Answer(status=400, body={"message": "the body is no JSON"})
        self.done.setdefault(request.headers["webhook-id"], body)
        return Answer(status=200, body={"ok": True})
