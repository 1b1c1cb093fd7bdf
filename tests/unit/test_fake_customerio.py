"""The fake Customer.io refuses what the real one refuses, and keeps what it was told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tiercast.testing.vendors import Window
from tiercast.testing.vendors.customerio import API_KEY, SITE_ID, FakeCustomerIO

ULID = "01JDBZ0000ABCDEFGHJKMNPQRS"


@pytest.fixture
def vendor() -> Iterator[FakeCustomerIO]:
    with FakeCustomerIO() as server:
        yield server


def batch(vendor: FakeCustomerIO, *entries: Any, key: str = API_KEY) -> httpx.Response:
    return httpx.post(f"{vendor.url}/api/v2/batch", json={"batch": list(entries)}, auth=(SITE_ID, key), timeout=10)


def identify(id: str = "c1", *, at: int | None = None, **attributes: Any) -> dict[str, Any]:
    made = {"type": "person", "action": "identify", "identifiers": {"id": id}, "attributes": attributes}
    return made if at is None else {**made, "timestamp": at}


def event(**more: Any) -> dict[str, Any]:
    made = {"type": "person", "action": "event", "identifiers": {"id": "c1"}, "name": "tier_joined", "id": ULID}
    return {**made, **more}


def test_people_are_kept_and_empty_removes(vendor: FakeCustomerIO) -> None:
    assert batch(vendor, identify(tier="Gold", vip=False, points=0)).json() == {}
    assert batch(vendor, identify(tier="")).status_code == 200
    assert vendor.effects()["people"] == {"c1": {"vip": False, "points": 0}}


def test_an_earlier_timestamp_does_not_undo_a_later_one(vendor: FakeCustomerIO) -> None:
    batch(vendor, identify(tier="Gold", at=1_800_000_000))
    batch(vendor, identify(tier="Silver", city="Ely", at=1_700_000_000))
    assert vendor.effects()["people"] == {"c1": {"tier": "Gold", "city": "Ely"}}


def test_entries_that_fail_are_named_by_their_place(vendor: FakeCustomerIO) -> None:
    answer = batch(vendor, identify(tier="Gold"), identify("c2", tier="x" * 1001), event(name=""))
    assert answer.status_code == 207
    assert [(one["batch_index"], one["field"]) for one in answer.json()["errors"]] == [
        (1, "attributes.tier"),
        (2, "name"),
    ]
    assert set(vendor.effects()["people"]) == {"c1"}


@pytest.mark.parametrize(
    "entry",
    [
        {**identify(), "identifiers": {"id": "c1", "email": "a@x.example"}},
        {**identify(), "identifiers": {}},
        {**identify(), "identifiers": {"id": 7}},
        {**identify(), "surprise": 1},
        {**identify(), "action": "merge"},
        {**identify(), "timestamp": 1_800_000_000_000},
        {**identify(), "timestamp": "2026-11-01"},
        {**identify(), "attributes": {f"a{n}": 1 for n in range(301)}},
        identify("x" * 151),
        {**identify(), "attributes": {f"a{n}": "x" * 999 for n in range(40)}},
        event(id="c1"),
        event(name="x" * 101),
        "person",
    ],
)
def test_a_batch_whose_entries_all_fail_is_a_400(vendor: FakeCustomerIO, entry: Any) -> None:
    answer = batch(vendor, entry)
    assert (answer.status_code, answer.json()["errors"][0]["batch_index"]) == (400, 0)
    assert not vendor.people


def test_an_event_is_kept_once_by_its_id(vendor: FakeCustomerIO) -> None:
    batch(vendor, event())
    batch(vendor, event(), event(id=ULID[:-1] + "T"))
    assert (len(vendor.events), vendor.sent) == (2, 3)


def test_an_identifier_of_another_person_changes_nothing_and_says_200(vendor: FakeCustomerIO) -> None:
    batch(vendor, identify("c1", email="a@x.example"), identify("c2", tier="Gold"))
    assert batch(vendor, identify("c2", email="a@x.example", tier="Silver")).status_code == 200
    assert vendor.effects()["people"]["c2"] == {"tier": "Gold"}


def test_credentials_and_bytes_are_checked_and_the_region_is_told(vendor: FakeCustomerIO) -> None:
    assert batch(vendor, identify(), key="other").status_code == 401
    assert batch(vendor, *[identify(f"c{n}", text="x" * 900) for n in range(600)]).status_code == 413
    region = httpx.get(f"{vendor.url}/api/v1/accounts/region", auth=(SITE_ID, API_KEY), timeout=10)
    assert region.json()["data_center"] == "us"


def test_a_429_names_no_time() -> None:
    with FakeCustomerIO(limits={"api": (Window(1, 60.0),)}) as vendor:
        batch(vendor, identify())
        refused = batch(vendor, identify())
        assert (refused.status_code, [name for name in refused.headers if "r" + "atelimit" in name]) == (429, [])
        assert "retry-after" not in refused.headers
