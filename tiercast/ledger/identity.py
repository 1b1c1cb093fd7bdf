"""Who a body is about: finding a customer in what was never read, or cannot be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..event import CustomerRefs, Event, customer_ids, data_of, json_text

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

    Personal data, so the repr shows nothing. Emails are compared without case.
    """

    given: str = field(repr=False)
    ids: set[str] = field(default_factory=set, repr=False)
    source_ids: set[str] = field(default_factory=set, repr=False)
    emails: set[str] = field(default_factory=set, repr=False)

    def learn(self, refs: CustomerRefs) -> None:
        """Take over the names that a delivery of theirs tells."""
        for value, names in ((refs.id, self.ids), (refs.source_id, self.source_ids), (refs.email, self.emails)):
            if value:
                names.add(value.lower() if names is self.emails else value)

    def names(self) -> Iterator[tuple[str, str]]:
        """Every (kind, value) that they are known by; the given one as each kind that it may be."""
        kinds = ["id", "source_id"] + (["email"] if "@" in self.given else [])
        found = [(kind, self.given) for kind in kinds]
        found += [("id", value) for value in self.ids] + [("source_id", value) for value in self.source_ids]
        yield from dict.fromkeys(found + [("email", value) for value in self.emails])

    def texts(self) -> list[str]:
        """Their names that are long enough to be searched for in any text."""
        found = {self.given, *self.ids, *self.source_ids, *self.emails}
        return sorted(text for text in found if len(text) >= (_SHORTEST_NUMBER if text.isdigit() else _SHORTEST))

    def too_short(self) -> bool:
        """Whether a name of theirs cannot be searched for."""
        return len(self.texts()) < len({self.given, *self.ids, *self.source_ids, *self.emails})

    def is_theirs(self, refs: CustomerRefs) -> bool:
        """Whether an event with these references is theirs: by the given name, or by the first that it has."""
        if self.given in (refs.id, refs.source_id) or self.given.lower() == (refs.email or "").lower():
            return True
        if refs.id:
            return refs.id in self.ids
        if refs.source_id:
            return refs.source_id in self.source_ids
        return (refs.email or "").lower() in self.emails


class Finder:
    """Looks for one customer in raw bytes. Make a new one when the identity has learnt more."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        names = {value for _, value in identity.names()}
        # What JSON writes as \u... is found after decoding only.
        self._quick = re.compile(b"|".join([rb"\\u", *(re.escape(name.encode()) for name in names)]), re.IGNORECASE)
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
    try:
        data = data_of(document)
    except ValueError:
        return CustomerRefs()
    return customer_ids(Event(id="", type="", at="", created_us=0, source="", data=data))


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
