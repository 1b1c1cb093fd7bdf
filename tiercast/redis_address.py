"""The address of a Redis server, read in one place for everything that connects to one.

The ledger's client and Celery's broker understand different addresses: kombu knows no `unix://`, does not check
certificates of `rediss://` unless it is asked to, and passes unknown options on as text. So Tiercast reads the address
itself, and gives each side plain values.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

#: Forms of the address of a primary behind sentinels, without and with TLS.
SENTINEL_SCHEMES = ("sentinel", "sentinels")

#: Forms of the ledger's address.
SCHEMES = ("redis", "rediss", "unix", *SENTINEL_SCHEMES)

#: Those with TLS.
TLS_SCHEMES = ("rediss", "sentinels")

#: Celery's own form of `unix://`, which TIERCAST_BROKER_URL may have.
SOCKET_SCHEME = "redis+socket"

#: Options of an address that are about TLS.
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs")

#: Options of a sentinel's address: how to log in at the sentinels themselves.
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")

_DEFAULT_PORT = 6379
_SENTINEL_PORT = 26379


class AddressError(ValueError):
    """An address cannot be used. The message is the end of a sentence about it, and repeats nothing of a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How a TLS connection checks the server: by default its certificate and name, against the system's authorities."""

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    check_hostname: bool = True
    verify: bool = True

    @classmethod
    def read(cls, options: Mapping[str, str]) -> Tls:
        """Read the options `ssl_*` of an address.

        Raises:
            AddressError: one of them has a value that it cannot have, or they contradict one another.
        """
        verify = _choice(options, "ssl_cert_reqs", {"required": True, "none": False}, default=True)
        named = _choice(options, "ssl_check_hostname", {"true": True, "false": False}, default=True)
        if "ssl_keyfile" in options and "ssl_certfile" not in options:
            raise AddressError("has the option ssl_keyfile without ssl_certfile")
        return cls(
            ca_certs=options.get("ssl_ca_certs"),
            certfile=options.get("ssl_certfile"),
            keyfile=options.get("ssl_keyfile"),
            check_hostname=named and verify,
            verify=verify,
        )

    def check_files(self) -> None:
        """Load the files that are named.

        Raises:
            AddressError: one of them cannot be read, or is not what it should be.
        """
        context = ssl.create_default_context()
        files = {"ssl_ca_certs": self.ca_certs, "ssl_certfile": self.certfile, "ssl_keyfile": self.keyfile}
        for option, path in files.items():
            try:
                if path is None:
                    continue
                if option == "ssl_ca_certs":
                    context.load_verify_locations(path)
                elif option == "ssl_certfile":
                    context.load_cert_chain(path, self.keyfile, password=_no_password)
            except (OSError, ValueError) as error:
                if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
                    raise AddressError(f"names {path} as {option}, which holds nothing in PEM format to use") from None
                raise AddressError(f"names {path} as {option}, which cannot be read: {error.strerror}") from None


