"""Read and check the addresses of a mail."""

from __future__ import annotations

import email.policy
import re
from email.errors import HeaderParseError, InvalidHeaderDefect
from email.headerregistry import Address, AddressHeader
from typing import cast

import idna

from tiercast.actions import Permanent

_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)

#: A local part without quotes (RFC 5321 4.1.2; RFC 6531 adds what is beyond ASCII).
_LOCAL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+)*"
)


def count_written(template: str) -> int:
    """How many addresses a configured option names, not counting what templates in it may render to.

    >>> count_written("{{ event.customer.email }}, Team <team@example.com>")
    2
    """
    outside_quotes = re.sub(r'"[^"]*"', "", _TEMPLATE.sub("x", template))
    return sum(1 for part in outside_quotes.split(",") if part.strip())


def read_addresses(option: str, text: str, *, most: int) -> tuple[Address, ...]:
    """Read a list of addresses, with domains in their ASCII form.

    Args:
        option: the option's name, for messages.
        text: what it rendered to.
        most: how many the configuration names. More means that a value of the event (a customer's name with a
            comma, for instance) has added one.

    Raises:
        Permanent: one is malformed, or there are too many; the message shows no address.
    """
    if not text.strip():
        return ()
    if any(not character.isprintable() for character in text.strip()):
        raise Permanent(f"option {option} holds a line break or a control character")
    found = tuple(_checked(option, address) for address in _parsed(text.strip()))
    if not found:
        raise Permanent(f"option {option} is not an e-mail address")
    if len(found) > most:
        raise Permanent(
            f"option {option} rendered to {len(found)} addresses where the configuration names {most}; "
            "is there a comma in a value of the event?"
        )
    return found


def _parsed(text: str) -> tuple[Address, ...]:
    try:
        header = cast(AddressHeader, email.policy.SMTP.header_factory("to", text))
        # "a@exa mple.com" is mended into a@exa, with this defect; other defects are old spellings that are right.
        broken = any(isinstance(defect, InvalidHeaderDefect) for defect in getattr(header, "defects", ()))
        return () if broken else tuple(header.addresses)
    except (IndexError, ValueError, AttributeError, HeaderParseError):
        # Python's parser stumbles over some malformed lists instead of naming the defect.
        return ()


def _checked(option: str, address: Address) -> Address:
    local, domain = address.username, address.domain
    if not _LOCAL.fullmatch(local) or len(local.encode()) > 64:
        raise Permanent(f"option {option} is not an e-mail address")
    try:
        ascii_domain = idna.encode(domain, uts46=True).decode() if domain else ""
    except (idna.IDNAError, UnicodeError):
        ascii_domain = ""
    if not ascii_domain or len(ascii_domain) > 253:
        raise Permanent(f"option {option} is not an e-mail address: its domain is not valid")
    return Address(display_name=address.display_name, username=local, domain=ascii_domain)
