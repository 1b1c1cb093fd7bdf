"""The first tables."""

from __future__ import annotations

import time
import uuid

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

_ID = sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
_BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_MS = sa.BigInteger

#: A delivery's arrival in milliseconds: the first 48 bits of its id.
_RECEIVED = {
    "sqlite": "({})".format(
        " + ".join(
            f"((instr('0123456789ABCDEF', substr(hex(d.id), {i + 1}, 1)) - 1) << {4 * (11 - i)})" for i in range(12)
        )
    ),
    "postgresql": "('x' || substr(replace(d.id::text, '-', ''), 1, 12))::bit(48)::bigint",
}
_MOMENT = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', ({}) / 1000.0, 'unixepoch')",
    "postgresql": "to_timestamp(({}) / 1000.0)",
}
_ID_TEXT = {
    "sqlite": "lower(substr(hex({0}), 1, 8) || '-' || substr(hex({0}), 9, 4) || '-' || substr(hex({0}), 13, 4) || '-' "
    "|| substr(hex({0}), 17, 4) || '-' || substr(hex({0}), 21))",
    "postgresql": "{0}::text",
}


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "identity",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("ledger", sa.Text),
        sa.Column("created_ms", _MS, nullable=False),
    )
    op.create_table(
        "term",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False, server_default=""),
        sa.UniqueConstraint("kind", "code", "name"),
    )
    _class("delivery_class", ["state"], ["source", "type", "campaign", "tier", "actions", "error"])
    _class("job_class", ["state"], ["action", "source", "type", "campaign", "tier", "error"])
    op.create_table(
        "customer",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("names", sa.Text, nullable=False, unique=True),
    )
    op.create_table(
        "customer_name",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("customer", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("strongest", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    _delivery()
    _job()
    op.create_table(
        "forgotten",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("at_ms", _MS, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hour",
        sa.Column("hour_ms", _MS, primary_key=True, autoincrement=False),
        sa.Column("filed", _MS, nullable=False, server_default="0"),
        sa.Column("removed", _MS, nullable=False, server_default="0"),
        sqlite_with_rowid=False,
    )
    _seed()
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        # Bodies are compressed already.
        op.execute("ALTER TABLE delivery ALTER COLUMN body SET STORAGE EXTERNAL")
    _views(dialect)


def _class(name: str, texts: list[str], terms: list[str]) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(column, sa.Text, nullable=False) for column in texts),
        *(sa.Column(column, sa.Integer, nullable=False) for column in terms),
        sa.Column("rows", sa.BigInteger, nullable=False, server_default="0"),
        sa.UniqueConstraint(*texts, *terms),
    )


def _delivery() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("class", sa.Integer, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("event_id", _BYTEWISE),
        sa.Column("customer", sa.Integer),
        sa.Column("project", sa.Integer, nullable=False),
        sa.Column("settled_ms", _MS, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("happened", sa.Text),
        sa.Column("form", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("rules", sa.Text),
        sa.Column("first", _ID),
        sa.Column("names", sa.Text),
        sa.Column("operation", sa.Text),
        sa.Column("body", sa.LargeBinary),
        sqlite_with_rowid=False,
    )
    op.create_index("delivery_class_id", "delivery", ["class", "id"])
    op.create_index("delivery_customer", "delivery", ["customer", "id"])
    op.create_index("delivery_event", "delivery", ["event_id"])
    _operation_index("delivery", "id")


def _job() -> None:
    op.create_table(
        "job",
        sa.Column("delivery", _ID, primary_key=True),
        sa.Column("action", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("again", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("class", sa.Integer, nullable=False),
        sa.Column("place", sa.SmallInteger, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("changed_ms", _MS, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("before", sa.Integer, nullable=False),
        sa.Column("planned", sa.Boolean, nullable=False),
        sa.Column("unordered", sa.Boolean, nullable=False),
        sa.Column("maybe_ms", _MS),
        sa.Column("failing_ms", _MS),
        sa.Column("text", sa.Text),
        sa.Column("order_group", sa.Text),
        sa.Column("once_group", sa.Text),
        sa.Column("group_place", sa.Text),
        sa.Column("operation", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_index("job_class_delivery", "job", ["class", "delivery"])
    _operation_index("job", "delivery")
    op.create_table(
        "attempt",
        sa.Column("delivery", _ID, primary_key=True),
        sa.Column("action", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("again", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("started_ms", _MS, nullable=False),
        sa.Column("duration_ms", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sqlite_with_rowid=False,
    )


def _operation_index(table: str, delivery: str) -> None:
    where = sa.text("operation IS NOT NULL")
    op.create_index(f"{table}_operation", table, ["operation", delivery], sqlite_where=where, postgresql_where=where)


def _seed() -> None:
    identity = sa.table("identity", sa.column("id"), sa.column("created_ms"))
    term = sa.table("term", sa.column("id"), sa.column("kind"), sa.column("code"))
    op.execute(identity.insert().values(id=str(uuid.uuid4()), created_ms=round(time.time() * 1000)))
    op.execute(term.insert().values(id=0, kind="none", code=""))


def _views(dialect: str) -> None:
    """What people read by SQL: everything by its name."""
    received, moment, id_text = _RECEIVED[dialect], _MOMENT[dialect].format, _ID_TEXT[dialect].format
    op.get_bind().exec_driver_sql(f"""
        CREATE VIEW deliveries AS
        SELECT {id_text("d.id")} AS id, c.state, source.code AS source, type.code AS type, d.event_id,
          {moment(received)} AS received_at, {moment("d.settled_ms")} AS settled_at,
          campaign.code AS campaign_id, campaign.name AS campaign, tier.code AS tier_id, tier.name AS tier,
          actions.code AS actions, d.reason, error.code AS error_pattern, {id_text("d.first")} AS first,
          project.code AS project, d.round, d.operation, d.id AS key
        FROM delivery d JOIN delivery_class c ON c.id = d.class
          JOIN term source ON source.id = c.source JOIN term type ON type.id = c.type
          JOIN term campaign ON campaign.id = c.campaign JOIN term tier ON tier.id = c.tier
          JOIN term actions ON actions.id = c.actions JOIN term error ON error.id = c.error
          JOIN term project ON project.id = d.project
    """)  # noqa: S608
    op.get_bind().exec_driver_sql(f"""
        CREATE VIEW jobs AS
        SELECT source.code || ':' || d.event_id || ':' || action.code
            || CASE WHEN j.again > 1 THEN ':r' || j.again ELSE '' END AS key,
          c.state, action.code AS action, j.attempts, j.text, error.code AS error_pattern,
          {moment("j.changed_ms")} AS changed_at, {moment(received)} AS received_at,
          {id_text("d.id")} AS delivery, source.code AS source, type.code AS type, d.event_id,
          campaign.code AS campaign_id, campaign.name AS campaign, tier.code AS tier_id, tier.name AS tier,
          j.round, j.operation, d.id AS delivery_key, j.action AS action_key, j.again
        FROM job j JOIN delivery d ON d.id = j.delivery JOIN job_class c ON c.id = j.class
          JOIN term action ON action.id = c.action JOIN term source ON source.id = c.source
          JOIN term type ON type.id = c.type JOIN term campaign ON campaign.id = c.campaign
          JOIN term tier ON tier.id = c.tier JOIN term error ON error.id = c.error
    """)  # noqa: S608
