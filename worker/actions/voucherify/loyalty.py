"""The calls of Voucherify's loyalty API: a customer's cards, their balance, their transactions.

https://docs.voucherify.io/api-reference/loyalties (members, balance, card transactions); its OpenAPI of August 2026.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from tiercast.actions import RetryLater, Unknown
from tiercast.outbound import Deadline, send

#: The most that a page of transactions can hold.
_PAGE = 100

#: Answers to a balance call after which the points may have been added: a gateway gives up on what goes on behind it.
_UNSURE = frozenset({408, *range(500, 600)})

#: A page of 100 transactions with the orders, events and rules that they tell of.
_MAX_ANSWER = 8 * 1024 * 1024


class Loyalty:
    """Speaks for one attempt of one job: every call ends by the same deadline.

    Args:
        client: made by `make_client`.
        base_url: without a slash at its end.
        headers: the credentials.
        deadline: of the attempt.
        personal: what no message may repeat; card codes are added as they are learnt.
    """

    def __init__(
        self,
        client: httpx.Client,
        base_url: str,
        headers: Mapping[str, str],
        *,
        deadline: Deadline,
        personal: tuple[str, ...] = (),
    ) -> None:
        self._client = client
        self._base = f"{base_url.rstrip('/')}/v1/loyalties"
        self._headers = headers
        self._deadline = deadline
        self._hidden = list(personal)

    def cards(self, campaign: str, customer: str) -> list[str]:
        """The codes of the customer's cards in a campaign; id or name of it, id or source id of the customer."""
        path = f"/{_escaped(campaign)}/members"
        page = self._read(path, {"customer": customer, "limit": str(_PAGE)})
        codes = [item.get("code") for item in _items(page, "vouchers")]
        found = [code for code in dict.fromkeys(codes) if isinstance(code, str) and code]
        self._hidden += found
        return found

    def transactions(self, card: str) -> Iterator[Mapping[str, Any]]:
        """All transactions of a card, a page at a time.

        Raises:
            RetryLater: there are more than can be read in the time that is left.
        """
        query = {"limit": str(_PAGE), "order": "-id"}
        while True:
            page = self._read(f"/members/{_escaped(card)}/transactions", query)
            items = _items(page, "data")
            yield from items
            last = items[-1].get("id") if items else None
            if not page.get("has_more"):
                return
            if not isinstance(last, str) or last == query.get("starting_after_id"):
                raise RetryLater("Voucherify says that there are more transactions, but not after which")
            query["starting_after_id"] = last

    def add(self, card: str, points: int, *, source_id: str, **more: str) -> None:
        """Add points to a card's balance. Voucherify carries it out later, and adds again when called again.

        Raises:
            Unknown: the points may have been added.
            RetryLater, Permanent, Halt: they were not.
        """
        self._check_time()
        request = self._client.build_request(
            "POST",
            f"{self._base}/members/{_escaped(card)}/balance",
            content=json.dumps({"points": points, "source_id": source_id, **more}).encode(),
            headers={**self._headers, "content-type": "application/json"},
        )
        self._send(request, unsure=_UNSURE)

    def _read(self, path: str, query: Mapping[str, str]) -> Mapping[str, Any]:
        """GET an object. Nothing can have happened, so what has no answer is just asked again later."""
        self._check_time()
        request = self._client.build_request("GET", self._base + path, params=query, headers=self._headers)
        try:
            answer = json.loads(self._send(request).content)
        except Unknown as error:
            raise RetryLater(str(error)) from None
        except ValueError:
            raise RetryLater("Voucherify's answer is no JSON or was cut off") from None
        if not isinstance(answer, dict):
            raise RetryLater("Voucherify's answer is not an object")
        return answer

    def _send(self, request: httpx.Request, *, unsure: frozenset[int] = frozenset()) -> httpx.Response:
        return send(
            self._client,
            request,
            timeout=self._deadline.left,
            secrets=self._headers.values(),
            personal=self._hidden,
            unsure=unsure,
            max_answer=_MAX_ANSWER,
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
