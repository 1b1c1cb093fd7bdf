"""The calls of Voucherify's loyalty API: a customer's cards, their balance, their transactions.

https://docs.voucherify.io/api-reference/loyalties (members, balance, card transactions); its OpenAPI of August 2026.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from tiercast.actions import RetryLater, Unavailable, Unknown
from tiercast.event import Event
from tiercast.outbound import Answer, Client, Deadline, Waits, personal_values

#: The most that a page of transactions can hold.
_PAGE = 100

#: Answers to a balance call after which the points may have been added: a gateway gives up on what goes on behind it.
_UNSURE = frozenset({408, *range(500, 600)})

#: A page of 100 transactions with the orders, events and rules that they tell of.
_MAX_ANSWER = 8 * 1024 * 1024


#: A wrong host, the plan, the version. 404 is that of the campaign or card that the path names.
_SETTING = frozenset({*range(300, 400), 402, 405, 406, 410, 415})

#: The least wait, in seconds, where the calls of the plan's period are used up.
_CYCLE_WAIT = 3600.0


def _cycle(answer: Answer) -> float | None:
    """How long to wait where the plan is used up, and not only the rate."""
    return _CYCLE_WAIT if answer.headers.get("x-rate-limit-type", "").lower().endswith("_cycle") else None


#: https://docs.voucherify.io/api-reference/rate-limits
_WAITS = Waits(until=("x-rate-limit-retry",), more=_cycle)


class Loyalty:
    """Speaks for one attempt of one job: every call ends by the same deadline.

    Args:
        client: of the kind.
        base_url: without a slash at its end.
        headers: the credentials.
        deadline: of the attempt.
        event: the job's; no message repeats what it says of its customer, nor the codes of the cards.
    """

    def __init__(
        self,
        client: Client,
        base_url: str,
        headers: Mapping[str, str],
        *,
        deadline: Deadline,
        event: Event,
    ) -> None:
        self._client = client
        self._base = f"{base_url.rstrip('/')}/v1/loyalties"
        self._headers = headers
        self._deadline = deadline
        self._hidden = _Hidden(event)

    async def cards(self, campaign: str, customer: str) -> list[str]:
        """The codes of the customer's cards in a campaign; id or name of it, id or source id of the customer."""
        path = f"/{_escaped(campaign)}/members"
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
            page = await self._read(f"/members/{_escaped(card)}/transactions", query)
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
        self._check_time()
        path = f"/members/{_escaped(card)}/balance"
        await self._send("POST", path, json={"points": points, "source_id": source_id, **more}, unsure=_UNSURE)

    async def _read(self, path: str, query: Mapping[str, str]) -> Mapping[str, Any]:
        """GET an object. Nothing can have happened, so what has no answer is just asked again later."""
        self._check_time()
        try:
            answer = (await self._send("GET", path, params=query)).json()
        except Unknown as error:
            raise (Unavailable if error.unavailable else RetryLater)(str(error)) from None
        except ValueError:
            raise RetryLater("Voucherify's answer is no JSON or was cut off") from None
        if not isinstance(answer, dict):
            raise RetryLater("Voucherify's answer is not an object")
        return answer

    async def _send(self, method: str, path: str, **more: Any) -> Answer:
        return await self._client.send(
            method,
            self._base + path,
            headers=self._headers,
            timeout=self._deadline.left,
            secrets=self._headers.values(),
            personal=self._hidden,
            setting=_SETTING,
            waits=_WAITS,
            max_answer=_MAX_ANSWER,
            **more,
        )

    def _check_time(self) -> None:
        """Begin no call after the attempt's time, such as one of a process that was frozen meanwhile."""
        if self._deadline.left <= 0:
            raise RetryLater("the time of the attempt was used up before the next call")


def _items(page: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = page.get(name)
    if not isinstance(found, list):
        raise RetryLater(f"Voucherify's answer holds no list in `{name}`")
    return [item for item in found if isinstance(item, dict)]


def _escaped(text: str) -> str:
    """An id or a name as one part of a path; dots alone would climb."""
    return "%2E" * len(text) if text in {".", ".."} else quote(text, safe="")


class _Hidden:
    """What no message may repeat; gathered only where there is a message."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self.codes: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return iter([*personal_values(self._event), *self.codes])
