"""One OAuth access token for all calls of an action in a process."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote_plus, urlencode

from ..actions import Halt, RetryLater
from .answers import FIXED_PATH
from .client import Client
from .vendors import Meaning, Vendor, body_object

_T = TypeVar("_T")

#: Seconds before its end at which a token is no longer given to a new call.
_EARLY_SECONDS = 30.0

#: What a token server's refusals mean (RFC 6749 5.2): nothing that a job could mend.
_TOKEN_SERVER = Vendor(
    meanings={
        400: Meaning("credential", "check client_id, client_secret and scope of this action"),
        401: Meaning("credential", "check client_id and client_secret of this action"),
    }
)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token.

    Attributes:
        value: what calls carry.
        seconds: how long it is good for from now on; None where the server does not say.
        more: the rest of the server's answer, such as Salesforce's `instance_url`.
    """

    value: str = field(repr=False)
    seconds: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)


class TokenHolder:
    """Gives all calls of an action one token, and fetches another where it has ended or is refused.

    However many calls want a token at once, one fetch serves them all, also when it fails. A call that is refused with
    401 is sent once more with a new token; refused again, it holds the lane. It never goes round in a loop.

        self._token = TokenHolder(lambda: client_credentials(self._client, url, client_id=..., client_secret=...))
        ...
        answer = await self._token.call(lambda token: self._client.send("POST", url, headers=bearer(token), ...))

    Args:
        fetch: gets a new token; raises what `Action.perform` may raise.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Token]]) -> None:
        self._fetch = fetch
        self._held: Token | None = None
        self._good_until = 0.0
        self._fetching: asyncio.Task[Token] | None = None

    async def call(self, send: Callable[[Token], Awaitable[_T]]) -> _T:
        """Send a call with the token; once more, with a new one, where it is refused with 401."""
        token = await self.get()
        try:
            return await send(token)
        except Halt as refused:
            if not _is_401(refused):
                raise
        fresh = await self._instead_of(token)
        return await send(fresh)

    async def get(self) -> Token:
        """The token, fetched if there is none or it is about to end."""
        held = self._held
        if held is not None and time.monotonic() < self._good_until:
            return held
        return await self._fetched()

    async def _instead_of(self, refused: Token) -> Token:
        """A token other than the one that was refused: another call may have fetched it already."""
        if self._held is refused:
            self._held = None
        return await self.get()

    async def _fetched(self) -> Token:
        """Wait for the one fetch that is under way, or begin it; it goes on where one who waits is cancelled."""
        task = self._fetching
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._fetching = asyncio.ensure_future(self._fetch_and_hold())
        return await asyncio.shield(task)

    async def _fetch_and_hold(self) -> Token:
        token = await self._fetch()
        seconds = float("inf") if token.seconds is None else max(0.0, token.seconds - _EARLY_SECONDS)
        self._held, self._good_until = token, time.monotonic() + seconds
        return token


def bearer(token: Token) -> dict[str, str]:
    """The header that carries a token."""
    return {"authorization": f"Bearer {token.value}"}


async def client_credentials(
    client: Client,
    url: str,
    *,
    client_id: str,
    client_secret: str,
    scope: str | None = None,
    basic: bool = False,
    timeout: float | None = None,
) -> Token:
    """Fetch a token by the client credentials grant (RFC 6749 4.4).

    Args:
        client: sends the call.
        url: the token endpoint.
        client_id: who asks.
        client_secret: the secret of who asks.
        scope: what for; None for the server's default.
        basic: whether id and secret go in the Authorization header in place of the form.
        timeout: seconds that the call may take; by default the client's.

    Raises:
        Halt: the server refuses id, secret, scope or address.
        RetryLater, Unavailable: it cannot answer now.
    """
    form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    if basic:
        pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
        headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form |= {"client_id": client_id, "client_secret": client_secret}
    answer = await client.send(
        "POST",
        url,
        content=urlencode(form).encode(),
        headers=headers,
        timeout=timeout,
        secrets=[client_secret],
        setting=FIXED_PATH,
        vendor=_TOKEN_SERVER,
    )
    body = body_object(answer)
    value = body.get("access_token")
    if not isinstance(value, str) or not value:
        raise RetryLater("the token server's answer holds no access_token")
    more = {name: part for name, part in body.items() if name != "access_token"}
    return Token(value, _seconds(body.get("expires_in")), more)


def _seconds(value: object) -> float | None:
    """How long a token is good for; some servers write the number as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return float(value[:9])
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_401(error: Halt) -> bool:
    return (error.code or "").partition(" ")[0] == "401"
