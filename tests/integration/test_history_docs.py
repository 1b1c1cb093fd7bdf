"""The queries of docs/history.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.histories import a_delivery, a_job, delivery_id, sql
from tiercast.history.store import History

PAGE = (Path(__file__).parents[2] / "docs" / "history.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


def test_there_are_ten_of_them() -> None:
    assert len(QUERIES) >= 10


@pytest.fixture
def told(history: History) -> History:
    """A history in which each query finds something."""
    mail = a_job(1, "welcome-email", state="dead", text="answered 404 for 17", operation="op_1")
    history.file(
        [
            a_delivery(1, mail, a_job(1, "crm", operation="op_1")),
            a_delivery(2, state="duplicate", event_id="evcus_0001", first=delivery_id(1)),
            a_delivery(3, state="ignored"),
            a_delivery(4, state="quarantined", reason="no JSON at character 7", event_id=None, type=None),
        ]
    )
    return history


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_a_query_finds_something(told: History, query: str) -> None:
    with sql(told.address) as connection:
        rows = connection.exec_driver_sql(query.strip().rstrip(";")).all()
    assert rows
    assert all(value is not None for value in rows[0][:2])


def test_what_the_queries_tell(told: History) -> None:
    def first_of(beginning: str) -> tuple[object, ...]:
        query = next(query for query in QUERIES if query.startswith(beginning))
        with sql(told.address) as connection:
            return tuple(connection.exec_driver_sql(query.strip().rstrip(";")).all()[0])

    assert first_of("SELECT action.code AS action, error.code") == ("welcome-email", "answered 404 for <n>", 1)
    assert first_of("SELECT a.number")[3:] == ("dead", "answered 404 for 17")
    assert first_of("SELECT received_at, key")[1] == "voucherify:evcus_0001:welcome-email"
    assert first_of("SELECT type.code AS type, sum")[1] == 1
