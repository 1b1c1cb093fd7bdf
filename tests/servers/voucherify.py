"""A stand-in for Voucherify's loyalty API: members, balance and transactions, over real HTTP.

A balance call is carried out at once and shows in the card's transactions only `delay` seconds later, as the real
one's does. Scripted failures stand in `faults`, one for each balance call in turn.
"""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from .web import Answer, Request, WebServer

APP_ID, APP_TOKEN = "app-id-s3cr3t", "app-token-s3cr3t"

#: What a balance call can come to: the points are added, or not, and no answer comes, at once or ever, or 500 or 429.
Fault = Literal["hang up after", "hang after", "500 after", "500 before", "429", "hang up before", "hang before"]

#: Those that add nothing.
_BEFORE = frozenset({"500 before", "429", "hang up before", "hang before"})

_MEMBERS = re.compile(r"/v1/loyalties/([^/]+)/members")
_BALANCE = re.compile(r"/v1/loyalties/members/([^/]+)/balance")
_TRANSACTIONS = re.compile(r"/v1/loyalties/members/([^/]+)/transactions")


@dataclass(slots=True)
class Payment:
    """Points that were added to a card; `shown_at` is of the monotonic clock."""

    id: str
    card: str
    points: int
    source_id: str
    reason: str | None
    shown_at: float


@dataclass
class FakeVoucherify(WebServer):
    """Keeps cards by campaign and customer, and what was paid onto them. A context manager.

    Args:
        delay: seconds after which a payment shows in the card's transactions.
        page: the most transactions in one answer.

    Attributes:
        calls: the card of every balance call, once it was carried out or not.
    """

    delay: float = 0.0
    page: int = 100
    faults: deque[Fault] = field(default_factory=deque)
    cards: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    payments: list[Payment] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        WebServer.__init__(self, self._answer)

    # --- what a test asks

    def card_of(self, customer: str, campaign: str = "camp_teahouse") -> str:
        """Give a customer one card in a campaign."""
        code = f"CARD {customer}/{len(self.cards)}"
        self.cards[campaign, customer] = [code]
        return code

    def points(self) -> Counter[str]:
        """The points on each card."""
        counts: Counter[str] = Counter()
        for payment in self.payments:
            counts[payment.card] += payment.points
        return counts

    def times_paid(self) -> Counter[str]:
        """How often each card was paid."""
        return Counter(payment.card for payment in self.payments)

    # --- what a client asks

    def _answer(self, request: Request) -> Answer:
        headers = request.headers
        if (headers.get("x-app-id"), headers.get("x-app-token")) != (APP_ID, APP_TOKEN):
            return _error(401, "unauthorized", "Make sure that you have provided a valid X-App-Id and X-App-Token")
        url = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        for pattern, answer in ((_MEMBERS, self._members), (_TRANSACTIONS, self._transactions)):
            if request.method == "GET" and (found := pattern.fullmatch(url.path)):
                return answer(unquote(found[1]), query)
        if request.method == "POST" and (found := _BALANCE.fullmatch(url.path)):
            return self._balance(unquote(found[1]), request)
        return _error(404, "not_found", "Resource not found")

    def _members(self, campaign: str, query: dict[str, str]) -> Answer:
        if not any(campaign == known for known, _ in self.cards):
            return _error(404, "not_found", f"Cannot find campaign with id {campaign}")
        codes = self.cards.get((campaign, query.get("customer", "")), [])
        vouchers = [{"id": f"v_{code}", "code": code, "type": "LOYALTY_CARD", "object": "voucher"} for code in codes]
        return Answer(body={"object": "list", "data_ref": "vouchers", "vouchers": vouchers, "total": len(vouchers)})

    def _transactions(self, card: str, query: dict[str, str]) -> Answer:
        now = time.monotonic()
        shown = [payment for payment in reversed(self.payments) if payment.card == card and payment.shown_at <= now]
        after = query.get("starting_after_id")
        start = next((i + 1 for i, payment in enumerate(shown) if payment.id == after), 0)
        size = min(self.page, int(query.get("limit", 10)))
        data = [
            {"id": p.id, "source_id": p.source_id, "reason": p.reason, "type": "POINTS_ADDITION"}
            for p in shown[start : start + size]
        ]
        return Answer(body={"object": "list", "data_ref": "data", "data": data, "has_more": start + size < len(shown)})

    def _balance(self, card: str, request: Request) -> Answer:
        if not any(card in codes for codes in self.cards.values()):
            return _error(404, "not_found", f"Cannot find voucher with id {card}")
        fault = self.faults.popleft() if self.faults else None
        if fault not in _BEFORE:
            self.add(card, request.json["points"], request.json.get("source_id"), request.json.get("reason"))
        self.calls.append(card)
        if fault and fault.startswith("hang "):
            if " up " not in fault:
                self.stopping.wait(30)
            return Answer(hang_up=True)
        if fault == "429":
            return Answer(status=429, body={"message": "Too many requests"}, headers={"retry-after": "1"})
        if fault:
            return _error(500, "internal_error", "An unexpected error occurred")
        return Answer(body={"points": request.json["points"], "type": "loyalty_card", "object": "balance"})

    def add(self, card: str, points: int, source_id: str, reason: str | None = None) -> None:
        """Carry a balance call out."""
        shown_at = time.monotonic() + self.delay
        self.payments.append(Payment(f"vtx_{len(self.payments):06}", card, points, source_id, reason, shown_at))


def _error(status: int, key: str, message: str) -> Answer:
    return Answer(status=status, body={"code": status, "key": key, "message": message, "request_id": "v-1"})
