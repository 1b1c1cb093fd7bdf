"""Every table of the history, documented in one place.

```text
delivery_class 1 --- n delivery 1 --- n job 1 --- n attempt
               customer 1 --- n     job_class 1 --- n
customer 1 --- n customer_name
```

A class is what many rows have in common and what filters choose by: the state, source, type, campaign and tier of
deliveries; of jobs also the action and the error pattern. There are few classes, each counts its rows, and one index
leads from a class to its rows by time. So any combination of these filters is answered by looking at the classes
first: the number is a sum of their counts, and a page is merged from their newest rows, whatever the history's size.

Ids of deliveries are UUIDv7 and tell when they arrived, so no table has a column of that. Other times are milliseconds
since 1970. Customers are there by keyed digests only, and what an operator may read of them is in the body.

The views `deliveries` and `jobs` join everything for people who ask by SQL (docs/history.md).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

#: The revision of the migrations that makes these tables. A process asks for it at start, without loading Alembic.
REVISION = "0001"

#: A term that stands for "none", so that no class has an empty column and all can be told apart.
NONE = 0


class DeliveryId(sa.types.TypeDecorator[str]):
    """A UUID: 16 bytes in SQLite, `uuid` in PostgreSQL, its text of 36 characters in Python."""

    impl = sa.LargeBinary(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The database's own type."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=False))
        return dialect.type_descriptor(sa.LargeBinary(16))

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> Any:
        """From Python."""
        if value is None or dialect.name == "postgresql":
            return value
        return to_bytes(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str | None:
        """To Python."""
        if value is None or dialect.name == "postgresql":
            return None if value is None else str(value)
        return from_bytes(value)


def to_bytes(delivery: str) -> bytes:
    """The 16 bytes of a delivery's id."""
    return bytes.fromhex(delivery.replace("-", ""))


def from_bytes(value: bytes) -> str:
    """A delivery's id from its 16 bytes."""
    return str(UUID(bytes=value))


#: Text that is compared byte by byte, so that a part of it finds the rest through an index.
BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

metadata = sa.MetaData()

#: Which history this is. One row.
#: `id` is made with the tables. `ledger` is the id of the ledger that belongs to it, NULL until one is bound.
identity = sa.Table(
    "identity",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("ledger", sa.Text),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)

#: Text that many rows share. `kind` is source, project, type, action, actions, campaign, tier or error.
#: `code` is the text; of a campaign or tier its id, and `name` its name. Term 0 is none. Terms are never removed.
term = sa.Table(
    "term",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False, server_default=""),
    sa.UniqueConstraint("kind", "code", "name"),
)

#: What deliveries have in common, and how many there are. All but `state` and `rows` are terms.
#: `actions` is a term of all their actions' names, separated by spaces; `error` is the pattern of the reason of those
#: that are quarantined.
delivery_class = sa.Table(
    "delivery_class",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("source", sa.Integer, nullable=False),
    sa.Column("type", sa.Integer, nullable=False),
    sa.Column("campaign", sa.Integer, nullable=False),
    sa.Column("tier", sa.Integer, nullable=False),
    sa.Column("actions", sa.Integer, nullable=False),
    sa.Column("error", sa.Integer, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False, server_default="0"),
    sa.UniqueConstraint("state", "source", "type", "campaign", "tier", "actions", "error"),
)

#: What jobs have in common, and how many there are. All but `state` and `rows` are terms.
#: `error` is the pattern of the text of those that are not done.
job_class = sa.Table(
    "job_class",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("action", sa.Integer, nullable=False),
    sa.Column("source", sa.Integer, nullable=False),
    sa.Column("type", sa.Integer, nullable=False),
    sa.Column("campaign", sa.Integer, nullable=False),
    sa.Column("tier", sa.Integer, nullable=False),
    sa.Column("error", sa.Integer, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False, server_default="0"),
    sa.UniqueConstraint("state", "action", "source", "type", "campaign", "tier", "error"),
)

