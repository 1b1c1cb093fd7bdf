"""Finding all of a customer in the history, removing it there, and proving that nothing is left."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..history.rows import FiledDelivery
from ..ledger.digests import Digests
from ..ledger.forgetting import Step
from ..ledger.identity import About, Finder, Identity, refs_of

if TYPE_CHECKING:
    from ..history.reading import Reading
    from ..history.removing import Erased, Removing

#: Rows between two calls of a step.
_STEP = 500


@dataclass(slots=True)
class FiledBelongings:
    """What the history has of a customer.

    `mentions` are deliveries of others that name them, each with whose it is: their bodies go.
    """

    deliveries: set[str] = field(default_factory=set)
    mentions: dict[str, str] = field(default_factory=dict, repr=False)
    jobs: int = 0


class HistoryForgetter:
    """Forgets customers in a history.

    Args:
        reading, removing: of the history.
        digests: of the ledger that it belongs to.
        sources: in which they are to be forgotten.
        projects: the Voucherify projects of those sources.
    """

    def __init__(
        self,
        reading: Reading,
        removing: Removing,
        digests: Digests,
        sources: Collection[str],
        projects: Collection[str],
    ) -> None:
        self._reading = reading
        self._removing = removing
        self._digests = digests
        self._sources = frozenset(sources)
        self._projects = sorted({*projects, *sources})

    def find(self, identity: Identity, step: Step) -> FiledBelongings:
        """Find all that is theirs: by the index, and by a look at every body. Changes nothing in the history.

        Args:
            identity: learns the names that their deliveries tell.
            step: told how many bodies were looked at.
        """
        found = FiledBelongings()
        known = 0
        # What one delivery tells (an id beside the email that was given) leads to others.
        while known < len(names := set(identity.names())):
            known = len(names)
            self._by_index(identity, found)
            self._by_scan(identity, found, step)
        filed = self._reading.by_id(sorted(found.deliveries), bodies=False, jobs=True)
        found.jobs = sum(len(each.jobs) for each in filed)
        return found

    def remove(self, identity: Identity, found: FiledBelongings) -> Erased:
        """Remove it. From then on nothing of theirs is filed. It can be repeated at any time."""
        digests = [self._digests.customer(project, *name) for project in self._projects for name in identity.names()]
        return self._removing.forget(digests, found.deliveries, found.mentions)

    def prove(self, identity: Identity, step: Step) -> list[str]:
        """Search every text of the database for their names. Returns the rows that hold one, as `table delivery`."""
        finder = Finder(identity)
        hits: list[str] = []
        for number, (where, texts) in enumerate(self._removing.all_texts(), 1):
            if any(finder.mentions(text) for text in texts):
                hits.append(where)
            if number % _STEP == 0:
                step(_STEP)
        return hits

    # --- inside

    def _by_index(self, identity: Identity, found: FiledBelongings) -> None:
        # Their other deliveries are indexed under the first name that they have, too.
        firsts = {("id", name) for name in identity.ids} or {("source_id", name) for name in identity.source_ids}
        names = {*firsts, *(name for name in identity.names() if name[1] == identity.given)}
        digests = [self._digests.customer(project, *name) for project in self._projects for name in names]
        for each in self._reading.of_customer(digests):
            if each.source in self._sources and self._is_theirs(identity, each):
                found.deliveries.add(each.id)
                identity.learn(refs_of(each.body or b""))

    @staticmethod
    def _is_theirs(identity: Identity, each: FiledDelivery) -> bool:
        """One whose body is gone or cannot be read is theirs by its digests alone."""
        refs = refs_of(each.body or b"")
        return refs == refs_of(b"") or identity.is_theirs(refs)

    def _by_scan(self, identity: Identity, found: FiledBelongings, step: Step) -> None:
        finder = Finder(identity)
        found.mentions = {}
        for number, (id, body) in enumerate(self._bodies(), 1):
            about, refs = finder.about(body)
            if about is About.THEIRS:
                found.deliveries.add(id)
                identity.learn(refs)
            elif about is About.MENTIONS:
                found.mentions[id] = refs.id or "without an id"
            if number % _STEP == 0:
                step(_STEP)
        for id in found.deliveries & found.mentions.keys():
            del found.mentions[id]

    def _bodies(self) -> Iterator[tuple[str, bytes]]:
        return ((id, body) for id, source, body in self._removing.all_bodies() if source in self._sources)
