"""A small HTTP client, for what the command line and `tiercast up` ask a receiver. Vendors are called by `outbound`."""

from __future__ import annotations

import base64
import http.client
import select
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit

from . import __version__
from .errors import TiercastError

#: Bytes of an answer's body that are read; a receiver's are far smaller.
_MAX_BODY_BYTES = 64 * 1024

#: What may stand in a path or query unquoted, beside letters and digits (RFC 3986); `%` starts what is quoted already.
_UNQUOTED = "!$&'()*+,;=:@/?-._~%"


class UnusableAddress(TiercastError):
    """It is no http or https address."""


class NotConnected(TiercastError):
    """No connection could be made."""


class NoAnswer(TiercastError):
    """No answer came, or none that is HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What a server answered; of a long body only the beginning."""

    status: int
    reason: str
    body: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.status} {self.reason}".strip()


class HttpClient:
    """Calls one server over one connection, which it keeps open.

    It follows no redirect, takes no proxy from the environment, and checks a server's certificate against the
    system's authorities, or those of `SSL_CERT_FILE`. For one thread.

    Args:
        base: an address of the server; what follows the host and port is ignored, but for a name and password.
        timeout: seconds that connecting, and each piece sent or received, may take.

    Raises:
        UnusableAddress: it is no http or https address.

    Example:
        >>> with HttpClient("http://127.0.0.1:8080", timeout=10) as client:
        ...     client.request("GET", "http://127.0.0.1:8080/healthz").status
        200
    """

    def __init__(self, base: str, *, timeout: float) -> None:
        self._connection, self._headers = _connection(base, timeout)

    def request(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """Send a request; of the address only path and query count.

        Raises:
            NotConnected, NoAnswer: as they say.
        """
        connection = self._connection
        if connection.sock is not None and _is_over(connection):
            connection.close()
        if connection.sock is None:
            try:
                connection.connect()
            except TimeoutError as error:
                connection.close()
                raise NoAnswer(type(error).__name__) from error
            except (OSError, UnicodeError) as error:
                connection.close()
                raise NotConnected(str(error)) from error
        try:
            connection.request(method, _target(url), body=body, headers=self._headers | dict(headers or {}))
            response = connection.getresponse()
            read = response.read(_MAX_BODY_BYTES)
            if not response.isclosed():
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoAnswer(type(error).__name__) from error
        return HttpAnswer(status=response.status, reason=response.reason, body=read)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, type: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _connection(base: str, timeout: float) -> tuple[http.client.HTTPConnection, dict[str, str]]:
    headers = {"User-Agent": f"tiercast/{__version__}"}
    try:
        parts = urlsplit(base)
        host, port = parts.hostname, parts.port
        if parts.scheme not in ("http", "https") or not host:
            raise UnusableAddress
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        if parts.scheme == "https":
            tls = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=tls), headers
        return http.client.HTTPConnection(host, port, timeout=timeout), headers
    except (ValueError, http.client.InvalidURL):
        raise UnusableAddress from None


def _target(url: str) -> str:
    parts = urlsplit(url)
    path = quote(parts.path or "/", safe=_UNQUOTED)
    return f"{path}?{quote(parts.query, safe=_UNQUOTED)}" if parts.query else path


def _is_over(connection: http.client.HTTPConnection) -> bool:
    """Whether the server has closed a connection that was kept: nothing else would make it readable now."""
    try:
        return bool(select.select([connection.sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True
