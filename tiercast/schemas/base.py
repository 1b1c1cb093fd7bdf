"""What all schemas of the webhook have in common."""

from __future__ import annotations

from typing import Any

from marshmallow import INCLUDE, Schema

from .fields import Note, Part

#: What marshmallow would call or obey, and our own loading does not.
_IGNORED = ("handle_error", "get_attribute", "on_bind_field", "set_class")
_IGNORED_META = ("fields", "exclude", "additional", "load_only", "dump_only", "ordered", "many", "partial")


class Tolerant(Schema):
    """Unknown fields may appear at any time, by Voucherify's promise of compatibility: they are kept."""

    class Meta:
        unknown = INCLUDE

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse what marshmallow would call and `load` does not.

        Raises:
            TypeError: the class has a hook, an override or a Meta option that would never be looked at.
        """
        super().__init_subclass__(**options)
        own = [base for base in cls.__mro__ if base not in Tolerant.__mro__]
        for name, value in ((name, value) for base in own for name, value in vars(base).items()):
            if getattr(value, "__marshmallow_hook__", None) or name in _IGNORED:
                raise TypeError(
                    f"{cls.__name__}.{name} would never be called: schemas of the webhook are checked by their fields "
                    "alone (tiercast.schemas.fields). Check it in a field of its own there."
                )
        for name in _IGNORED_META:
            if name in vars(cls.Meta):
                raise TypeError(f"{cls.__name__}.Meta.{name} would never be looked at: leave it out")

    def __init__(self) -> None:
        super().__init__()
        self._whole = Part(self)

    # fast path: marshmallow's own loading takes twice as long.
    def load(self, data: Any, *, notes: list[Note] | None = None) -> Any:  # type: ignore[override]
        """Check an object and return it, changed in place where a value counts as null or as a number.

        Marshmallow's own options (`many`, `partial`, `unknown`) are none of ours.

        Args:
            data: the object.
            notes: takes what counts as null because it is of a wrong type.

        Raises:
            ValidationError: as marshmallow's own, with the path of each fault.
        """
        self._whole.settle(data, "", [] if notes is None else notes)
        return data
