"""What all schemas of the webhook have in common."""

from __future__ import annotations

from typing import Any

from marshmallow import INCLUDE, Schema

from .fields import Part


class Tolerant(Schema):
    """Unknown fields may appear at any time, by Voucherify's promise of compatibility: they are kept."""

    class Meta:
        unknown = INCLUDE

    def __init__(self) -> None:
        super().__init__()
        self._whole = Part(self)

    # fast path: marshmallow's own loading takes twice as long.
    def load(self, data: Any) -> Any:  # type: ignore[override]
        """Check an object, as a part of another is checked: marshmallow's own loading takes twice as long.

        Its options (`many`, `partial`, `unknown`) are none of ours.

        Raises:
            ValidationError: as marshmallow's own, with the path of each fault.
        """
        return self._whole.check(data)
