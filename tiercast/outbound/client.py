"""The HTTP client of a kind: bounded in time and connections, and guarded where a user names the host."""

from __future__ import annotations

import functools
import logging
import socket
import ssl
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar

import httpcore
import httpx

from .. import __version__
from .addresses import canonical, public_addresses
from .deadline import current

#: Seconds that an idle connection is kept; servers and balancers close theirs after 60 as a rule.
_KEEP_IDLE = 30.0

_T = TypeVar("_T")
_SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


def make_client(
    *,
    timeout: float,
    pool: int = 32,
    allow_hosts: Iterable[str] | None = None,
    verify: ssl.SSLContext | None = None,
) -> httpx.Client:
    """Make a kind's client. It opens no connection yet and may be used from several threads.

    Redirects are not followed, cookies are not kept, and proxies named in the environment are not used.
    `SSL_CERT_FILE` names the authorities to trust, where it is set.

    Args:
        timeout: seconds that one step may take; `send` bounds the whole.
        pool: the most connections at once.
        allow_hosts: None for a vendor's fixed host. Where a user gives the host: the names and addresses that
            may be private; every other that is, or resolves to, a private address is refused, and the
            connection goes to the very address that was checked.
        verify: what to verify certificates with instead.
    """
    _quieten()
    allowed = None if allow_hosts is None else frozenset(map(canonical, allow_hosts))
    return httpx.Client(
        transport=_Transport(_Backend(allowed), verify or _context(), pool),
        timeout=httpx.Timeout(timeout, connect=timeout / 2, pool=timeout / 2),
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # No compression: a small answer could grow without bound.
        headers={"User-Agent": f"tiercast/{__version__}", "Accept-Encoding": "identity"},
    )


@functools.cache
def _context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _quieten() -> None:
    # They log addresses, which may hold personal data, and at DEBUG whole headers, which hold credentials.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _capped(timeout: float | None, error: type[httpcore.TimeoutException]) -> float | None:
    deadline = current()
    if deadline is None:
        return timeout
    left = deadline.left
    if left <= 0:
        raise error("the time for this attempt is used up")
    return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    """A connection whose every step ends at the thread's deadline, however slowly the other side drips."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _capped(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _capped(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _capped(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Connects; with `allowed`, only to public addresses and to the hosts named there."""

    def __init__(self, allowed: Collection[str] | None) -> None:
        self._inner = httpcore.SyncBackend()
        self._allowed = allowed

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        def connect(address: str) -> httpcore.NetworkStream:
            left = _capped(timeout, httpcore.ConnectTimeout)
            return _Stream(self._inner.connect_tcp(address, port, left, local_address, socket_options))

        if self._allowed is None or canonical(host) in self._allowed:
            return connect(host)
        try:
            addresses = public_addresses(host, port)
        except socket.gaierror as error:
            raise httpcore.ConnectError(str(error)) from error
        return _first(addresses, connect)


def _first(addresses: list[str], connect: Callable[[str], _T]) -> _T:
    for address in addresses[:-1]:
        try:
            return connect(address)
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            continue
    return connect(addresses[-1])


class _Transport(httpx.BaseTransport):
    """httpx over a pool with our own backend; httpx's own transport takes none."""

    def __init__(self, backend: httpcore.NetworkBackend, context: ssl.SSLContext, pool: int) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=pool,
            max_keepalive_connections=pool,
            keepalive_expiry=_KEEP_IDLE,
            network_backend=backend,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        with _as_httpx():
            answer = self._pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Body(answer.stream),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._inner, Iterable)  # noqa: S101 - a synchronous pool gives a synchronous stream
        with _as_httpx():
            yield from self._inner

    def close(self) -> None:
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """Turn httpcore's errors into httpx's, which have the same names."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        known = getattr(httpx, type(error).__name__, httpx.TransportError)
        raise known(str(error)) from error
    except httpcore.UnsupportedProtocol as error:
        raise httpx.UnsupportedProtocol(str(error)) from error
