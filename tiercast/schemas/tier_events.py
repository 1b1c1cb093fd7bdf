"""The `data` of the five tier events, typed down to the points.

After Voucherify's OpenAPI of its webhooks (August 2026):
https://github.com/voucherifyio/voucherify-openapi (reference/OpenAPIWebhooks.json)
Customer, campaign and every tier are nullable; the top tier has no `points.to`. They, their ids and `created_at`
decide; the rest is forgiving, since nothing but a template of yours depends on it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from marshmallow.fields import Field

from .base import Tolerant
from .fields import MapOf, Moment, Number, Object, Part, Reference, SourceId, Text, Time, Whole


class Customer(Tolerant):
    """Nothing in it is required; `email` is rarely there."""

    id = Reference()
    name = Text()
    email = Text()
    source_id = SourceId()
    metadata = Object()
    object = Text()


class Campaign(Tolerant):
    """What we use of a campaign; the rest (voucher, dates, category) is kept as it is."""

    id = Reference()
    name = Text()
    campaign_type = Text()
    type = Text()
    metadata = Object()
    object = Text()


class PointsMapping(Tolerant):
    """How a tier changes an earning rule or reward: `MULTIPLY` with `multiplier`, `CUSTOM` with `points`."""

    type = Text()
    multiplier = Number()
    points = Whole()


class PointsRange(Tolerant):
    """The tier's range of points; `from` can be 0."""

    to = Whole()

    class Meta(Tolerant.Meta):
        # `from` is a word of Python's own, so it cannot be declared as a class attribute.
        include: ClassVar[dict[str, Field[Any]]] = {"from": Whole()}


class TierConfig(Tolerant):
    """`config` repeats the range."""

    points = Part(PointsRange())


class Expiration(Tolerant):
    """When the customer's tier starts and ends."""

    customer_id = Text()
    campaign_id = Text()
    tier_id = Text()
    start_date = Text()
    expiration_date = Text()
    created_at = Time()
    updated_at = Time()


class Tier(Tolerant):
    """A loyalty tier."""

    id = Reference()
    name = Text()
    campaign_id = Text()
    metadata = Object()
    created_at = Time()
    updated_at = Time()
    earning_rules = MapOf(PointsMapping())
    rewards = MapOf(PointsMapping())
    points = Part(PointsRange())
    config = Part(TierConfig())
    expiration = Part(Expiration())
    object = Text()


class _TierEvent(Tolerant):
    customer = Part(Customer(), decides=True)
    campaign = Part(Campaign(), decides=True)
    created_at = Moment()


class OneTier(_TierEvent):
    """`data` of joined, left and prolonged."""

    loyalty_tier = Part(Tier(), decides=True)


class TwoTiers(_TierEvent):
    """`data` of upgraded and downgraded."""

    loyalty_tier_from = Part(Tier(), decides=True)
    loyalty_tier_to = Part(Tier(), decides=True)