def _no_password() -> str:
    raise ValueError("a key with a password is not supported")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where a Redis server is: host and port, the path of a socket, or the name of a primary that sentinels know.

    `tls` is None for a plain connection. `sentinels` are hosts and ports, none where there are no sentinels; they have
    a login of their own, and TLS where the server has it.
    """

    host: str = "localhost"
    port: int = _DEFAULT_PORT
    path: str | None = None
    database: int = 0
    username: str | None = None
    password: str | None = None
    tls: Tls | None = None
    primary: str | None = None
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_username: str | None = None
    sentinel_password: str | None = None

    @classmethod
    def read(cls, url: str) -> RedisAddress:
        """Read `redis://`, `rediss://`, `unix://`, `sentinel://`, `sentinels://` and Celery's `redis+socket://`.

        >>> RedisAddress.read("redis://:secret@ledger/2").database
        2
        >>> RedisAddress.read("sentinel://one,two:26380/ledger").sentinels
        (('one', 26379), ('two', 26380))

        Raises:
            AddressError: it is none of these, or has an option that is not known here.
        """
        if url.partition("://")[0] in SENTINEL_SCHEMES:
            return cls._read_sentinels(url)
        try:
            parts = urlsplit(url)
            port = parts.port if parts.scheme in ("redis", "rediss") else None
        except ValueError:
            raise AddressError("has no usable host and port; in a password, # is %23, / is %2F and @ is %40") from None
        if parts.scheme not in (*SCHEMES, SOCKET_SCHEME):
            raise AddressError("does not start with redis://, rediss://, unix:// or sentinel://")
        on_socket = parts.scheme in ("unix", SOCKET_SCHEME)
        if port == 0 or (on_socket and not parts.path.strip("/")):
            raise AddressError(f"has no usable {'path' if on_socket else 'port'}")
        if parts.fragment or (on_socket and parts.hostname):
            # What follows a "#" would be dropped silently; a password with one in it has to be quoted.
            raise AddressError("has a # or a host in the wrong place; quote special characters, # is %23")
        options = _options(parts.query, ("db", "virtual_host") if on_socket else ("db", *TLS_OPTIONS))
        return cls(
            host=unquote(parts.hostname or "localhost"),
            port=port or _DEFAULT_PORT,
            path=unquote(parts.path) if on_socket else None,
            database=_database("" if on_socket else parts.path, options),
            username=unquote(parts.username or "") or None,
            password=unquote(parts.password or "") or None,
            tls=_tls(parts.scheme, options),
        )

    @classmethod
    def _read_sentinels(cls, url: str) -> RedisAddress:
        scheme, _, rest = url.partition("://")
        rest, _, query = rest.partition("?")
        authority, _, name = rest.partition("/")
        login, _, hosts = authority.rpartition("@")
        username, _, password = login.partition(":")
        if ";" in url:
            raise AddressError("has a semicolon; sentinels are separated by commas: sentinel://one,two/name")
        if "#" in url:
            raise AddressError("has a # in the wrong place; quote special characters, # is %23")
        if not name or "/" in name:
            raise AddressError("does not end with the name of the primary that the sentinels watch: /name")
        options = _options(query, (*_SENTINEL_OPTIONS, "db", *TLS_OPTIONS))
        return cls(
            primary=unquote(name),
            sentinels=tuple(_host_and_port(one) for one in hosts.split(",")),
            database=_database("", options),
            username=unquote(username) or None,
            password=unquote(password) or None,
            tls=_tls(scheme, options),
            sentinel_username=options.get("sentinel_username"),
            sentinel_password=options.get("sentinel_password"),
        )

    def sentinel_options(self) -> dict[str, Any]:
        """What a client of each sentinel takes beside its host and port."""
        login = {"username": self.sentinel_username, "password": self.sentinel_password}
        return login | self._tls_options()

    def client_options(self) -> dict[str, Any]:
        """What `redis.Redis` takes; behind sentinels without host and port, since those change."""
        common = {"db": self.database, "username": self.username, "password": self.password}
        if self.path is not None:
            return common | {"unix_socket_path": self.path}
        if self.sentinels:
            return common | self._tls_options()
        return common | {"host": self.host, "port": self.port} | self._tls_options()

    def _tls_options(self) -> dict[str, Any]:
        return {"ssl": True, **self.broker_tls()} if self.tls else {}

    def broker_tls(self) -> dict[str, Any]:
        """What `broker_use_ssl` has to be for Celery; redis-py has the same names."""
        if self.tls is None:
            return {}
        return {
            "ssl_cert_reqs": ssl.CERT_REQUIRED if self.tls.verify else ssl.CERT_NONE,
            "ssl_check_hostname": self.tls.check_hostname,
            "ssl_ca_certs": self.tls.ca_certs,
            "ssl_certfile": self.tls.certfile,
            "ssl_keyfile": self.tls.keyfile,
        }

    def broker_url(self) -> str:
        """The address in the form that Celery knows."""
        user = quote(self.username or "", safe="")
        login = f"{user}:{quote(self.password, safe='')}@" if self.password else f"{user}@" if user else ""
        if self.path is not None:
            return f"{SOCKET_SCHEME}://{login}{quote(self.path)}?virtual_host={self.database}"
        if self.sentinels:
            # kombu takes TLS from `broker_use_ssl`, and the primary's name from the transport's options.
            return ";".join(
                f"sentinel://{login}{_quoted_host(host)}:{port}/{self.database}" for host, port in self.sentinels
            )
        return f"{'rediss' if self.tls else 'redis'}://{login}{_quoted_host(self.host)}:{self.port}/{self.database}"


def is_redis(url: str) -> bool:
    """Whether an address is one of a Redis server, as far as its scheme tells."""
    return url.partition("://")[0] in (*SCHEMES, SOCKET_SCHEME)


def with_ca(url: str, path: str) -> str:
    """Add a CA file to an address that names none."""
    if "ssl_ca_certs=" in url or "ssl_cert_reqs=none" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_ca_certs={quote(path)}"


def place(url: str) -> str:
    """Where an address leads, in words, without what may be secret in it."""
    try:
        address = RedisAddress.read(url)
    except AddressError:  # another broker's
        return urlsplit(url).netloc.rpartition("@")[2]
    if address.path is not None:
        return address.path
    if address.sentinels:
        hosts = ",".join(f"{_quoted_host(host)}:{port}" for host, port in address.sentinels)
        return f"{address.primary} of the sentinels {hosts}"
    return f"{_quoted_host(address.host)}:{address.port}"


def _quoted_host(host: str) -> str:
    return f"[{host}]" if ":" in host else quote(host)


def _host_and_port(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, 0
    if not host or port == 0:
        raise AddressError("has no usable host and port; in a password, # is %23, / is %2F and @ is %40")
    return unquote(host), port or _SENTINEL_PORT


def _options(query: str, known: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise AddressError(
                f"has the option {name[:40]!r}, which Tiercast does not take (its time-outs are its own); known here: "
                f"{', '.join(option for option in known if option != 'virtual_host')}"
            )
        if name in found or not value:
            raise AddressError(f"has the option {name} {'twice' if name in found else 'without a value'}")
        found[name] = value
    return found


def _database(path: str, options: Mapping[str, str]) -> int:
    # redis-py takes database 0 where it cannot read the number.
    named = [text for text in (path.strip("/"), options.get("db"), options.get("virtual_host")) if text]
    if path.count("/") > 1 or not all(text.isascii() and text.isdecimal() and len(text) < 6 for text in named):
        raise AddressError("does not end with the number of a database")
    if len(set(named)) > 1:
        raise AddressError("names two databases")
    return int(named[0]) if named else 0


#: The scheme with TLS of one that has none.
_WITH_TLS = {"redis": "rediss", "sentinel": "sentinels"}


def _tls(scheme: str, options: Mapping[str, str]) -> Tls | None:
    found = {name: value for name, value in options.items() if name in TLS_OPTIONS}
    if scheme in TLS_SCHEMES:
        return Tls.read(found)
    if found:
        raise AddressError(
            f"has the option {next(iter(found))}, but does not start with {_WITH_TLS[scheme]}://, which means TLS"
        )
    return None


def _choice(options: Mapping[str, str], name: str, choices: Mapping[str, bool], *, default: bool) -> bool:
    text = options.get(name)
    if text is None:
        return default
    if text.lower() not in choices:
        raise AddressError(f"has the option {name}, whose value is none of {', '.join(choices)}")
    return choices[text.lower()]
