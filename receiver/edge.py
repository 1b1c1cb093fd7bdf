"""Who may call at all, before a signature is looked at: allowed sender addresses and an extra header.

Both are optional and come on top of the signature, which alone makes a request authentic. They are set for the process,
not for a source: `TIERCAST_ALLOWED_SENDERS`, `TIERCAST_TRUSTED_PROXIES`, `TIERCAST_EXTRA_HEADER`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from tiercast.config.document import resolve_secret
from tiercast.errors import SettingsError
from tiercast.settings import Settings

Network = IPv4Network | IPv6Network

#: Where Voucherify sends from, by region (https://docs.voucherify.io/api-reference/introduction-to-webhooks).
PRESETS: Mapping[str, tuple[str, ...]] = {
    "voucherify-eu1": ("34.247.197.22", "63.32.191.141", "52.215.148.84"),
    "voucherify-us1": ("100.25.106.67", "18.209.236.215", "34.192.255.99"),
    "voucherify-as1": ("52.76.98.82", "54.169.8.101", "13.214.87.160"),
}

#: A header's name (RFC 9110, section 5.1), and the reference to its value.
_HEADER = re.compile(r"([A-Za-z0-9-]{1,64})\s*:\s*(\S.*)")

#: An address with a port, as some proxies write it.
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?|([0-9.]+):\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What a request must have beside its signature.

    Attributes:
        senders: networks that may call; none means all.
        proxies: how many proxies of ours stand before the receiver. Each appends to `X-Forwarded-For` the address that
            it was called from; what stands further to the left is the caller's own word.
        header: name of the extra header as WSGI has it (`HTTP_X_KEY`), and its value.
    """

    senders: tuple[Network, ...] = ()
    proxies: int = 0
    header: tuple[str, str] | None = field(default=None, repr=False)

    def refusal(self, environ: Mapping[str, Any]) -> str | None:
        """Why a request is refused, in words for the log; None if it is not."""
        if self.senders and not self._allowed(environ):
            return "address not allowed (TIERCAST_ALLOWED_SENDERS)"
        if self.header is not None:
            name, expected = self.header
            # As bytes, since only ASCII strings can be compared in constant time.
            given = str(environ.get(name, "")).encode(errors="surrogateescape")
            if not hmac.compare_digest(given, expected.encode()):
                return "extra header missing or wrong (TIERCAST_EXTRA_HEADER)"
        return None

    def _allowed(self, environ: Mapping[str, Any]) -> bool:
        text = _caller(environ, self.proxies)
        try:
            address = ip_address(text)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self.senders)


def edge_of(settings: Settings) -> Edge | None:
    """What the settings ask for; None if nothing.

    Raises:
        SettingsError: a value cannot be used; the message names the variable, never the secret.
    """
    if settings.allowed_senders is None and settings.extra_header is None:
        return None
    senders = tuple(_networks((settings.allowed_senders or "").split(",")))
    if settings.allowed_senders is not None and not senders:
        raise SettingsError("TIERCAST_ALLOWED_SENDERS names nobody. Unset it to allow all senders.")
    return Edge(
        senders=senders,
        proxies=settings.trusted_proxies,
        header=_header(settings.extra_header),
    )


def _networks(parts: Iterable[str]) -> Iterable[Network]:
    for part in filter(None, map(str.strip, parts)):
        try:
            for address in PRESETS.get(part, (part,)):
                yield ip_network(address)
        except ValueError as error:
            raise SettingsError(
                f"TIERCAST_ALLOWED_SENDERS: {error}. Expected addresses, networks such as 10.0.0.0/8, or "
                f"{', '.join(PRESETS)}, separated by commas."
            ) from None


def _header(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    found = _HEADER.fullmatch(text)
    if not found:
        # What stands there may be the secret itself.
        raise SettingsError("TIERCAST_EXTRA_HEADER is not of the form NAME: env:VARIABLE (or NAME: file:PATH).")
    try:
        secret = resolve_secret(found[2], base=None)
    except ValueError as error:
        raise SettingsError(f"TIERCAST_EXTRA_HEADER: {error}.") from None
    if not secret.isascii():
        raise SettingsError("TIERCAST_EXTRA_HEADER: the value is not ASCII; the server passes on no other.")
    return "HTTP_" + found[1].upper().replace("-", "_"), secret


def _caller(environ: Mapping[str, Any], proxies: int) -> str:
    """The address that called the outermost of our proxies; empty where the proxies do not tell it."""
    if proxies == 0:
        return str(environ.get("REMOTE_ADDR", ""))
    hops = [hop.strip() for hop in str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",")]
    if len(hops) < proxies:
        return ""
    found = _WITH_PORT.fullmatch(hops[-proxies])
    return (found[1] or found[2]) if found else hops[-proxies]
