"""Where mail goes: the `server` option, read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from tiercast.outbound.addresses import canonical

Tls = Literal["starttls", "tls", "none"]

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_EHLO = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[A-Za-z0-9:.]+\]")
_EXPECTED = "expected smtp://host, smtp://host:587, smtps://host or file:DIRECTORY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A directory that gets one `.eml` file a mail."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An SMTP server and how to talk to it."""

    host: str
    port: int
    tls: Tls
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    #: The name that EHLO gives; None for this host's own.
    ehlo: str | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message repeats."""
        return (self.password,) if self.password else ()


def read_place(
    text: str,
    *,
    tls: Tls | None = None,
    username: str | None = None,
    password: str | None = None,
    ehlo: str | None = None,
) -> Folder | Server:
    """Read the `server` option, with the options that belong to it.

    Without `tls`: `smtps://` means TLS from the first byte, `smtp://` means STARTTLS, which is then required, and
    plain text only to this machine.

    Raises:
        ValueError: they cannot be used; the message names the option.
    """
    if "{{" in text or "{%" in text:
        raise ValueError("server: cannot be a template")
    if text.startswith("file:"):
        return _folder(text)
    parts = urlsplit(text)
    host, port = _host_and_port(text)
    if parts.password is not None:
        raise ValueError('server: holds a password; give it as password = "env:NAME"')
    here = canonical(host) in _HERE
    tls = tls or ("tls" if parts.scheme == "smtps" else "none" if here else "starttls")
    if parts.scheme == "smtps" and tls != "tls":
        raise ValueError(f'tls: is "{tls}", but smtps:// means TLS; use smtp:// instead')
    username = username or (unquote(parts.username) if parts.username else None)
    if (username is None) != (password is None):
        raise ValueError("username and password: give both or none")
    if password and tls == "none" and not here:
        raise ValueError('tls: is "none", which would send the password in clear text; use "starttls" or "tls"')
    if ehlo and not _EHLO.fullmatch(ehlo):
        raise ValueError(
            'ehlo: is no name of a host; expected a full name such as "mail.shop.example", or "[203.0.113.7]"'
        )
    default = {"tls": 465, "starttls": 587, "none": 25}[tls]
    return Server(host=host, port=port or default, tls=tls, username=username, password=password, ehlo=ehlo)


def _folder(text: str) -> Folder:
    directory = text.removeprefix("file:")
    if directory.startswith("//"):
        directory = directory.removeprefix("//")
        if not directory.startswith("/"):
            raise ValueError("server: file:// is followed by an absolute path; write file:DIRECTORY for a relative one")
    if not directory.strip():
        raise ValueError(f"server: names no directory; {_EXPECTED}")
    return Folder(path=Path(directory).expanduser())


def _host_and_port(text: str) -> tuple[str, int | None]:
    parts = urlsplit(text)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"server: has no usable port; {_EXPECTED}") from None
    if parts.scheme not in {"smtp", "smtps"} or not host:
        raise ValueError(f"server: is no mail server; {_EXPECTED}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"server: has something after the host; {_EXPECTED}")
    return host, port
