"""The webhook as a Flask user would declare it with marshmallow: as many fields as ours, nested as usual."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from marshmallow import INCLUDE, Schema, fields

from bench.effects import secret


class _Open(Schema):
    class Meta:
        unknown = INCLUDE


class Customer(_Open):
    id = fields.String(required=True)
    name = fields.String(allow_none=True)
    email = fields.String(allow_none=True)
    source_id = fields.String(allow_none=True)
    metadata = fields.Dict(allow_none=True)


class Campaign(_Open):
    id = fields.String(required=True)
    name = fields.String(allow_none=True)
    metadata = fields.Dict(allow_none=True)


class Points(_Open):
    to = fields.Integer()


class Tier(_Open):
    id = fields.String(required=True)
    name = fields.String(allow_none=True)
    campaign_id = fields.String()
    metadata = fields.Dict(allow_none=True)
    created_at = fields.AwareDateTime(format="iso")
    points = fields.Nested(Points(), allow_none=True)


class Data(_Open):
    customer = fields.Nested(Customer(), allow_none=True)
    campaign = fields.Nested(Campaign(), allow_none=True)
    loyalty_tier = fields.Nested(Tier(), allow_none=True)
    created_at = fields.AwareDateTime(format="iso")


class Fact(_Open):
    id = fields.String(required=True)
    type = fields.String(required=True)
    created_at = fields.AwareDateTime(format="iso")


class Envelope(_Open):
    id = fields.String()
    data = fields.Nested(Data(), required=True)
    event = fields.Nested(Fact(), required=True)


_ENVELOPE = Envelope()


def authentic(body: bytes, signature: str) -> bool:
    """Whether the signature is that of the raw bytes."""
    return hmac.compare_digest(hmac.new(secret(), body, hashlib.sha256).hexdigest(), signature)


def read(body: str) -> dict[str, Any]:
    """Validate a webhook; returns what its actions need of it."""
    found = _ENVELOPE.load(json.loads(body))
    data = found["data"]
    customer, tier = data["customer"] or {}, data["loyalty_tier"] or {}
    return {
        "id": found["event"]["id"],
        "type": found["event"]["type"],
        "customer": {name: customer.get(name) for name in ("id", "name", "email", "source_id")},
        "campaign": (data["campaign"] or {}).get("name"),
        "tier": {"id": tier.get("id"), "name": tier.get("name")},
    }
