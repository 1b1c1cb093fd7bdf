"""The HTTP client of a kind: bounded in time, connections and what it reads, and guarded where a user names the host.

What it stands on (aiohttp) shows nowhere outside this module and `names`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import ssl
import urllib.request
import zlib
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractCookieJar
from yarl import URL

from .. import __version__
from ..actions import Halt, Permanent, Unavailable, Unknown
from ..event import Event
from .addresses import AddressRefused, canonical, refuse_private_host
from .answers import COMMON, PATH_WITH_ID, Answer, classify
from .encoding import encode_json
from .names import Resolver
from .requests import check_headers, parsed
from .vendors import Vendor
from .waits import Waits

#: How many bytes of an answer are read, unless a kind says otherwise.
MAX_ANSWER = 1024 * 1024

#: The most connections of a client: as many as a worker's process has calls of an action in flight.
MAX_CONNECTIONS = 1024

#: Set to `environment`, calls go through the proxies that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name.
PROXY_VARIABLE = "TIERCAST_PROXY"

#: Seconds that an idle connection is kept; servers and balancers close theirs after 60 as a rule.
_KEEP_IDLE_SECONDS = 30.0

#: How many addresses a client remembers the parsed form of.
_MOST_TARGETS = 256

#: All times are the deadline's, which holds for the whole; aiohttp's own would be more timers for each call.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)

_HEADERS = {hdrs.USER_AGENT: f"tiercast/{__version__}", hdrs.ACCEPT_ENCODING: "identity"}


@dataclass(slots=True)
class _Call:
    """How far a call has come."""

    sent: bool = False  #: a connection stands, so the request may have left
    response: aiohttp.ClientResponse | None = None


_current: ContextVar[_Call] = ContextVar("tiercast_call")


class _Connector(aiohttp.TCPConnector):
    """Notes when a call has its connection: from then on, what ends without an answer may have happened."""

    async def connect(self, *args: Any, **options: Any) -> Any:
        connection = await super().connect(*args, **options)
        _current.get().sent = True
        return connection


class Client:
    """Calls vendors over HTTP. Make one for the life of an action; it opens nothing until it is used.

        self._client = Client(timeout=timeout)
        ...
        answer = await self._client.send("POST", url, json={...}, timeout=job.timeout, secrets=[token])

    Redirects are not followed, cookies are not kept, and answers are not decompressed beyond `max_answer`. Connections
    are kept for 30 seconds and used again for the same scheme, host and port. `SSL_CERT_FILE` and `SSL_CERT_DIR` name
    the authorities to trust, else the system's. Proxies that the environment names are used only where
    `TIERCAST_PROXY=environment` says so.

    A client may be used from several event loops; each has connections of its own, which end with it.

    Args:
        timeout: seconds that a call may take that names no time of its own.
        allow_hosts: None for a vendor's fixed host. Where a user gives the host: the names and addresses that may be
            private; every other that is, or resolves to, a private address is refused, and the connection goes to
            the very address that was checked. A proxy resolves names itself, so it has to refuse private ones too.
        connections: the most connections at once in one process; further calls wait for one of them.
        verify: what to verify certificates with instead.
        vendor: what the vendor's codes and statuses mean, and where it says when it takes calls again.
    """

    def __init__(
        self,
        *,
        timeout: float = 10.0,
        allow_hosts: Iterable[str] | None = None,
        connections: int = MAX_CONNECTIONS,
        verify: ssl.SSLContext | None = None,
        vendor: Vendor = COMMON,
    ) -> None:
        self.timeout = timeout
        self._vendor = vendor
        self._allowed = None if allow_hosts is None else frozenset(map(canonical, allow_hosts))
        self._connections = connections
        self._verify = verify
        self._opened: dict[asyncio.AbstractEventLoop, _Opened] = {}
        self._last: _Opened | None = None
        self._targets: dict[str, URL] = {}

    async def send(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        secrets: Iterable[str] = (),
        personal: Iterable[str] | Event = (),
        later: Collection[int] = frozenset(),
        unsure: Collection[int] = frozenset(),
        setting: Collection[int] = PATH_WITH_ID,
        vendor: Vendor | None = None,
        waits: Waits | None = None,
        max_answer: int = MAX_ANSWER,
    ) -> Answer:
        """Send a request and return the answer, if its status is 2xx, or means that the job is done.

        Args:
            method: GET, POST, PUT, PATCH or DELETE.
            url: where to. What is percent-encoded in it stays as it is; what has to be and is not, becomes it.
            json: the body as an object, sent as JSON.
            content: the body as bytes, instead of `json`.
            params: a query, added to that of `url`.
            headers: names in lower case, with their values.
            timeout: seconds for all of it, from looking the name up to the last byte read; give `job.timeout`, or
                what is left of it.
            secrets: values that no message may repeat.
            personal: the event, or values of the customer that no message may repeat either.
            later: statuses below 500 that this vendor uses for "try again".
            unsure: statuses after which the effect may have happened nevertheless.
            setting: statuses that mean a wrong setting: by default `PATH_WITH_ID`; `FIXED_PATH` where no event changes
                the path, so that 404 is none of the job's.
            vendor: what this call's codes and statuses mean, in place of the client's.
            waits: where this call's answer says when the vendor takes calls again, in place of the vendor's.
            max_answer: bytes of the answer that are kept; the rest is not read.

        Raises:
            Unavailable: no connection, or 421 or 5xx; nothing happened, or repeating is harmless.
            RateLimited: 429. RetryLater: 408, 425, and those in `later`.
            Unknown: the request was sent, wholly or in part, and no answer came, or one in `unsure`.
            Halt: 401, 403, those in `setting`, and an address that is refused.
            Permanent: every other answer, and a request that cannot be sent.
        """
        target = self._target(url, params)
        if json is not None:
            content = encode_json(json)
            headers = {"content-type": "application/json", **(headers or {})}
        if headers:
            check_headers(headers, target.raw_host)
        seconds = self.timeout if timeout is None else timeout
        answer = await self._exchange(method, target, content, headers, seconds, max_answer)
        if not 200 <= answer.status < 300:
            classify(
                answer,
                host=target.raw_host or "",
                secrets=secrets,
                personal=personal,
                later=later,
                unsure=unsure,
                setting=setting,
                vendor=vendor or self._vendor,
                waits=waits,
            )
        return answer

    async def close(self) -> None:
        """Close all connections; a later call opens new ones. Connections of another loop end with it."""
        opened = self._opened.pop(asyncio.get_running_loop(), None)
        self._last = None
        if opened is not None:
            await opened.close()

    async def _exchange(
        self,
        method: str,
        target: URL,
        content: bytes | None,
        headers: Mapping[str, str] | None,
        seconds: float,
        max_answer: int,
    ) -> Answer:
        call = _Call()
        _current.set(call)
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                call.response = await self._session().request(
                    method,
                    target,
                    data=content,
                    headers=headers,
                    allow_redirects=False,
                )
                await _read(call.response, body, max_answer)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, AddressRefused) as error:
            if call.response is None:
                raise _failure(error, target.raw_host or "", sent=call.sent) from None
            # The status has come, and it decides; a kind that needs the body finds it cut off.
        finally:
            if call.response is not None:
                call.response.close() if not call.response.content.at_eof() else call.response.release()
        response = call.response
        return _answer(response.status, response.headers, bytes(body), max_answer)

    def _session(self) -> aiohttp.ClientSession:
        """The session of the running loop."""
        loop = asyncio.get_running_loop()
        last = self._last
        if last is None or last.loop is not loop:
            last = self._opened.get(loop)
            if last is None:
                last = self._open(loop)
            self._last = last
        return last.session

    def _open(self, loop: asyncio.AbstractEventLoop) -> _Opened:
        for other in [other for other in tuple(self._opened) if other.is_closed()]:
            self._opened.pop(other, None)
        through_proxies = os.environ.get(PROXY_VARIABLE) == "environment"
        allowed = self._allowed
        if allowed is not None and through_proxies:
            allowed = allowed | _proxy_hosts()
        session = aiohttp.ClientSession(
            connector=_Connector(
                resolver=Resolver(allowed),
                use_dns_cache=False,  # ours is shorter, and shared with nobody who checks less
                limit=self._connections,
                keepalive_timeout=_KEEP_IDLE_SECONDS,
                ssl=self._verify or _context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
            ),
            timeout=_NO_TIMEOUT,
            cookie_jar=_no_cookies(),
            headers=_HEADERS,
            skip_auto_headers=(hdrs.CONTENT_TYPE,),
            auto_decompress=False,  # a small answer could grow without bound
            trust_env=through_proxies,
        )
        opened = self._opened[loop] = _Opened(loop, session, functools.partial(self._opened.pop, loop, None))
        return opened

    def _target(self, url: str, params: Mapping[str, str] | None) -> URL:
        """The parsed address, checked as far as can be without looking its name up."""
        if params:
            url = f"{url}{'&' if '?' in url else '?'}{urlencode(params)}"
        target = self._targets.get(url)
        if target is None:
            target = parsed(url)
            if self._allowed is not None:
                # The resolver is not asked for literal addresses.
                try:
                    refuse_private_host(target.raw_host or "", self._allowed)
                except AddressRefused as error:
                    raise Halt(str(error), cause="setting") from None
            if len(self._targets) >= _MOST_TARGETS:
                self._targets.clear()
            self._targets[url] = target
        return target


class _Opened:
    """What a client has open in one loop. It ends with the loop, even where nobody closes the client."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession, forget: Callable[[], object]
    ) -> None:
        self.loop = loop
        self.session = session
        self._forget = forget
        # `asyncio.run` finishes the asynchronous generators that are begun, and so this one, before it closes the loop.
        self._life = self._live()
        with contextlib.suppress(StopIteration):
            self._life.__anext__().send(None)

    async def close(self) -> None:
        await self._life.aclose()

    async def _live(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._forget()
            await self.session.close()


async def _read(response: aiohttp.ClientResponse, body: bytearray, most: int) -> None:
    """Read the answer as far as it is wanted."""
    stream = response.content
    while part := await stream.readany():
        body += part
        if len(body) >= most:
            del body[most:]
            return


def _answer(status: int, headers: Mapping[str, str], body: bytes, most: int) -> Answer:
    encoding = headers.get("content-encoding", "").strip().lower()
    if not encoding or encoding == "identity" or not body:
        return Answer(status, headers, body)
    decoded = _decompressed(encoding, body, most)
    return Answer(status, headers, decoded or b"", readable=decoded is not None)


def _decompressed(encoding: str, body: bytes, most: int) -> bytes | None:
    """An answer that was compressed though we asked for a plain one, at most `most` bytes; None where it cannot be."""
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        return None
    for bits in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # gzip or zlib by their heads; deflate without a head
        try:
            return zlib.decompressobj(bits).decompress(body, most)
        except zlib.error:
            continue
    return None


def _failure(error: Exception, host: str, *, sent: bool) -> Exception:
    """What an exchange without an answer means for the job."""
    if isinstance(error, AddressRefused):
        return Halt(str(error), cause="setting")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Unavailable(f"no connection to {host}: the proxy answered {error.status}")
    if not sent:
        return Unavailable(f"no connection to {host}: {_why(error)}")
    if isinstance(error, ValueError | aiohttp.InvalidURL) and not isinstance(error, OSError):
        # Its message repeats what was wrong, which may be a credential.
        return Permanent(f"the request to {host} cannot be sent: a header or the address is malformed")
    return Unknown(f"no answer from {host} after the request was sent: {_why(error)}")


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        found = error.certificate_error
        return f"its certificate is not trusted: {getattr(found, 'verify_message', '') or 'it cannot be verified'}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"its name cannot be looked up: {error.os_error.strerror or 'no answer'}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"TLS: {getattr(error.os_error, 'reason', None) or 'failed'}"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return os.strerror(number) if number else "no address answers"
    return type(error).__name__


def _proxy_hosts() -> frozenset[str]:
    """The hosts of the proxies, which may be private."""
    return frozenset(canonical(URL(url).host or "") for url in urllib.request.getproxies().values() if "://" in url)


def _no_cookies() -> AbstractCookieJar:
    return aiohttp.DummyCookieJar()


@functools.cache
def _context(_file: str | None, _directory: str | None) -> ssl.SSLContext:
    """What certificates are verified with; the two are the variables that OpenSSL reads itself."""
    return ssl.create_default_context()
