"""The fake Klaviyo refuses what the real one refuses, and keeps what it was told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tiercast.testing.vendors import Window
from tiercast.testing.vendors.klaviyo import KEY, FakeKlaviyo

HEADERS = {
    "authorization": f"Klaviyo-API-Key {KEY}",
    "revision": "2026-07-15",
    "content-type": "application/vnd.api+json",
}


@pytest.fixture
def vendor() -> Iterator[FakeKlaviyo]:
    with FakeKlaviyo() as server:
        yield server


def call(vendor: FakeKlaviyo, path: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(vendor.url + path, json=body, headers={**HEADERS, **headers}, timeout=10)


def profile(vendor: FakeKlaviyo, meta: Any = None, **attributes: Any) -> httpx.Response:
    data = {"type": "profile", "attributes": attributes}
    return call(vendor, "/api/profile-import", {"data": data if meta is None else {**data, "meta": meta}})


def event(vendor: FakeKlaviyo, person: dict[str, Any], **attributes: Any) -> httpx.Response:
    metric = {"data": {"type": "metric", "attributes": {"name": "Loyalty Tier Joined"}}}
    who = {"data": {"type": "profile", "attributes": person}}
    made = {"metric": metric, "profile": who, "properties": {"tier": "Gold"}, **attributes}
    return call(vendor, "/api/events", {"data": {"type": "event", "attributes": made}})


def test_a_profile_is_created_updated_and_emptied(vendor: FakeKlaviyo) -> None:
    assert profile(vendor, external_id="c1", properties={"tier": "Gold", "vip": False}).status_code == 201
    assert profile(vendor, external_id="c1", email="A@x.example", properties={"points": 0}).status_code == 200
    assert profile(vendor, {"patch_properties": {"unset": "vip"}}, email="a@x.example").status_code == 200
    assert vendor.effects()["profiles"] == {"c1": {"tier": "Gold", "points": 0}}


@pytest.mark.parametrize(
    ("attributes", "pointer"),
    [
        ({"external_id": "c1", "phone_number": "030 123456"}, "/data/attributes/phone_number"),
        ({"email": "nobody"}, "/data/attributes/email"),
        ({"external_id": "c1", "tier": "Gold"}, "/data/attributes/tier"),
        ({"external_id": "c1", "properties": {"tags": []}}, "/data/attributes/properties/tags"),
        ({"first_name": "Ada"}, "/data/attributes"),
    ],
)
def test_profiles_that_are_refused(vendor: FakeKlaviyo, attributes: dict[str, Any], pointer: str) -> None:
    answer = profile(vendor, **attributes)
    assert (answer.status_code, answer.json()["errors"][0]["source"]["pointer"]) == (400, pointer)
    assert not vendor.profiles


def test_identifiers_of_two_profiles_are_a_conflict(vendor: FakeKlaviyo) -> None:
    profile(vendor, external_id="c1")
    profile(vendor, email="a@x.example")
    answer = profile(vendor, external_id="c1", email="a@x.example")
    assert answer.status_code == 409
    assert answer.json()["errors"][0]["meta"]["duplicate_profile_id"] == vendor.profiles[1].id


def test_the_headers_are_checked(vendor: FakeKlaviyo) -> None:
    body = {"data": {"type": "profile", "attributes": {"external_id": "c1"}}}
    for change, status in (
        ({"authorization": "Bearer x"}, 401),
        ({"revision": ""}, 400),
        ({"revision": "2023-02-22"}, 410),
        ({"content-type": "text/plain"}, 415),
    ):
        assert call(vendor, "/api/profile-import", body, **change).status_code == status
    vendor.scopes.discard("profiles:write")
    assert call(vendor, "/api/profile-import", body).status_code == 403
    assert not vendor.profiles


def test_an_event_is_kept_once_by_its_unique_id(vendor: FakeKlaviyo) -> None:
    for _ in range(2):
        assert event(vendor, {"external_id": "c1"}, unique_id="job-1").status_code == 202
    assert event(vendor, {"external_id": "c1"}, unique_id="job-2").status_code == 202
    assert (len(vendor.events), vendor.sent) == (2, 3)


def test_events_without_unique_id_fall_together_within_a_second(vendor: FakeKlaviyo) -> None:
    for time in ("2026-11-01T10:00:00.100Z", "2026-11-01T10:00:00.900Z", "2026-11-01T10:00:01Z"):
        assert event(vendor, {"external_id": "c1"}, time=time).status_code == 202
    assert len(vendor.events) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"time": "yesterday"},
        {"properties": {f"p{number}": 1 for number in range(401)}},
        {"metric": {"data": {"type": "metric", "attributes": {"name": "x" * 128}}}},
        {"profile": {"data": {"type": "profile", "attributes": {"phone_number": "12"}}}},
        {"surprise": 1},
    ],
)
def test_events_that_are_refused(vendor: FakeKlaviyo, change: dict[str, Any]) -> None:
    assert event(vendor, {"external_id": "c1"}, **change).status_code == 400
    assert not vendor.events


def test_each_endpoint_has_its_own_windows() -> None:
    with FakeKlaviyo(limits={"profiles": (Window(1, 60.0),)}) as vendor:
        assert profile(vendor, external_id="c1").status_code == 201
        refused = profile(vendor, external_id="c2")
        assert refused.status_code == 429
        assert 50 < int(refused.headers["retry-after"]) <= 60
        assert event(vendor, {"external_id": "c1"}).status_code == 202


def test_a_large_profile_is_refused(vendor: FakeKlaviyo) -> None:
    assert profile(vendor, external_id="c1", properties={"text": "x" * 100_001}).status_code == 413
