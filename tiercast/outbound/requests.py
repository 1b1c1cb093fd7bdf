"""What of a request can be sent: its address and its headers."""

from __future__ import annotations

from collections.abc import Mapping

from yarl import URL

from ..actions import Permanent

#: No address is longer: servers refuse more than 8 KiB.
_LONGEST_URL = 8192


def parsed(url: str) -> URL:
    """Parse an address and keep it byte for byte: what is encoded in it must not be decoded, dots must not climb.

    Raises:
        Permanent: it is none that can be called.
    """
    text = _encoded(url.partition("#")[0])
    try:
        target = URL(text, encoded=True)
        good = target.scheme in {"http", "https"} and bool(target.raw_host) and target.port is not None
    except ValueError:
        good = False
    if not good or len(text) > _LONGEST_URL or target.raw_user is not None or target.raw_password is not None:
        raise Permanent("the address of the call is no http or https address without user and password")
    return target if (target.raw_host or "").isascii() else target.with_host(target.host or "")


#: What an address may hold as it is.
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/?#[]@!$&'()*+,;=%")


def _encoded(url: str) -> str:
    """The address with what it cannot hold encoded; what is encoded already stays."""
    if _PLAIN.issuperset(url):
        return url
    scheme, mark, rest = url.partition("://")
    end = next((place for place, sign in enumerate(rest) if sign in "/?#"), len(rest))
    host, rest = rest[:end], rest[end:]
    encoded = "".join(sign if sign in _PLAIN else _percent(sign) for sign in rest)
    return f"{scheme}{mark}{host}{encoded}"


def _percent(sign: str) -> str:
    return "".join(f"%{byte:02X}" for byte in sign.encode("utf-8", "replace"))


def check_headers(headers: Mapping[str, str], host: str | None) -> None:
    """Refuse a header that would end early, and so begin another; the message does not repeat it."""
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable() and name.isascii()):
            _check_header(value, host)


def _check_header(value: str, host: str | None) -> None:
    if any((sign < " " and sign != "\t") or sign == "\x7f" or "\ud800" <= sign <= "\udfff" for sign in value):
        raise Permanent(f"the request to {host} cannot be sent: a header or the address is malformed")
