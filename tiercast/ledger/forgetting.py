"""Forgetting a customer: finding all that is theirs in the ledger, removing it, and proving that nothing is left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

import redis

from ..errors import LedgerError
from .digests import Digests
from .identity import About, Finder, Identity, refs_of
from .model import Forgotten
from .reading import Filter, Reader
from .rewriting import begin, end
from .store import Ledger

#: How many keys are looked at in one round trip.
_PAGE = 500

#: How many deliveries one script removes.
_CHUNK = 200

#: Seconds between two looks at jobs that are being performed, and at a rewrite.
_LOOK = 0.2

#: Begin of the keys under which names are kept while an erasure is not complete, and for how many seconds.
_ERASING = "erasing:"
_REMEMBERED = 90 * 86400

#: Seconds to wait for the append-only file to be rewritten.
_REWRITE = 600.0

#: What INFO says of writing a file: under way, about to begin, how the last one ended.
_APPEND_ONLY = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "aof_last_bgrewrite_status")
_SNAPSHOT = ("rdb_bgsave_in_progress", "rdb_bgsave_in_progress", "rdb_last_bgsave_status")

Step = Callable[[int], None]

#: Makes the audit entry of a step, or None.
Audit = Callable[[], "dict[str, Any] | None"]


def _no_step(_: int) -> None:
    """How far it is is not told."""


def _no_audit() -> None:
    """A removal that nobody asked for."""


@dataclass(slots=True)
class Belongings:
    """What was found of a customer. `deliveries` tell the source of each.

    `mentions` are deliveries of other customers that name them (a source id that both have, say), each with whose it
    is: their bodies are wiped, too.
    """

    identity: Identity
    deliveries: dict[str, str] = field(default_factory=dict)
    mentions: dict[str, str] = field(default_factory=dict, repr=False)
    jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """Whether the server's files were rewritten without what was removed; `why_not` says why not."""

    done: bool
    why_not: str | None = None