#: A customer as deliveries tell them: keyed digests of all names, the strongest first, separated by spaces.
#: One whose email has changed has two rows with the same first digest.
customer = sa.Table(
    "customer",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("names", sa.Text, nullable=False, unique=True),
)

#: From each digest to the customers that have it; `strongest` marks the first one.
customer_name = sa.Table(
    "customer_name",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("customer", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("strongest", sa.Boolean, nullable=False),
    sqlite_with_rowid=False,
)

#: One settled delivery.
#: `round` is how often it was brought back into the ledger. `happened` is `at` of the event, where it is not
#: `created_us` in ISO 8601. `rules` is as `rule_outcomes.encode` gives it. `names` lists its jobs in the order of the
#: rules, where they are not the actions of its class. `operation` is the last one that touched it. `body` is
#: compressed (`bodies.py`), NULL where it was removed.
delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("id", DeliveryId, primary_key=True),
    sa.Column("class", sa.Integer, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("event_id", BYTEWISE),
    sa.Column("customer", sa.Integer),
    sa.Column("project", sa.Integer, nullable=False),
    sa.Column("settled_ms", sa.BigInteger, nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("happened", sa.Text),
    sa.Column("form", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("rules", sa.Text),
    sa.Column("first", DeliveryId),
    sa.Column("names", sa.Text),
    sa.Column("operation", sa.Text),
    sa.Column("body", sa.LargeBinary),
    sa.Index("delivery_class_id", "class", "id"),
    sa.Index("delivery_customer", "customer", "id"),
    sa.Index("delivery_event", "event_id"),
    sqlite_with_rowid=False,
)
sa.Index(
    "delivery_operation",
    delivery.c.operation,
    delivery.c.id,
    sqlite_where=delivery.c.operation.is_not(None),
    postgresql_where=delivery.c.operation.is_not(None),
)

#: One settled job. Its key is `<source>:<event id>:<action>`, with `:r2` behind it where `again` is 2.
#: `place` is where it stands among the jobs of its delivery. `round` is how often it was brought back into the ledger.
#: `before` counts attempts before the last retry. `text` is the result of one that is done, else the error or reason.
#: `maybe_ms` says since when an effect is possible, `failing_ms` when it first failed by itself. `order_group` and
#: `once_group` are digests, `group_place` what the ledger sorts a group by. `planned` is false where no retry can help.
job = sa.Table(
    "job",
    metadata,
    sa.Column("delivery", DeliveryId, primary_key=True),
    sa.Column("action", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("again", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("class", sa.Integer, nullable=False),
    sa.Column("place", sa.SmallInteger, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("before", sa.Integer, nullable=False),
    sa.Column("planned", sa.Boolean, nullable=False),
    sa.Column("unordered", sa.Boolean, nullable=False),
    sa.Column("maybe_ms", sa.BigInteger),
    sa.Column("failing_ms", sa.BigInteger),
    sa.Column("text", sa.Text),
    sa.Column("order_group", sa.Text),
    sa.Column("once_group", sa.Text),
    sa.Column("group_place", sa.Text),
    sa.Column("operation", sa.Text),
    sa.Index("job_class_delivery", "class", "delivery"),
    sqlite_with_rowid=False,
)
sa.Index(
    "job_operation",
    job.c.operation,
    job.c.delivery,
    sqlite_where=job.c.operation.is_not(None),
    postgresql_where=job.c.operation.is_not(None),
)

#: One try of a job: of those with many tries the first and the last 20. `error` is NULL of one that was done and of one
#: whose error is its job's text.
attempt = sa.Table(
    "attempt",
    metadata,
    sa.Column("delivery", DeliveryId, primary_key=True),
    sa.Column("action", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("again", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("duration_ms", sa.Integer, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sqlite_with_rowid=False,
)

#: Digests of the names of forgotten customers: nothing of theirs is filed.
forgotten = sa.Table(
    "forgotten",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

#: How much was filed and removed in each hour (`hour_ms` is its begin), for growth and reach.
hour = sa.Table(
    "hour",
    metadata,
    sa.Column("hour_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("filed", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("removed", sa.BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
