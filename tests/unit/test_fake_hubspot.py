"""The fake HubSpot refuses what the real one refuses, and keeps what it was told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tiercast.testing.vendors import Window
from tiercast.testing.vendors.hubspot import TOKEN, FakeHubSpot

UPSERT = "/crm/objects/2026-03/contacts/batch/upsert"
EVENT = {"eventName": "pe4242_tier_joined", "email": "a@x.example", "properties": {"tier": "Gold"}, "uuid": "u-1"}


@pytest.fixture
def vendor() -> Iterator[FakeHubSpot]:
    with FakeHubSpot() as server:
        yield server


def post(vendor: FakeHubSpot, path: str, body: Any, token: str = TOKEN) -> httpx.Response:
    return httpx.post(vendor.url + path, json=body, headers={"authorization": f"Bearer {token}"}, timeout=10)


def entry(id: str, trace: str | None = "t", **properties: Any) -> dict[str, Any]:
    made = {"id": id, "idProperty": "email", "properties": properties}
    return made if trace is None else {**made, "objectWriteTraceId": trace}


def upsert(vendor: FakeHubSpot, *inputs: Any, path: str = UPSERT) -> httpx.Response:
    return post(vendor, path, {"inputs": list(inputs)})


def test_contacts_are_created_and_updated(vendor: FakeHubSpot) -> None:
    first = upsert(vendor, entry("A@x.example", "1", loyalty_tier="Gold", loyalty_points="0")).json()["results"]
    second = upsert(vendor, entry("a@x.example", "2", loyalty_tier="")).json()["results"]
    assert [(one["id"], one["new"], one["objectWriteTraceId"]) for one in first + second] == [
        ("101", True, "1"),
        ("101", False, "2"),
    ]
    assert vendor.effects()["contacts"] == {"a@x.example": {"loyalty_tier": "", "loyalty_points": "0"}}


@pytest.mark.parametrize("bad", [{"nope": "1"}, {"loyalty_points": "many"}, {"loyalty_since": "1.2.2026"}])
@pytest.mark.parametrize(("version", "status"), [("2026-03", 207), ("2026-09", 200)])
def test_an_item_that_fails_leaves_the_others(
    vendor: FakeHubSpot, bad: dict[str, str], version: str, status: int
) -> None:
    good, wrong = entry("a@x.example", "1", loyalty_tier="Gold"), entry("b@x.example", "2", **bad)
    answer = upsert(vendor, good, wrong, path=UPSERT.replace("2026-03", version))
    assert (answer.status_code, answer.json()["numErrors"]) == (status, 1)
    assert answer.json()["errors"][0]["context"] == {"objectWriteTraceId": ["2"]}
    assert set(vendor.contacts) == {"a@x.example"}


@pytest.mark.parametrize(
    "inputs",
    [
        [{**entry("x"), "id": 7}],
        [entry("a@x.example", loyalty_tier=None)],
        [entry("a@x.example", loyalty_points=7)],
        [{**entry("a@x.example"), "surprise": 1}],
        [entry("a@x.example"), entry("A@x.example ")],
        [{**entry("a@x.example"), "idProperty": "loyalty_tier"}],
        [entry(f"a{number}@x.example") for number in range(101)],
        [entry("a@x.example", None), entry("b@x.example", None, nope="1")],
        [],
    ],
)
def test_a_call_that_is_malformed_is_refused_whole(vendor: FakeHubSpot, inputs: list[Any]) -> None:
    assert upsert(vendor, *inputs).status_code == 400
    assert not vendor.contacts


def test_credentials_scopes_and_versions_are_checked(vendor: FakeHubSpot) -> None:
    assert post(vendor, UPSERT, {"inputs": [entry("a@x.example")]}, token="other").status_code == 401
    assert upsert(vendor, entry("a@x.example"), path=UPSERT.replace("2026-03", "2024-09")).status_code == 404
    vendor.scopes.clear()
    assert upsert(vendor, entry("a@x.example")).status_code == 403
    details = httpx.get(f"{vendor.url}/account-info/2026-03/details", headers={"authorization": f"Bearer {TOKEN}"})
    assert details.json()["portalId"] == 4242


def test_a_conflict_refuses_the_whole_call(vendor: FakeHubSpot) -> None:
    vendor.conflicts.add("b@x.example")
    assert upsert(vendor, entry("a@x.example"), entry("b@x.example", "2")).status_code == 409
    assert not vendor.contacts


def test_a_429_names_its_policy_and_no_time() -> None:
    windows = (Window(2, 60.0, "TEN_SECONDLY_ROLLING"), Window(2, 86_400.0, "DAILY"))
    with FakeHubSpot(limits={"api": windows}) as vendor:
        for name in "abc":
            answer = upsert(vendor, entry(f"{name}@x.example"))
        assert (answer.status_code, answer.json()["policyName"]) == (429, "TEN_SECONDLY_ROLLING")
        assert "retry-after" not in answer.headers
        assert len(vendor.contacts) == 2


def test_an_event_is_taken_once_by_its_uuid(vendor: FakeHubSpot) -> None:
    assert post(vendor, "/events/2026-03/send", EVENT).status_code == 204
    assert post(vendor, "/events/2026-03/send", EVENT).status_code == 409
    vendor.twin_status = 400
    assert post(vendor, "/events/2026-03/send", EVENT).status_code == 400
    assert vendor.effects()["events"] == [("a@x.example", "pe4242_tier_joined", {"tier": "Gold"})]


@pytest.mark.parametrize(
    "change",
    [
        {"eventName": "pe4242_other"},
        {"properties": {"nope": 1}},
        {"email": "nobody"},
        {"email": ""},
        {"occurredAt": "yesterday"},
        {"surprise": 1},
    ],
)
def test_events_that_are_refused(vendor: FakeHubSpot, change: dict[str, Any]) -> None:
    assert post(vendor, "/events/2026-03/send", EVENT | change).status_code == 400
    assert not vendor.events