class Forgetter:
    """Forgets one customer.

    Args:
        ledger: where they are to be forgotten.
        reader: of that ledger.
        digests: of that ledger.
        sources: in which they are to be forgotten; tombstones are left in each.
    """

    def __init__(self, ledger: Ledger, reader: Reader, digests: Digests, sources: Collection[str]) -> None:
        self._ledger = ledger
        self._client = cast(Any, ledger.client)
        self._reader = reader
        self._digests = digests
        self.sources = list(sources)

    def find(self, customer: str, step: Step) -> Belongings:
        """Find all that is theirs: by the indexes, and by a scan of every raw body. Changes nothing.

        Args:
            customer: id, source id or email.
            step: told how many bodies were looked at.
        """
        found = Belongings(Identity(customer))
        self._recall(found.identity)
        self.extend(found, step)
        return found

    def extend(self, found: Belongings, step: Step) -> None:
        """Find what more is theirs by names that were learnt elsewhere."""
        known = 0
        # What one delivery tells (an id beside the email that was given) leads to others.
        while known < len(names := set(found.identity.names())):
            known = len(names)
            self._by_index(found)
            self._by_scan(found, step)
        infos = self._reader.by_id(found.deliveries)
        found.jobs = sum(len(info.jobs) for info in infos)

    def digest(self, identity: Identity) -> str:
        """One digest of theirs, by which an audit entry can name them."""
        return self.digests(identity)[0]

    def digests(self, identity: Identity) -> list[str]:
        """The digests of all of their names."""
        projects = dict.fromkeys((*self.sources, *self._reader.projects(self.sources)))
        return [self._digests.customer(project, *name) for project in projects for name in identity.names()]

    def remove(self, found: Belongings, *, waiting: Callable[[list[str]], None], audit: Audit = _no_audit) -> Forgotten:
        """Remove it, and leave tombstones. Waits for jobs that are being performed, up to a lease and a little.

        Args:
            found: by `find`.
            waiting: told of jobs that are being performed, when the waiting begins.
            audit: makes the entry of the next step.

        Returns:
            What was removed; `busy` are jobs that were still being performed in the end.
        """
        # What is removed here told those names: a run that ends early must not take them along.
        self._remember(found.identity)
        total = self._ledger.forget(self.digests(found.identity), bodies=list(found.mentions), audit=audit())
        left = list(found.deliveries.items())
        deadline = time.monotonic() + self._ledger.lease + 5
        told = False
        while True:
            rounds = [self._ledger.forget([], chunk, audit=audit()) for chunk in _chunks(left)]
            busy = [job for each in rounds for job in each.busy]
            total = _sum([total, *rounds], busy)
            if not busy or time.monotonic() > deadline:
                return total
            if not told:
                waiting(busy)
            told = True
            kept = {info.id for info in self._reader.by_id(delivery for delivery, _ in left)}
            left = [pair for pair in left if pair[0] in kept]
            time.sleep(_LOOK)

    def prove(self, identity: Identity, step: Step) -> list[str]:
        """Search every key of the server's database, name and value, for their names. Returns the keys that hold one.

        Args:
            identity: as `find` left it.
            step: told how many keys were looked at.
        """
        finder = Finder(identity)
        hits = []
        ours = self._ledger.key(_ERASING).encode()
        keys = (key for key in self._client.scan_iter(count=_PAGE) if not key.startswith(ours))
        for page in _pages(keys):
            for key, values in zip(page, self._values(page), strict=True):
                if finder.mentions(key) or any(finder.mentions(value) for value in values):
                    hits.append(key.decode("utf-8", "replace"))
            step(len(page))
        return hits

    def complete(self, identity: Identity) -> None:
        """Forget the names themselves, once nothing is left to do; until then the next run knows them."""
        self._client.delete(*self._erasing(identity))

    def rewrite(self) -> Rewritten:
        """Have the server write its files anew: until then its append-only file still holds what was removed."""
        try:
            rewritten = self._rewrite()
            # What failed is left to the trimmer, which asks again.
            end(self._ledger, done=rewritten.done)
        except LedgerError as error:
            return Rewritten(done=False, why_not=str(error.__cause__ or error))
        return rewritten

    def _rewrite(self) -> Rewritten:
        try:
            if int(self._client.info("persistence")["aof_enabled"]):
                # One that is under way may have passed what was removed only now.
                self._await(*_APPEND_ONLY)
                begin(self._ledger, self._reader.now_ms())
                self._client.bgrewriteaof()
                self._await(*_APPEND_ONLY)
            if self._may_have_snapshots():
                self._await(*_SNAPSHOT)
                self._client.bgsave()
                self._await(*_SNAPSHOT)
        except (LedgerError, OSError, TimeoutError) as error:
            return Rewritten(done=False, why_not=str(error.__cause__ or error))
        return Rewritten(done=True)

    # --- inside

    def _may_have_snapshots(self) -> bool:
        """Whether the server writes snapshots; one that does not let us see its settings may."""
        try:
            return any(self._client.config_get("save").values())
        except LedgerError as error:
            if isinstance(error.__cause__, redis.exceptions.ResponseError):
                return True
            raise

    def _erasing(self, identity: Identity) -> list[str]:
        names = identity.names()
        return [self._ledger.key(_ERASING + self._digests.customer("", *name)) for name in names]

    def _remember(self, identity: Identity) -> None:
        text = json.dumps(
            {"ids": sorted(identity.ids), "source_ids": sorted(identity.source_ids), "emails": sorted(identity.emails)}
        )
        pipe = self._client.pipeline(transaction=True)
        for key in self._erasing(identity):
            pipe.set(key, text, ex=_REMEMBERED)
        pipe.execute()

    def _recall(self, identity: Identity) -> None:
        """Take over what an earlier run learnt that did not complete."""
        for text in self._client.mget(self._erasing(identity)):
            if text:
                known = json.loads(text)
                identity.ids |= set(known["ids"])
                identity.source_ids |= set(known["source_ids"])
                identity.emails |= set(known["emails"])

    def _by_index(self, found: Belongings) -> None:
        identity = found.identity
        self._take(found, self._indexed(identity.given))
        # Their other deliveries are indexed under the first name that they have.
        firsts = identity.ids or identity.source_ids or identity.emails
        for name in list(firsts):
            self._take(found, self._indexed(name))

    def _indexed(self, name: str) -> Iterator[tuple[str, str]]:
        for source in self.sources:
            for info in self._reader.deliveries(Filter(customer=name, source=source)):
                yield info.id, info.source

    def _take(self, found: Belongings, pairs: Iterable[tuple[str, str]]) -> None:
        for page in _pages(pair for pair in pairs if pair[0] not in found.deliveries):
            for (delivery, source), body in zip(page, self._reader.bodies(d for d, _ in page), strict=True):
                found.deliveries[delivery] = source
                found.identity.learn(refs_of(body or b""))

    def _by_scan(self, found: Belongings, step: Step) -> None:
        prefix = self._ledger.key("b:")
        found.mentions = {}
        finder = Finder(found.identity)
        for page in _pages(self._client.scan_iter(match=_literal(prefix) + "*", count=_PAGE)):
            ids = [key.decode().removeprefix(prefix) for key in page]
            theirs: list[str] = []
            mentions: dict[str, str] = {}
            for delivery, body in zip(ids, self._client.mget(page), strict=True):
                about, refs = finder.about(body or b"")
                if about is About.THEIRS:
                    theirs.append(delivery)
                    found.identity.learn(refs)
                elif about is About.MENTIONS:
                    mentions[delivery] = refs.id or "without an id"
            infos = [info for info in self._reader.by_id([*theirs, *mentions]) if info.source in self.sources]
            found.deliveries |= {info.id: info.source for info in infos if info.id in theirs}
            found.mentions |= {info.id: mentions[info.id] for info in infos if info.id not in found.deliveries}
            step(len(page))

    def _values(self, page: list[bytes]) -> list[list[bytes]]:
        types = self._pipelined(("TYPE", key) for key in page)
        commands = {
            b"string": ("GET",),
            b"hash": ("HGETALL",),
            b"set": ("SMEMBERS",),
            b"zset": ("ZRANGE", 0, -1),
            b"list": ("LRANGE", 0, -1),
            b"stream": ("XRANGE", "-", "+"),
        }
        asked = []
        for key, kind in zip(page, types, strict=True):
            name, *rest = commands.get(kind if isinstance(kind, bytes) else str(kind).encode(), ("EXISTS",))
            asked.append((name, key, *rest))
        return [_flat(answer) for answer in self._pipelined(asked)]

    def _pipelined(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return cast(list[Any], pipe.execute(raise_on_error=False))

    def _await(self, running: str, scheduled: str, status: str) -> None:
        """Wait until the server has written a file.

        Raises:
            TimeoutError: it takes too long, or failed.
        """
        deadline = time.monotonic() + _REWRITE
        while time.monotonic() < deadline:
            info = self._client.info("persistence")
            if not int(info[running]) and not int(info[scheduled]):
                if info[status] != "ok":
                    raise TimeoutError(f"the server says {status}: {info[status]}")
                return
            time.sleep(_LOOK)
        raise TimeoutError(f"the server did not end it within {_REWRITE:g} seconds")


def _sum(parts: list[Forgotten], busy: list[str]) -> Forgotten:
    return Forgotten(
        sum(part.deliveries for part in parts),
        sum(part.jobs for part in parts),
        busy,
        [delivery for part in parts for delivery in part.needed],
        [lane for part in parts for lane in part.bells],
    )


def _chunks(pairs: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    return [pairs[i : i + _CHUNK] for i in range(0, len(pairs), _CHUNK)]


def _pages(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while page := list(islice(iterator, _PAGE)):
        yield page


def _flat(answer: Any) -> list[bytes]:
    """All text within an answer, whatever its shape."""
    if isinstance(answer, bytes):
        return [answer]
    if isinstance(answer, str):
        return [answer.encode()]
    if isinstance(answer, dict):
        return [text for pair in answer.items() for part in pair for text in _flat(part)]
    return [text for part in answer for text in _flat(part)] if isinstance(answer, (list, tuple, set)) else []


def _literal(text: str) -> str:
    """A prefix as SCAN's patterns take it."""
    return "".join(f"\\{c}" if c in "*?[]\\^" else c for c in text)
