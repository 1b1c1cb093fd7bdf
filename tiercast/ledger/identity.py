"""Who a body is about: finding a customer in what was never read, or cannot be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..event import CustomerRefs, Event, customer_ids, data_of, is_envelope, json_text
from ..references import canonical, spellings

#: Shorter names, and numbers below six digits, are too common to search for in any text: they are recognised only where
#: they stand as the customer's own.
_SHORTEST = 4
_SHORTEST_NUMBER = 6

_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


class About(Enum):
    """How a body is about a customer."""

    THEIRS = "theirs"
    #: It is another customer's, and names them somewhere.
    MENTIONS = "mentions"
    NOT = "not"


@dataclass(slots=True)
class Identity:
    """All names of one customer, as an operator gave one of them and their deliveries told the others.

    Names are compared, and kept, in their canonical form. Personal data, so the repr shows nothing.
    """

    given: str = field(repr=False)
    ids: set[str] = field(default_factory=set, repr=False)
    source_ids: set[str] = field(default_factory=set, repr=False)
    emails: set[str] = field(default_factory=set, repr=False)

    def learn(self, refs: CustomerRefs) -> None:
        """Take over the names that a delivery of theirs tells."""
        for (kind, value), names in zip(_named(refs), (self.ids, self.source_ids, self.emails), strict=True):
            if value:
                names.add(canonical(kind, value))

    def names(self) -> Iterator[tuple[str, str]]:
        """Every (kind, value) that they are known by; the given one as each kind that it may be."""
        kinds = ["id", "source_id"] + (["email"] if "@" in self.given else [])
        found = [(kind, canonical(kind, self.given)) for kind in kinds]
        found += [("id", value) for value in self.ids] + [("source_id", value) for value in self.source_ids]
        yield from dict.fromkeys(found + [("email", value) for value in self.emails])

    def texts(self) -> list[str]:
        """How their names that are long enough to be searched for can stand in any text."""
        return sorted({text for text in self._spellings() if not _is_short(text)})

    def too_short(self) -> bool:
        """Whether a name of theirs cannot be searched for."""
        return any(map(_is_short, self._spellings()))

    def is_theirs(self, refs: CustomerRefs) -> bool:
        """Whether an event with these references is theirs: by the given name, or by the first that it has."""
        told = [(kind, canonical(kind, value)) for kind, value in _named(refs) if value]
        if any(value == canonical(kind, self.given) for kind, value in told):
            return True
        known = {"id": self.ids, "source_id": self.source_ids, "email": self.emails}
        return next((value in known[kind] for kind, value in told if value), False)

    def _spellings(self) -> set[str]:
        return {text for kind, value in self.names() for text in spellings(kind, value)}


def _named(refs: CustomerRefs) -> tuple[tuple[str, str | None], ...]:
    return (("id", refs.id), ("source_id", refs.source_id), ("email", refs.email))


def _is_short(text: str) -> bool:
    return len(text) < (_SHORTEST_NUMBER if text.isdigit() else _SHORTEST)


class Finder:
    """Looks for one customer in raw bytes. Make a new one when the identity has learnt more."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        names = {text for kind, value in identity.names() for text in spellings(kind, value)}
        # What JSON writes as \u... is found after decoding only, and so are other cases and forms of what is not ASCII.
        marks = [rb"\\u", *(re.escape(name.encode("utf-8", "replace")) for name in names)]
        if not all(name.isascii() for name in names):
            marks.append(rb"[\x80-\xff]")
        self._quick = re.compile(b"|".join(marks), re.IGNORECASE)
        texts = [rf"(?<![\w.+-]){re.escape(text)}(?![\w-]|\.\w)" for text in identity.texts()]
        self._token = re.compile("|".join(texts) or r"(?!)", re.IGNORECASE)

    def mentions(self, value: bytes) -> bool:
        """Whether any text holds one of their names as a word of its own."""
        if not self._quick.search(value):
            return False
        text = value.decode("utf-8", "replace")
        return bool(self._token.search(text) or self._token.search(_unescaped(text)))

    def about(self, body: bytes) -> tuple[About, CustomerRefs]:
        """How a raw body is about them, and whom it names as its customer."""
        nobody = CustomerRefs()
        if not self._quick.search(body):
            return About.NOT, nobody
        try:
            document = json.loads(json_text(body), object_pairs_hook=_Pairs)
            refs = _refs(document)
        except (ValueError, RecursionError):
            return (About.THEIRS if self.mentions(body) else About.NOT), nobody
        if self._identity.is_theirs(refs):
            return About.THEIRS, refs
        if not any(self._token.search(text) for text in _texts(document)):
            return About.NOT, refs
        return (About.THEIRS if refs == nobody else About.MENTIONS), refs


class _Pairs(dict[str, Any]):
    """An object that remembers what a repeated key hides."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def refs_of(body: bytes) -> CustomerRefs:
    """The references of the customer that a body is about; empty where it cannot be read."""
    try:
        return _refs(json.loads(json_text(body)))
    except (ValueError, RecursionError):
        return CustomerRefs()


def _refs(document: Any) -> CustomerRefs:
    if not isinstance(document, dict):
        return CustomerRefs()
    # A bare object of the sender's own design may look like an envelope, and names its customer at its root.
    for form in ("envelope", "raw") if is_envelope(document) else ("raw",):
        try:
            data = data_of(document, form)
        except ValueError:
            continue
        refs = customer_ids(Event(id="", type="", at="", created_us=0, source="", data=data))
        if refs != CustomerRefs():
            return refs
    return CustomerRefs()


def _texts(document: Any) -> Iterable[str]:
    """All keys and texts of a document, at any depth."""
    open_ = [document]
    while open_:
        value = open_.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, _Pairs):
            for key, inner in value.pairs:
                yield key
                open_.append(inner)
        elif isinstance(value, list):
            open_.extend(value)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
