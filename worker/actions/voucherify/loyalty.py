"""The calls of Voucherify's loyalty API: a customer's cards, their balance, their transactions.

https://docs.voucherify.io/api-reference/loyalties (members, balance, card transactions); its OpenAPI of August 2026.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from tiercast.actions import RetryLater
from tiercast.event import Event
from tiercast.outbound import Deadline, personal_values

from .api import Api, segment

_BASE = "/v1/loyalties"

#: The most that a page of transactions can hold.
_PAGE = 100

#: Answers to a balance call after which the points may have been added: a gateway gives up on what goes on behind it.
_UNSURE = frozenset({408, *range(500, 600)})

#: A page of 100 transactions with the orders, events and rules that they tell of.
_MAX_ANSWER = 8 * 1024 * 1024


class Loyalty:
    """Speaks for one attempt of one job: every call ends by the same deadline.

    Args:
        api: of the kind.
        deadline: of the attempt.
        event: the job's; no message repeats what it says of its customer, nor the codes of the cards.
    """

    def __init__(self, api: Api, *, deadline: Deadline, event: Event) -> None:
        self._api = api
        self._deadline = deadline
        self._hidden = _Hidden(event)

    async def cards(self, campaign: str, customer: str) -> list[str]:
        """The codes of the customer's cards in a campaign; id or name of it, id or source id of the customer."""
        path = f"/{segment(campaign)}/members"
        page = await self._read(path, {"customer": customer, "limit": str(_PAGE)})
        codes = [item.get("code") for item in _items(page, "vouchers")]
        found = [code for code in dict.fromkeys(codes) if isinstance(code, str) and code]
        self._hidden.codes += found
        return found

    async def transactions(self, card: str) -> AsyncIterator[Mapping[str, Any]]:
        """All transactions of a card, a page at a time.

        Raises:
            RetryLater: there are more than can be read in the time that is left.
        """
        query = {"limit": str(_PAGE), "order": "-id"}
        while True:
            page = await self._read(f"/members/{segment(card)}/transactions", query)
            items = _items(page, "data")
            for item in items:
                yield item
            last = items[-1].get("id") if items else None
            if not page.get("has_more"):
                return
            if not isinstance(last, str) or last == query.get("starting_after_id"):
                raise RetryLater("Voucherify says that there are more transactions, but not after which")
            query["starting_after_id"] = last

    async def add(self, card: str, points: int, *, source_id: str, **more: str) -> None:
        """Add points to a card's balance. Voucherify carries it out later, and adds again when called again.

        Raises:
            Unknown: the points may have been added.
            RetryLater, Permanent, Halt: they were not.
        """
        await self._api.send(
            "POST",
            f"{_BASE}/members/{segment(card)}/balance",
            deadline=self._deadline,
            personal=self._hidden,
            json={"points": points, "source_id": source_id, **more},
            unsure=_UNSURE,
        )

    async def _read(self, path: str, query: Mapping[str, str]) -> Mapping[str, Any]:
        return await self._api.read(
            _BASE + path, params=query, deadline=self._deadline, personal=self._hidden, max_answer=_MAX_ANSWER
        )


def _items(page: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = page.get(name)
    if not isinstance(found, list):
        raise RetryLater(f"Voucherify's answer holds no list in `{name}`")
    return [item for item in found if isinstance(item, dict)]


class _Hidden:
    """What no message may repeat; gathered only where there is a message."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self.codes: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return iter([*personal_values(self._event), *self.codes])
