"""The views of an event's parts: dicts with their keys as attributes."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping

import pytest

from tiercast.samples import sample_data, sample_event
from tiercast.views import Campaign, Customer, Points, Tier, View

UPGRADED = "customer.loyalty.tier.upgraded"


def test_keys_are_attributes_and_items() -> None:
    event = sample_event(UPGRADED, email="ines@example.com")
    assert event.customer is not None
    assert event.customer.email == event.customer["email"] == "ines@example.com"
    assert event.customer.metadata is not None
    assert event.customer.metadata.favourite == "sencha"
    assert event.campaign is not None
    assert event.campaign.name == "Tea house rewards"
    assert event.tier is not None
    assert event.previous_tier is not None
    assert (event.previous_tier.name, event.tier.name) == ("Green leaf", "Silver leaf")
    assert event.tier.points is not None
    assert (event.tier.points["from"], event.tier.points.to) == (200, 499)


def test_where_there_is_none_there_is_none() -> None:
    event = sample_event("voucher.published", customer=False)
    assert event.customer is event.campaign is event.tier is event.previous_tier is event.holder_loyalty_tier is None


def test_a_key_that_only_the_sender_knows_works_too() -> None:
    data = sample_data()
    data["customer"] |= {"vip_since": "2020", "cards": [{"code": "A"}]}
    customer = sample_event(data=data).customer
    assert customer is not None
    assert customer.vip_since == customer["vip_since"] == "2020"
    assert customer.cards == [{"code": "A"}]


def test_a_name_of_the_schema_is_none_where_it_is_absent_and_a_slip_is_an_error() -> None:
    customer = Customer({"id": "cust_1"})
    assert (customer.email, customer.metadata, customer.source_id) == (None, None, None)
    with pytest.raises(AttributeError, match="this customer has no emial"):
        _ = customer.emial
    with pytest.raises(KeyError):
        _ = customer["email"]
    assert Points({"from": 5}).to is None


def test_it_is_a_dict_in_every_way() -> None:
    event = sample_event(UPGRADED)
    customer = event.customer
    assert customer is not None
    assert isinstance(customer, dict)
    assert isinstance(customer, Mapping)
    assert customer == event.data["customer"]
    assert json.loads(json.dumps({"customer": customer, "tier": event.tier})) == {
        "customer": event.data["customer"],
        "tier": event.data["loyalty_tier_to"],
    }
    assert copy.deepcopy(customer) == customer
    assert pickle.loads(pickle.dumps(customer)) == customer  # noqa: S301 - bytes of our own
    assert {**customer} == dict(customer.items())
    assert customer.get("nothing", 7) == 7


def test_what_a_kind_changes_in_a_view_does_not_reach_the_event() -> None:
    event = sample_event()
    customer = event.customer
    assert customer is not None
    customer["email"] = "other@example.com"
    assert event.data["customer"]["email"] == "ines.okafor@example.com"


@pytest.mark.parametrize("view", [Customer, Campaign, Tier, Points, View])
def test_an_empty_one_is_false_and_bears_every_known_name(view: type[View]) -> None:
    empty = view()
    assert not empty
    assert [getattr(empty, name) for name in view.__annotations__ if not name.startswith("_")] == [None] * len(
        [name for name in view.__annotations__ if not name.startswith("_")]
    )
