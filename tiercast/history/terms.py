"""Terms and classes by their ids: what many rows share is stored once, and what is new is added first.

Both are added in a transaction of their own before that of the rows. A term without rows does no harm, and neither is
ever removed, so a process can remember their ids for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa

from . import tables
from .bulk import add_rows
from .engine import WRITES

#: Terms of one kind that are told apart; what comes after those counts as "(others)". It bounds the classes, should a
#: vendor's errors or a sender's campaigns differ without end.
MAX_TERMS = 10_000
OTHERS = "(others)"

#: Values in one statement.
_CHUNK = 500


class DeliveryClass(NamedTuple):
    """What deliveries have in common; empty stands for none."""

    state: str
    source: str
    type: str
    campaign_id: str
    campaign: str
    tier_id: str
    tier: str
    actions: str
    error: str


class JobClass(NamedTuple):
    """What jobs have in common; empty stands for none."""

    state: str
    action: str
    source: str
    type: str
    campaign_id: str
    campaign: str
    tier_id: str
    tier: str
    error: str


#: Kind, code and name of a term.
_Term = tuple[str, str, str]
_Ids = tuple[Any, ...]


class Terms:
    """Ids of terms and classes, remembered by this process. Not for two threads at once."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._terms: dict[_Term, int] = {}
        self.deliveries: dict[DeliveryClass, int] = {}
        self.jobs: dict[JobClass, int] = {}
        self.actions: dict[str, int] = {}
        self.projects: dict[str, int] = {"": tables.NONE}

    def learn(
        self,
        deliveries: Iterable[DeliveryClass],
        jobs: Iterable[JobClass],
        projects: Iterable[str],
    ) -> None:
        """Find out the ids of all these, and of the jobs' actions, and add what is not there yet."""
        new_deliveries = set(deliveries) - self.deliveries.keys()
        new_jobs = set(jobs) - self.jobs.keys()
        new_projects = set(projects) - self.projects.keys()
        if not (new_deliveries or new_jobs or new_projects):
            return
        named = {("project", project, "") for project in new_projects}
        for of in new_deliveries:
            named.update(_terms_of(of))
        for job in new_jobs:
            named.update(_terms_of(job))
        with self._engine.connect().execution_options(**WRITES) as connection, connection.begin():
            found = _Found(connection)
            terms = self._terms | found.terms(named - self._terms.keys())
            deliveries_found = found.classes(tables.delivery_class, new_deliveries, lambda of: _ids_of(of, terms))
            jobs_found = found.classes(tables.job_class, new_jobs, lambda of: _ids_of(of, terms))
        # Only what is committed is remembered.
        self._terms = terms
        self.deliveries |= deliveries_found
        self.jobs |= jobs_found
        self.actions |= {job.action: terms["action", job.action, ""] for job in new_jobs}
        self.projects |= {project: terms["project", project, ""] for project in new_projects}


def _columns_of(of: DeliveryClass | JobClass) -> list[_Term]:
    """The terms of a class, in the order of its table's columns."""
    source, kind = ("source", of.source, ""), ("type", of.type, "")
    campaign, tier = ("campaign", of.campaign_id, of.campaign), ("tier", of.tier_id, of.tier)
    error = ("error", of.error, "")
    if isinstance(of, JobClass):
        return [("action", of.action, ""), source, kind, campaign, tier, error]
    return [source, kind, campaign, tier, ("actions", of.actions, ""), error]


def _terms_of(of: DeliveryClass | JobClass) -> Iterable[_Term]:
    return (term for term in _columns_of(of) if term[1] or term[2])


def _ids_of(of: DeliveryClass | JobClass, terms: dict[_Term, int]) -> _Ids:
    return (of.state, *(terms[term] if term[1] or term[2] else tables.NONE for term in _columns_of(of)))


class _Found:
    """Looks up and adds, in one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def terms(self, wanted: Collection[_Term]) -> dict[_Term, int]:
        table = tables.term
        columns = (table.c.kind, table.c.code, table.c.name)
        ids = self._ids(table, columns, wanted)
        missing = [term for term in wanted if term not in ids]
        if missing:
            room = self._room({kind for kind, _, _ in missing})
            added: dict[_Term, _Term] = {}
            for term in missing:
                kind = term[0]
                room[kind] -= 1
                added[term] = term if room[kind] >= 0 else (kind, OTHERS, "")
            add_rows(self._connection, table, columns, sorted(set(added.values())))
            new = self._ids(table, columns, set(added.values()))
            ids |= {term: new[stored] for term, stored in added.items()}
        return ids

    def classes(self, table: sa.Table, wanted: Collection[Any], ids_of: Callable[[Any], _Ids]) -> dict[Any, int]:
        columns = tuple(column for column in table.c if column.name not in {"id", "rows"})
        keys = {each: ids_of(each) for each in wanted}
        ids = self._ids(table, columns, set(keys.values()))
        missing = sorted(key for key in set(keys.values()) if key not in ids)
        if missing:
            add_rows(self._connection, table, columns, missing)
            ids |= self._ids(table, columns, missing)
        return {each: ids[key] for each, key in keys.items()}

    def _room(self, kinds: set[str]) -> dict[str, int]:
        table = tables.term
        counted = self._connection.execute(
            sa.select(table.c.kind, sa.func.count()).where(table.c.kind.in_(kinds)).group_by(table.c.kind)
        )
        return dict.fromkeys(kinds, MAX_TERMS) | {kind: MAX_TERMS - count for kind, count in counted}

    def _ids(self, table: sa.Table, columns: tuple[sa.Column[Any], ...], keys: Collection[_Ids]) -> dict[Any, int]:
        found: dict[_Ids, int] = {}
        listed = sorted(keys)
        for i in range(0, len(listed), _CHUNK):
            wanted = sa.tuple_(*columns).in_(listed[i : i + _CHUNK])
            rows = self._connection.execute(sa.select(table.c.id, *columns).where(wanted))
            found |= {tuple(row[1:]): row[0] for row in rows}
        return found
