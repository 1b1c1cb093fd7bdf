"""Refuse addresses that only our own network can reach, where a user gives the host.

Addresses and their meanings: https://www.iana.org/assignments/iana-ipv4-special-registry and
https://www.iana.org/assignments/iana-ipv6-special-registry.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterable

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Not reachable from everywhere, though older versions of `ipaddress` say so.
_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carriers' shared space; some clouds' metadata services
        "168.63.129.16/32",  # a public address that is a cloud's own host agent on its machines
        "192.0.0.0/24",
        "192.88.99.0/24",  # retired 6to4 relays
        "198.18.0.0/15",
        "240.0.0.0/4",
        "::/96",  # retired IPv4-compatible form
        "64:ff9b:1::/48",  # NAT64 inside one network
        "100::/64",
        "2001::/23",  # Teredo and other protocols of the registry
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fec0::/10",
    )
)

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

#: Names that mean this machine or this network by definition (RFC 6761, RFC 8375, RFC 6762).
_PRIVATE_NAMES = ("localhost", "local", "internal", "home.arpa", "localdomain")


class AddressRefused(Exception):
    """A host is, or resolves to, an address that only our own network can reach."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} is or resolves to a private, loopback or link-local address, which is refused; "
            f'to allow it, add allow_hosts = ["{host}"] to the action'
        )


def is_public(text: str) -> bool:
    """Whether an IP address can be reached from everywhere, whichever form it is written in.

    >>> is_public("93.184.215.14"), is_public("::ffff:127.0.0.1")
    (True, False)
    """
    try:
        return _public(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return False


def refuse_private_host(host: str, allowed: Collection[str] = ()) -> None:
    """Refuse a host that is seen to be private without resolving it: an address, or a name made for that.

    Raises:
        AddressRefused: it is private and not in `allowed`.
    """
    name = canonical(host)
    if name in map(canonical, allowed):
        return
    private_name = any(name == suffix or name.endswith(f".{suffix}") for suffix in _PRIVATE_NAMES)
    if private_name or (_is_address(name) and not is_public(name)):
        raise AddressRefused(name)


def refuse_private_addresses(host: str, addresses: Iterable[str]) -> None:
    """Refuse a name that resolves to an address that is not public.

    Raises:
        AddressRefused: one of them is not public. One is enough: a name that points both ways is no accident.
    """
    if not all(map(is_public, addresses)):
        raise AddressRefused(host)


def canonical(host: str) -> str:
    """The form in which hosts are compared: lower case, without brackets and final dot."""
    return host.strip().strip("[]").rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            # The old forms that resolvers still read as addresses: 127.1, 0x7f000001, 2130706433.
            socket.inet_aton(name)
        except OSError:
            return False
    return True


def _public(address: _Address) -> bool:
    inner = _embedded(address)
    if inner is not None:
        return _public(inner)
    if any(address.version == network.version and address in network for network in _REFUSED):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _embedded(address: _Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for, where it is one of the translating forms."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _NAT64 or (int(address) >> 32) & 0xFFFFFFFF in {0x00005EFE, 0x02005EFE}:  # NAT64, ISATAP
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
