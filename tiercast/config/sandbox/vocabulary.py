"""The fields that an event can have, after Voucherify's schemas, so that a wrong name is found at start.

Customer, campaign and tier: https://github.com/voucherifyio/voucherify-openapi (reference/OpenAPIWebhooks.json and
OpenAPI.json, August 2026). Tier events carry a short customer; other events may carry the whole one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

#: Anything may stand below this name.
_FREE = None

#: Nothing stands below this name: text, a number, true or false.
_LEAF: Mapping[str, Any] = {}


def _leaves(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), _LEAF)


_CUSTOMER = {
    **_leaves("id source_id name email phone description birthdate birthday created_at updated_at object"),
    "address": _leaves("city state line_1 line_2 country postal_code"),
    "summary": _FREE,
    "loyalty": _FREE,
    "referrals": _FREE,
    "assets": _FREE,
    "metadata": _FREE,
    "system_metadata": _FREE,
}

_CAMPAIGN = {
    **_leaves("id name campaign_type type is_referral_code auto_join join_once active category_id category"),
    **_leaves("start_date expiration_date description created_at updated_at object"),
    **_leaves("activity_duration_after_publishing use_voucher_metadata_schema protected vouchers_count readonly"),
    **_leaves("creation_status vouchers_generation_status winners_count"),
    **dict.fromkeys(
        [
            "access_settings_assignments",
            "categories",
            "loyalty_tiers_expiration",
            "lucky_draw",
            "metadata",
            "options",
            "promotion",
            "referral_program",
            "validation_rules_assignments",
            "validity_day_of_week",
            "validity_hours",
            "validity_timeframe",
            "voucher",
        ],
        _FREE,
    ),
}

_POINTS = _leaves("from to")

_TIER = {
    **_leaves("id name campaign_id created_at updated_at object"),
    "metadata": _FREE,
    "earning_rules": _FREE,
    "rewards": _FREE,
    "points": _POINTS,
    "config": {"points": _POINTS},
    "expiration": _leaves("customer_id campaign_id tier_id start_date expiration_date created_at updated_at"),
}

_EVENT = {
    **_leaves("id type at source"),
    "customer": _CUSTOMER,
    "campaign": _CAMPAIGN,
    "tier": _TIER,
    "previous_tier": _TIER,
    "holder_loyalty_tier": _TIER,
    "data": _FREE,
}

#: Where keys that Voucherify does not document are reached.
_OWN_KEYS = {
    "customer": "event.data.customer",
    "campaign": "event.data.campaign",
    "tier": "event.data.loyalty_tier or event.data.loyalty_tier_to",
    "previous_tier": "event.data.loyalty_tier or event.data.loyalty_tier_from",
    "holder_loyalty_tier": "event.data.holder_loyalty_tier",
}


def fault(parts: Sequence[str | int]) -> str | None:
    """Say what is wrong with `event.<parts>`, or None where an event can have it."""
    known: Mapping[str, Any] | None = _EVENT
    for index, part in enumerate(parts):
        if known is _FREE or isinstance(part, int):
            return None
        path = ".".join(["event", *map(str, parts[:index])])
        if known is _LEAF:
            return f"{path} has no parts, so there is no {path}.{part}"
        if part not in known:
            return _unknown(path, part, known, parts)
        known = known[part]
    return None


def _unknown(path: str, part: str, known: Mapping[str, Any], parts: Sequence[str | int]) -> str:
    near = ["tier"] if part.startswith("loyalty_tier") and "tier" in known else get_close_matches(part, known, 1, 0.6)
    message = f"no event has {path}.{part}"
    if near:
        message += f"; did you mean {path}.{near[0]}?"
    elif path == "event":
        message += f"; an event has {', '.join(known)}"
    own = _OWN_KEYS.get(str(parts[0]))
    if path != "event" and own:
        message += f" (Keys of your own are reached through {own}.)"
    return message
