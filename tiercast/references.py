"""A customer's references: id, source id and email, and the one form in which each is compared.

Index, search, once places, order groups and `tiercast forget` all compare references by `canonical`.
"""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from functools import lru_cache

import idna

#: The kinds of reference, the strongest first.
KINDS = ("id", "source_id", "email")


def canonical(kind: str, value: str) -> str:
    """The form in which a reference is compared; empty where it names nobody.

    An id and a source id are compared exactly, but for blanks at their ends. An email is compared trimmed, in NFC, in
    lower case, with its domain in ASCII (IDNA).

    >>> canonical("email", " Zoe\u0301@B\u00dcCHER.example ")
    'zo\u00e9@xn--bcher-kva.example'
    """
    value = value.strip()
    if kind != "email":
        return value
    return value.lower() if value.isascii() else _email(value)


@lru_cache(maxsize=1024)
def _email(value: str) -> str:
    local, at, domain = unicodedata.normalize("NFC", value).lower().rpartition("@")
    if not at:
        return domain
    # Lower case can undo NFC, and both together are stable.
    return f"{unicodedata.normalize('NFC', local)}@{ascii_domain(domain)}"


def ascii_domain(domain: str) -> str:
    """A domain in ASCII; as it is, in lower case, where it has no such form."""
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        return unicodedata.normalize("NFC", domain.lower())


def spellings(kind: str, value: str) -> set[str]:
    """How a reference may stand in a body: as it is, composed and decomposed, its domain in ASCII and in Unicode."""
    value = value.strip()
    found = {value, canonical(kind, value)}
    local, at, domain = canonical(kind, value).rpartition("@")
    if kind == "email" and at and "xn--" in domain:
        with suppress(idna.IDNAError):
            found.add(f"{local}@{idna.decode(domain)}")
    return found | {unicodedata.normalize(form, one) for one in found for form in ("NFC", "NFD")}
