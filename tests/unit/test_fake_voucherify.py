"""The fake Voucherify refuses what the real one refuses, and keeps what it was told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tiercast.testing.vendors import Window
from tiercast.testing.vendors.voucherify import APP_ID, APP_TOKEN, FakeVoucherify

HEADERS = {"x-app-id": APP_ID, "x-app-token": APP_TOKEN}


@pytest.fixture
def vendor() -> Iterator[FakeVoucherify]:
    with FakeVoucherify() as server:
        server.customer("cust_1", source_id="crm/1", language="en")
        server.codes["Gold gifts"] = ["G-1", "G-2"]
        yield server


def call(vendor: FakeVoucherify, method: str, path: str, json: Any = None, **headers: str) -> httpx.Response:
    return httpx.request(method, vendor.url + path, json=json, headers={**HEADERS, **headers}, timeout=10)


def publish(vendor: FakeVoucherify, source_id: str | None = "job-1", *, query: str = "", **more: Any) -> httpx.Response:
    body = {
        "campaign": {"name": "Gold gifts", "count": 1},
        "customer": {"id": "cust_1"},
        "source_id": source_id,
        **more,
    }
    return call(vendor, "POST", f"/v1/publications{query}", body)


def test_a_wrong_key_is_refused(vendor: FakeVoucherify) -> None:
    answer = call(vendor, "GET", "/v1/customers/cust_1", **{"x-app-token": "other"})
    assert (answer.status_code, answer.json()["key"]) == (401, "unauthorized")


def test_metadata_is_merged_and_null_removes(vendor: FakeVoucherify) -> None:
    answer = call(vendor, "PUT", "/v1/customers/crm%2F1", {"metadata": {"tier": "Gold", "points": 0}, "unknown": 1})
    assert answer.json()["metadata"] == {"language": "en", "tier": "Gold", "points": 0}
    call(vendor, "PUT", "/v1/customers/cust_1", {"metadata": {"tier": None}})
    assert vendor.effects()["metadata"] == {"cust_1": {"language": "en", "points": 0}}


def test_an_unknown_customer_is_not_updated_but_created_by_the_other_call(vendor: FakeVoucherify) -> None:
    answer = call(vendor, "PUT", "/v1/customers/crm-2", {"metadata": {"tier": "Gold"}})
    assert (answer.status_code, answer.json()["resource_type"]) == (404, "customer")
    created = call(vendor, "POST", "/v1/customers", {"source_id": "crm-2", "metadata": {"tier": "Gold"}}).json()
    again = call(vendor, "POST", "/v1/customers", {"source_id": "crm-2", "metadata": {"city": "Ely"}}).json()
    assert (created["id"], created["metadata"]) == (again["id"], {"tier": "Gold"})
    assert again["metadata"] == {"tier": "Gold", "city": "Ely"}


def test_a_metadata_schema_refuses_another_type_and_changes_nothing(vendor: FakeVoucherify) -> None:
    vendor.metadata_types = {"tier": str}
    answer = call(vendor, "PUT", "/v1/customers/cust_1", {"metadata": {"tier": 3, "city": "Ely"}})
    assert (answer.status_code, answer.json()["key"]) == (400, "metadata_validation_failed")
    assert call(vendor, "POST", "/v1/customers", {"source_id": "new", "metadata": {"tier": 3}}).status_code == 400
    assert vendor.effects()["metadata"] == {"cust_1": {"language": "en"}}


def test_a_publication_gives_one_code_and_a_source_id_is_used_once(vendor: FakeVoucherify) -> None:
    assert publish(vendor).json()["voucher"]["code"] == "G-1"
    again = publish(vendor)
    assert (again.status_code, again.json()["key"]) == (400, "duplicate_source_id")
    found = call(vendor, "GET", "/v1/publications?source_id=job-1").json()
    assert [one["voucher"]["code"] for one in found["publications"]] == ["G-1"]
    vendor.twins_tell = False
    assert publish(vendor).json()["voucher"]["code"] == "G-1"
    assert vendor.effects()["codes"] == {"G-1": "cust_1"}


def test_join_once_gives_the_code_that_the_customer_has(vendor: FakeVoucherify) -> None:
    publish(vendor, "job-1")
    second = publish(vendor, "job-2", query="?join_once=true").json()
    assert (second["voucher"]["code"], second["source_id"]) == ("G-1", "job-1")
    assert publish(vendor, "job-2").json()["voucher"]["code"] == "G-2"


@pytest.mark.parametrize(
    ("more", "status", "key"),
    [
        ({"campaign": {"name": "None such"}}, 404, "not_found"),
        ({"customer": {"id": "cust_9"}}, 404, "not_found"),
        ({"customer": {}}, 400, "invalid_payload"),
        ({"campaign": {}}, 400, "missing_vouchers"),
        ({"campaign": {"name": "Gold gifts", "count": 2}}, 400, "too_many_vouchers_requested"),
    ],
)
def test_publications_that_are_refused(vendor: FakeVoucherify, more: dict[str, Any], status: int, key: str) -> None:
    answer = publish(vendor, **more)
    assert (answer.status_code, answer.json()["key"]) == (status, key)
    assert not vendor.publications


def test_an_empty_campaign_is_refused_and_a_source_id_creates_a_customer(vendor: FakeVoucherify) -> None:
    publish(vendor, "job-1", customer={"source_id": "never seen"})
    publish(vendor, "job-2")
    assert publish(vendor, "job-3").json()["key"] == "no_voucher_suitable_for_publication"
    assert "never seen" in {one["source_id"] for one in vendor.customers.values()}


def test_points_are_added_once_a_call_and_show_later(vendor: FakeVoucherify) -> None:
    card = vendor.card_of("cust_1", "camp_1")
    found = call(vendor, "GET", "/v1/loyalties/camp_1/members?customer=cust_1").json()["vouchers"]
    assert [voucher["code"] for voucher in found] == [card]
    vendor.delay = 60.0
    path = f"/v1/loyalties/members/{quote(card, safe='')}"
    for _ in range(2):
        assert call(vendor, "POST", f"{path}/balance", {"points": 5, "source_id": "job"}).status_code == 200
    assert call(vendor, "POST", f"{path}/balance", {"points": "5"}).status_code == 400
    assert (vendor.points()[card], vendor.times_paid()[card]) == (10, 2)
    assert call(vendor, "GET", f"{path}/transactions").json()["data"] == []


def test_a_429_says_which_limit_and_until_when() -> None:
    with FakeVoucherify(limits={"api": (Window(1, 60.0, "api_calls"),)}) as vendor:
        vendor.customer("cust_1")
        assert call(vendor, "GET", "/v1/customers/cust_1").status_code == 200
        refused = call(vendor, "GET", "/v1/customers/cust_1")
        assert (refused.status_code, refused.headers["x-rate-limit-type"]) == (429, "api_calls")
        assert 50 < int(refused.headers["x-rate-limit-retry"]) - time.time() < 62


def test_a_plan_that_is_used_up_or_over_says_so(vendor: FakeVoucherify) -> None:
    vendor.cycle_calls = 1
    assert call(vendor, "GET", "/v1/customers/cust_1").status_code == 200
    assert call(vendor, "GET", "/v1/customers/cust_1").headers["x-rate-limit-type"] == "api_calls_cycle"
    vendor.plan_over = True
    assert call(vendor, "GET", "/v1/customers/cust_1").status_code == 402
