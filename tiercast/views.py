"""The parts of an event as the author of a kind sees them: the sender's own objects, with their keys as attributes.

Each is a dict, so it can be written as JSON, looped over and searched as the sender's object can:

    job.event.customer.email         the same as job.event.customer["email"]
    job.event.customer.vip_since     a key that only you know of works too
    job.event.tier.points["from"]    `from` is a word of Python's own

A name that Voucherify's schema has is None where the event does not hold it. Any other name that the event does not
hold raises AttributeError, since it is most likely a slip. A key that is also a method of a dict (`items`, `keys`,
`values`, `get`, `copy`, `pop`, `update`, ...) is reached as an item only: `customer["items"]`.
"""

from __future__ import annotations

from typing import Any, ClassVar

Json = dict[str, Any]


class View(Json):
    """An object of the sender's, with its keys as attributes. An object within it is a View too."""

    __slots__ = ()

    #: The attributes that are None where the object does not hold them: those that the class is annotated with.
    _known: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._known = cls._known | {name for name in cls.__annotations__ if not name.startswith("_")}

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError:
            if name in self._known:
                return None
            raise AttributeError(f"this {type(self).__name__.lower()} has no {name}") from None
        return View(value) if type(value) is dict else value


class Points(View):
    """A tier's range of points. `points["from"]` is where it begins, `to` its end: None for the top tier."""

    __slots__ = ()

    to: int | None


class Customer(View):
    """Voucherify's customer. Nothing in it is required; `email` is rarely there. Times are ISO 8601."""

    __slots__ = ()

    id: str | None
    source_id: str | None
    name: str | None
    email: str | None
    phone: str | None
    description: str | None
    birthdate: str | None
    birthday: str | None
    address: View | None
    summary: View | None
    loyalty: View | None
    referrals: View | None
    metadata: View | None
    system_metadata: View | None
    created_at: str | None
    updated_at: str | None
    object: str | None


class Campaign(View):
    """Voucherify's campaign. Times are ISO 8601."""

    __slots__ = ()

    id: str | None
    name: str | None
    description: str | None
    campaign_type: str | None
    type: str | None
    active: bool | None
    category: str | None
    category_id: str | None
    start_date: str | None
    expiration_date: str | None
    metadata: View | None
    created_at: str | None
    updated_at: str | None
    object: str | None


class Tier(View):
    """A loyalty tier. Times are ISO 8601."""

    __slots__ = ()

    id: str | None
    name: str | None
    campaign_id: str | None
    points: Points | None
    config: View | None
    earning_rules: View | None
    rewards: View | None
    expiration: View | None
    metadata: View | None
    created_at: str | None
    updated_at: str | None
    object: str | None

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        return Points(value) if name == "points" and type(value) is View else value
