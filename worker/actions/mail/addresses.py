"""Read and check the addresses of a mail (RFC 5322 3.4, RFC 6531 for what is beyond ASCII)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import idna

from tiercast.actions import Permanent

from .headers import CONTROLS

#: The most characters of one address option. Names of customers are not bounded by Voucherify.
OPTION_MAX_CHARS = 20_000

_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)

#: An address whose name is in quotes, up to the comma behind it: the name may hold commas and further quotes.
_QUOTED = re.compile(r'[ \t]*"(.*?)"[ \t]*<([^<>"]*)>[ \t]*(?:,|\Z)')

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LOCAL_MAX_BYTES = 64

#: A part of a domain in its ASCII form. Registries sold names with hyphens in the third and fourth place, and hosts
#: with an underscore take mail, though newer rules allow neither.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_DOMAIN_MAX_CHARS = 253

#: Two joiners that words of several languages are spelt with; other invisible characters come from copying.
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address, with the name that is shown. `domain` is in its ASCII form."""

    name: str
    local: str
    domain: str

    @property
    def address(self) -> str:
        """As the server gets it."""
        return f"{self.local}@{self.domain}"


def count_written(template: str) -> int:
    """Count the addresses that a configured option names, whatever templates in it may render to.

    >>> count_written("{{ event.customer.email }}, Team <team@example.com>")
    2
    """
    outside_quotes = re.sub(r'"[^"]*"', "", _TEMPLATE.sub("x", template))
    return sum(1 for part in outside_quotes.split(",") if part.strip())


def read_addresses(option: str, text: str, *, most: int) -> tuple[Mailbox, ...]:
    """Read a list of addresses, separated by commas.

    Args:
        option: the option's name, for messages.
        text: what it rendered to.
        most: how many the configuration names. More means that a value of the event (a customer's name with a
            comma, for instance) has added one.

    Raises:
        Permanent: one is malformed, or there are too many; the message shows no address.
    """
    text = text.strip()
    if not text:
        return ()
    if len(text) > OPTION_MAX_CHARS:
        raise Permanent(f"option {option} rendered to more than {OPTION_MAX_CHARS:,} characters")
    if CONTROLS.search(text):
        raise Permanent(f"option {option} holds a line break or a control character")
    found = list(_split(text))
    if not found:
        raise Permanent(f"option {option} is not an e-mail address")
    if len(found) > most:
        raise Permanent(
            f"option {option} rendered to {len(found)} addresses where the configuration names {most}; "
            'is there a comma in a value of the event? A name in quotes may hold commas: "{{ ... }}" <{{ ... }}>'
        )
    return tuple(_mailbox(option, name, address) for name, address in found)


def ascii_domain(domain: str) -> str | None:
    """The ASCII form of a domain, or None if it cannot be one.

    >>> ascii_domain("Straße.example"), ascii_domain("ab--cd.example"), ascii_domain("exa mple")
    ('xn--strae-oqa.example', 'ab--cd.example', None)
    """
    domain = domain.removesuffix(".")
    if not domain.isascii():
        found = _encoded_domain(domain)
        if found is None:
            return None
        domain = found
    domain = domain.lower()
    good = len(domain) <= _DOMAIN_MAX_CHARS and all(_LABEL.fullmatch(label) for label in domain.split("."))
    return domain if good else None


def _split(text: str) -> Iterator[tuple[str, str]]:
    """Name and address of each part between commas; what is malformed has an address that is none."""
    at = 0
    while at < len(text):
        quoted = _QUOTED.match(text, at)
        if quoted:
            yield re.sub(r"\\(.)", r"\1", quoted[1]), quoted[2]
            at = quoted.end()
            continue
        end = text.find(",", at)
        end = len(text) if end < 0 else end
        part = text[at:end].strip()
        at = end + 1
        if part.endswith(">"):
            name, _, address = part[:-1].rpartition("<")
            yield name.strip(" \t"), address
        elif part:
            yield "", part


def _mailbox(option: str, name: str, address: str) -> Mailbox:
    local, _, domain = address.strip().rpartition("@")
    local = unicodedata.normalize("NFC", local)
    if not _LOCAL.fullmatch(local) or len(local.encode("utf-8", "replace")) > _LOCAL_MAX_BYTES:
        raise Permanent(f"option {option} is not an e-mail address")
    if not all(character.isprintable() or character in _JOINERS for character in local):
        raise Permanent(f"option {option} is not an e-mail address: it holds an invisible character or a blank")
    found = ascii_domain(domain)
    if found is None:
        raise Permanent(f"option {option} is not an e-mail address: its domain is not valid")
    return Mailbox(name, local, found)


def _encoded_domain(domain: str) -> str | None:
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError:  # idna's own errors are UnicodeErrors
        pass
    # Registries sell names that IDNA 2008 excludes, with emoji for instance; their ASCII form is made as for others.
    try:
        mapped = idna.uts46_remap(domain, std3_rules=False, transitional=False)
    except UnicodeError:
        return None
    labels = [_encoded_label(label) for label in mapped.split(".")]
    return None if None in labels else ".".join(label for label in labels if label is not None)


def _encoded_label(label: str) -> str | None:
    if label.isascii():
        return label
    if any(unicodedata.category(character)[0] in "CZ" and character not in _JOINERS for character in label):
        return None
    if re.search(r"[^a-z0-9_-]", "".join(filter(str.isascii, label))):
        return None
    return "xn--" + label.encode("punycode").decode("ascii")
