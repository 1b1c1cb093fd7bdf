"""Names and patterns of event types."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache

from ..event import TIER_EVENTS

#: The event types that Voucherify documents (its OpenAPI, August 2026), beside the tier events.
DOCUMENTED = (
    "business_validation_rule.assignment.created",
    "business_validation_rule.assignment.deleted",
    "business_validation_rule.created",
    "business_validation_rule.deleted",
    "business_validation_rule.updated",
    "campaign.created",
    "campaign.deleted",
    "campaign.disabled",
    "campaign.earning_rule.assigned",
    "campaign.earning_rule.deleted",
    "campaign.earning_rule.disabled",
    "campaign.earning_rule.enabled",
    "campaign.earning_rule.updated",
    "campaign.enabled",
    "campaign.loyalty_tier.created",
    "campaign.loyalty_tier.deleted",
    "campaign.loyalty_tier.updated",
    "campaign.promotion_stack.created",
    "campaign.promotion_stack.updated",
    "campaign.promotion_tier.created",
    "campaign.promotion_tier.deleted",
    "campaign.promotion_tier.disabled",
    "campaign.promotion_tier.enabled",
    "campaign.promotion_tier.updated",
    "campaign.referral_tier.created",
    "campaign.referral_tier.deleted",
    "campaign.referral_tier.updated",
    "campaign.reward.assignment.created",
    "campaign.reward.assignment.deleted",
    "campaign.reward.assignment.updated",
    "campaign.updated",
    "campaign.vouchers.added",
    "campaign.vouchers.generation.completed",
    "campaign.vouchers.generation.failed",
    "campaign.vouchers.generation.started",
    "customer.confirmed",
    "customer.created",
    "customer.custom_event",
    "customer.deleted",
    "customer.holder.assignment.created",
    "customer.holder.assignment.deleted",
    "customer.order.canceled",
    "customer.order.created",
    "customer.order.paid",
    "customer.order.updated",
    "customer.publication.succeeded",
    "customer.redemption.rollback.succeeded",
    "customer.redemption.succeeded",
    "customer.referred",
    "customer.reward_redemptions.completed",
    "customer.reward_redemptions.created",
    "customer.reward_redemptions.pending",
    "customer.rewarded",
    "customer.rewarded.loyalty_points",
    "customer.segment.entered",
    "customer.segment.left",
    "customer.updated",
    "customer.voucher.gift.balance_added",
    "customer.voucher.loyalty_card.pending_points.activated",
    "customer.voucher.loyalty_card.pending_points.added",
    "customer.voucher.loyalty_card.pending_points.canceled",
    "customer.voucher.loyalty_card.pending_points.updated",
    "customer.voucher.loyalty_card.points_added",
    "customer.voucher.loyalty_card.points_expired",
    "manual_distribution_schedule",
    "publication.succeeded",
    "redemption.failed",
    "redemption.rollback.failed",
    "redemption.rollback.succeeded",
    "redemption.succeeded",
    "voucher.created",
    "voucher.deleted",
    "voucher.disabled",
    "voucher.enabled",
    "voucher.gift.balance_added",
    "voucher.gift.transaction.created",
    "voucher.loyalty_card.pending_points.activated",
    "voucher.loyalty_card.pending_points.added",
    "voucher.loyalty_card.pending_points.canceled",
    "voucher.loyalty_card.pending_points.updated",
    "voucher.loyalty_card.points_added",
    "voucher.loyalty_card.points_expired",
    "voucher.loyalty_card.transaction.created",
    "voucher.published",
    "voucher.updated",
)

_ON = re.compile(r"[A-Za-z0-9_.*-]+")

#: How like a tier event a name is that must be a slip. `customer.loyalty.updated` is 0.82 like one, a letter left out
#: is 0.98.
_SLIP = 0.95

#: How like a known event a name is that is worth a hint.
_NEAR = 0.6


@lru_cache(maxsize=1024)
def pattern(text: str) -> re.Pattern[str]:
    """A name or pattern of `on`: `*` stands for anything.

    Each part between two stars matches where it first occurs, and is not tried anywhere else: later would leave less
    text to the parts behind it. So the time is linear in the text, however many stars there are.
    """
    first, *rest = (re.escape(part) for part in text.split("*"))
    if not rest:
        return re.compile(first)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle if part) + ".*" + last)


def event_fault(on: str) -> str | None:
    """Say what is wrong with a name or pattern of events, or None.

    Any event of Voucherify's can be named, those that are new since too; what is nearly a tier event is a slip.
    """
    if not _ON.fullmatch(on):
        return "expected an event's name, or a pattern such as customer.loyalty.tier.*"
    if any(pattern(on).fullmatch(known) for known in TIER_EVENTS):
        return None
    if whole := whole_name(on):
        return f"no event is called {on}. Did you mean {whole}?"
    known = ("customer.loyalty.tier.*",) if "*" in on else TIER_EVENTS
    near = get_close_matches(on.lower(), known, 1, _SLIP)
    return f"no tier event is called {on}. Did you mean {near[0]}?" if near else None


def event_warning(on: str) -> str | None:
    """Say of a usable name or pattern that no event that is known today has it, or None."""
    known = (*TIER_EVENTS, *DOCUMENTED)
    if any(pattern(on).fullmatch(name) for name in known):
        return None
    near = get_close_matches(on.lower(), known, 1, _NEAR)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"Voucherify documents no event {'that matches ' if '*' in on else ''}{on}.{hint}"


def whole_name(text: str) -> str | None:
    """The tier event whose name ends in this, from a dot on: `tier.joined` and `joined` are one; or None."""
    return next((name for name in TIER_EVENTS if name.endswith(f".{text}")), None)
