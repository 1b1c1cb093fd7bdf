"""The fake Braze refuses what the real one refuses, and keeps what it was told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tiercast.testing.vendors import Window
from tiercast.testing.vendors.braze import KEY, FakeBraze


@pytest.fixture
def vendor() -> Iterator[FakeBraze]:
    with FakeBraze() as server:
        yield server


def track(vendor: FakeBraze, key: str = KEY, **lists: list[Any]) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{vendor.url}/users/track", json=lists, headers=headers, timeout=10)


def event(**more: Any) -> dict[str, Any]:
    return {"external_id": "c1", "name": "tier_joined", "time": "2026-11-01T10:00:00.000Z", **more}


def test_attributes_are_kept_and_null_removes(vendor: FakeBraze) -> None:
    assert track(vendor, attributes=[{"external_id": "c1", "tier": "Gold", "vip": False}]).status_code == 201
    track(vendor, attributes=[{"external_id": "c1", "tier": None, "points": 0}])
    assert vendor.effects()["users"] == {"c1": {"vip": False, "points": 0}}
    assert vendor.attributes_counted == 4


def test_an_object_that_fails_is_named_in_a_201_and_the_others_are_in(vendor: FakeBraze) -> None:
    answer = track(
        vendor,
        attributes=[{"external_id": "c1", "tier": "Gold"}, {"tier": "Gold"}],
        events=[event(), event(time="yesterday")],
    )
    assert answer.status_code == 201
    assert [(one["input_array"], one["index"]) for one in answer.json()["errors"]] == [("attributes", 1), ("events", 1)]
    assert (answer.json()["attributes_processed"], answer.json()["events_processed"]) == (1, 1)
    assert vendor.effects()["events"] == [("c1", "tier_joined", {})]


def test_a_call_whose_objects_all_fail_is_a_400(vendor: FakeBraze) -> None:
    vendor.blocked.add("c9")
    answer = track(vendor, attributes=[{"external_id": "c9", "tier": "Gold"}])
    assert (answer.status_code, "blacklisted" in answer.json()["message"]) == (400, True)
    assert not vendor.users


@pytest.mark.parametrize(
    "lists",
    [
        {},
        {"attributes": {}},
        {"people": []},
        {"attributes": [{"external_id": f"c{n}"} for n in range(40)], "events": [event()] * 36},
    ],
)
def test_a_call_that_is_malformed_or_too_long_is_refused(vendor: FakeBraze, lists: dict[str, Any]) -> None:
    assert track(vendor, **lists).status_code == 400
    assert not vendor.users


def test_only_existing_users_are_updated_where_asked(vendor: FakeBraze) -> None:
    ghost = {"email": "a@x.example", "_update_existing_only": True, "tier": "Gold"}
    assert track(vendor, attributes=[ghost]).status_code == 201
    track(vendor, attributes=[{"user_alias": {"alias_name": "1", "alias_label": "crm"}, "tier": "Gold"}])
    assert not vendor.users
    track(vendor, attributes=[{"email": "A@x.example", "_update_existing_only": False, "tier": "Gold"}])
    assert vendor.effects()["users"] == {"a@x.example": {"tier": "Gold"}}


def test_events_are_taken_each_time(vendor: FakeBraze) -> None:
    track(vendor, events=[event()])
    track(vendor, events=[event()])
    assert len(vendor.events) == 2


def test_credentials_permissions_and_bytes_are_checked(vendor: FakeBraze) -> None:
    wrong = track(vendor, "other", attributes=[{"external_id": "c1"}])
    assert (wrong.status_code, "other" in wrong.json()["message"]) == (401, True)
    large = [{"external_id": f"c{n}", "text": "x" * 90_000} for n in range(50)]
    assert track(vendor, attributes=large).status_code == 413
    assert track(vendor, attributes=[{"external_id": "c1", "text": "x" * 100_001}]).status_code == 400
    vendor.permissions.clear()
    assert track(vendor, attributes=[{"external_id": "c1"}]).status_code == 403
    assert not vendor.users


def test_maintenance_queues(vendor: FakeBraze) -> None:
    vendor.maintenance = True
    answer = track(vendor, attributes=[{"external_id": "c1", "tier": "Gold"}])
    assert (answer.status_code, answer.json()) == (202, {"message": "queued"})
    assert vendor.users


def test_a_429_has_headers_of_its_own() -> None:
    with FakeBraze(limits={"api": (Window(1, 60.0),)}) as vendor:
        track(vendor, attributes=[{"external_id": "c1"}])
        refused = track(vendor, attributes=[{"external_id": "c2"}])
        assert (refused.status_code, "retry-after" in refused.headers) == (429, False)
        assert 50 < int(refused.headers["x-ratelimit-retry-after"]) <= 60
        assert 50 < int(refused.headers["x-ratelimit-reset"]) - time.time() < 62
