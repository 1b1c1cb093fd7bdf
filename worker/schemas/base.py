"""What all schemas of the webhook have in common."""

from __future__ import annotations

from marshmallow import INCLUDE, Schema


class Tolerant(Schema):
    """Unknown fields may appear at any time, by Voucherify's promise of compatibility: they are kept."""

    class Meta:
        unknown = INCLUDE
