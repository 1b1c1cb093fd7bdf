"""Voucherify's API: loyalty cards and their points, publications of codes, customers.

Shapes: https://docs.voucherify.io/api-reference, its OpenAPI of August 2026.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...event import Event
from .server import Answer, FakeVendor, Request, Route, Window, seconds_up, unix_after

APP_ID, APP_TOKEN = "app-id-s3cr3t", "app-token-s3cr3t"

#: What `PUT /v1/customers/{id}` changes; anything else in its body is skipped silently.
_CUSTOMER_FIELDS = frozenset({"name", "description", "email", "phone", "birthdate", "birthday", "address"})

#: What a value of metadata can be, beside lists of these.
_SCALAR = (str, int, float, bool)


@dataclass(slots=True)
class Payment:
    """Points that were added to a card; `shown_at` is of the monotonic clock."""

    id: str
    card: str
    points: int
    source_id: str
    reason: str | None
    shown_at: float


@dataclass(slots=True)
class Publication:
    """A code that was given to a customer."""

    id: str
    campaign: str
    customer: str
    code: str
    source_id: str | None
    metadata: dict[str, Any] = field(default_factory=dict)


class FakeVoucherify(FakeVendor):
    """Keeps cards by campaign and customer, and what was paid onto them; codes by campaign; customers by id.

    Unknown fields are skipped silently, as the real one does; missing ones and wrong types are refused. A plan has two
    limits: calls in a window, and calls in its cycle.

    Args:
        delay: seconds after which a payment shows in the card's transactions; it is carried out at once.
        page: the most transactions in one answer.
        limits: by default those of the plan Organization.

    Attributes:
        cards: the codes of cards, by campaign and customer.
        payments: points that were added, in order.
        codes: the codes that a campaign has left to publish, by its name.
        publications: what was published, in order.
        customers: by id; `metadata` is kept apart from the other fields.
        metadata_types: the project's metadata schema of customers, by name; a value of another type is refused.
        cycle_calls: how many calls the plan has left in its cycle; None for no end.
        plan_over: answer 402, as where the plan lapsed.
        twins_tell: answer 400 to a `source_id` that was published already; else give the publication again.
    """

    name: ClassVar[str] = "voucherify"
    published: ClassVar[Mapping[str, Sequence[Window]]] = {"api": (Window(2000, 60.0, "api_calls"),)}

    def __init__(
        self, *, delay: float = 0.0, page: int = 100, limits: Mapping[str, Sequence[Window]] | None = None
    ) -> None:
        self.delay = delay
        self.page = page
        self.cards: dict[tuple[str, str], list[str]] = {}
        self.payments: list[Payment] = []
        self.codes: dict[str, list[str]] = {}
        self.publications: list[Publication] = []
        self.customers: dict[str, dict[str, Any]] = {}
        self.metadata_types: dict[str, type] | None = None
        self.cycle_calls: int | None = None
        self.plan_over = False
        self.twins_tell = True
        super().__init__(limits=limits)

    def routes(self) -> Iterable[Route]:
        yield Route("GET", "/v1/loyalties/{}/members", self._members)
        yield Route("GET", "/v1/loyalties/members/{}/transactions", self._transactions)
        yield Route("POST", "/v1/loyalties/members/{}/balance", self._balance)
        yield Route("POST", "/v1/publications", self._publish)
        yield Route("GET", "/v1/publications", self._list_publications)
        yield Route("GET", "/v1/customers/{}", self._customer)
        yield Route("PUT", "/v1/customers/{}", self._update_customer)
        yield Route("POST", "/v1/customers", self._upsert_customer)
        yield Route("GET", "/v1/campaigns", self._campaigns)
        yield Route("GET", "/v1/campaigns/{}", self._campaign)

    def options(self) -> dict[str, Any]:
        return {"base_url": self.url, "app_id": APP_ID, "app_token": APP_TOKEN}

    def prepare(self, options: Mapping[str, Any], event: Event) -> None:
        customer, campaign = str(options.get("customer") or "cust_1"), str(options.get("campaign") or "")
        self.customer(customer, source_id=customer)
        if "points" in options:
            self.card_of(customer, campaign)
        elif campaign:
            self.codes[campaign] = ["CODE-1"]

    def effects(self) -> Any:
        return {
            "points": dict(self.points()),
            "codes": {code.code: code.customer for code in self.publications},
            "metadata": {name: dict(customer["metadata"]) for name, customer in self.customers.items()},
        }

    def refuse(self, request: Request) -> Answer | None:
        headers = request.headers
        if (headers.get("x-app-id"), headers.get("x-app-token")) != (APP_ID, APP_TOKEN):
            return error(401, "unauthorized", "Make sure that you have provided a valid X-App-Id and X-App-Token")
        if self.plan_over:
            return error(402, "payment_required", "Your subscription has ended")
        if self.cycle_calls is not None:
            if self.cycle_calls <= 0:
                return self.too_many(Window(0, 86400.0, "api_calls_cycle"), 1.0)
            self.cycle_calls -= 1
        return None

    def unknown_route(self, request: Request) -> Answer:
        return error(404, "not_found", "Resource not found")

    def too_many(self, window: Window, wait: float) -> Answer:
        answer = error(429, "too_many_requests", "Too many requests hit the API too quickly")
        answer.headers = {
            "retry-after": seconds_up(wait),
            "x-rate-limit-limit": str(window.calls),
            "x-rate-limit-remaining": "0",
            "x-rate-limit-retry": unix_after(wait),
            "x-rate-limit-type": window.name or "api_calls",
        }
        return answer

    def failed(self, status: int) -> Answer:
        return error(status, "internal_error", "An unexpected error occurred")

    # --- what a test asks

    def card_of(self, customer: str, campaign: str = "camp_teahouse") -> str:
        """Give a customer one card in a campaign."""
        code = f"CARD {customer}/{len(self.cards)}"
        self.cards[campaign, customer] = [code]
        return code

    def customer(self, id: str, *, source_id: str | None = None, **metadata: Any) -> None:
        """Add a customer."""
        self.customers[id] = {"id": id, "source_id": source_id, "metadata": dict(metadata)}

    def points(self) -> Counter[str]:
        """The points on each card."""
        counts: Counter[str] = Counter()
        for payment in self.payments:
            counts[payment.card] += payment.points
        return counts

    def times_paid(self) -> Counter[str]:
        """How often each card was paid."""
        return Counter(payment.card for payment in self.payments)

    def balance_calls(self) -> list[Request]:
        """Every balance call that arrived, whether or not it was carried out."""
        return self.calls("POST", "/v1/loyalties/members/{}/balance")

    def add(self, card: str, points: int, source_id: str, reason: str | None = None) -> None:
        """Carry a balance call out."""
        shown_at = time.monotonic() + self.delay
        self.payments.append(Payment(f"vtx_{len(self.payments):06}", card, points, source_id, reason, shown_at))

    # --- loyalty

    def _members(self, request: Request, campaign: str) -> Answer:
        if not any(campaign == known for known, _ in self.cards):
            return _missing("campaign", campaign)
        codes = self.cards.get((campaign, request.query.get("customer", "")), [])
        vouchers = [{"id": f"v_{code}", "code": code, "type": "LOYALTY_CARD", "object": "voucher"} for code in codes]
        return Answer(body={"object": "list", "data_ref": "vouchers", "vouchers": vouchers, "total": len(vouchers)})

    def _transactions(self, request: Request, card: str) -> Answer:
        now = time.monotonic()
        shown = [payment for payment in reversed(self.payments) if payment.card == card and payment.shown_at <= now]
        after = request.query.get("starting_after_id")
        start = next((i + 1 for i, payment in enumerate(shown) if payment.id == after), 0)
        size = min(self.page, int(request.query.get("limit", 10)))
        data = [
            {"id": p.id, "source_id": p.source_id, "reason": p.reason, "type": "POINTS_ADDITION"}
            for p in shown[start : start + size]
        ]
        return Answer(body={"object": "list", "data_ref": "data", "data": data, "has_more": start + size < len(shown)})

    def _balance(self, request: Request, card: str) -> Answer:
        body = _object(request)
        points = body.get("points") if body is not None else None
        if body is None or not isinstance(points, int) or isinstance(points, bool) or not points:
            return error(400, "invalid_payload", "Property .points should be integer")
        if not any(card in codes for codes in self.cards.values()):
            return _missing("voucher", card)
        self.add(card, points, str(body.get("source_id") or ""), body.get("reason"))
        return Answer(body={"points": points, "type": "loyalty_card", "object": "balance"})

    # --- publications

    def _publish(self, request: Request) -> Answer:
        body = _object(request)
        refusal = _publication_refusal(body)
        if refusal is not None or body is None:
            return refusal or _invalid("Body should be object")
        campaign = str(body["campaign"].get("name") or body["campaign"].get("id") or "")
        if campaign not in self.codes:
            return _missing("campaign", campaign)
        customer = self._publication_customer(body["customer"])
        if isinstance(customer, Answer):
            return customer
        source_id = body.get("source_id")
        twin = next((one for one in self.publications if source_id and one.source_id == source_id), None)
        if twin is not None:
            return _told(twin) if not self.twins_tell else _twin(str(source_id))
        if request.query.get("join_once") == "true":
            earlier = next(
                (one for one in self.publications if (one.campaign, one.customer) == (campaign, customer)), None
            )
            if earlier is not None:
                return _told(earlier)
        if not self.codes[campaign]:
            return error(
                400,
                "no_voucher_suitable_for_publication",
                "Couldn't find any voucher suitable for publication",
                details="Use auto-update campaigns if you want Voucherify to generate vouchers automatically.",
            )
        made = Publication(
            id=f"pub_{len(self.publications):06}",
            campaign=campaign,
            customer=customer,
            code=self.codes[campaign].pop(0),
            source_id=source_id,
            metadata=dict(body.get("metadata") or {}),
        )
        self.publications.append(made)
        return _told(made)

    def _publication_customer(self, given: Mapping[str, Any]) -> str | Answer:
        """The id of the customer; one that is named by an unknown source id is created, as the real one does."""
        if id := given.get("id"):
            return str(id) if id in self.customers else _missing("customer", str(id))
        source_id = str(given["source_id"])
        found = self._find(source_id)
        if found is None:
            found = f"cust_{len(self.customers):06}"
            self.customer(found, source_id=source_id)
        return found

    def _list_publications(self, request: Request) -> Answer:
        wanted = request.query.get("source_id")
        found = [one for one in self.publications if wanted is None or one.source_id == wanted]
        listed = [_told(one).body for one in found[:100]]
        return Answer(body={"object": "list", "data_ref": "publications", "publications": listed, "total": len(found)})

    # --- customers

    def _find(self, name: str) -> str | None:
        """The id of a customer by id or source id."""
        if name in self.customers:
            return name
        return next((id for id, one in self.customers.items() if one["source_id"] == name), None)

    def _customer(self, request: Request, name: str) -> Answer:
        found = self._find(name)
        return _missing("customer", name) if found is None else Answer(body=self._shown(found))

    def _update_customer(self, request: Request, name: str) -> Answer:
        body = _object(request)
        found = self._find(name)
        if body is None:
            return _invalid("Body should be object")
        if found is None:
            return _missing("customer", name)
        return self._set(found, body) or Answer(body=self._shown(found))

    def _upsert_customer(self, request: Request) -> Answer:
        body = _object(request)
        if body is None:
            return _invalid("Body should be object")
        source_id = body.get("source_id")
        if source_id is not None and not isinstance(source_id, str):
            return _invalid("Property .source_id should be string")
        found = self._find(str(body.get("id") or source_id or ""))
        if found is None and body.get("id"):
            return _missing("customer", str(body["id"]))
        if found is None:
            if (refusal := self._check_metadata(body.get("metadata", {}))) is not None:
                return refusal
            found = f"cust_{len(self.customers):06}"
            self.customer(found, source_id=source_id)
        return self._set(found, body) or Answer(body=self._shown(found))

    def _set(self, id: str, body: Mapping[str, Any]) -> Answer | None:
        metadata = body.get("metadata", {})
        if (refusal := self._check_metadata(metadata)) is not None:
            return refusal
        customer = self.customers[id]
        customer.update({name: value for name, value in body.items() if name in _CUSTOMER_FIELDS})
        for name, value in metadata.items():
            if value is None:
                customer["metadata"].pop(name, None)
            else:
                customer["metadata"][name] = value
        return None

    def _check_metadata(self, metadata: Any) -> Answer | None:
        if not isinstance(metadata, dict):
            return _invalid("Property .metadata should be object")
        for name, value in metadata.items():
            wanted = None if self.metadata_types is None else self.metadata_types.get(name)
            if wanted is not None and value is not None and type(value) is not wanted:
                return error(
                    400,
                    "metadata_validation_failed",
                    "Metadata validation failed",
                    details=f"{name}: must be a {wanted.__name__} (actual value is '{value}')",
                )
            if value is not None and not isinstance(value, (*_SCALAR, list)):
                return _invalid(f"Property .metadata.{name} is too complex")
        return None

    def _shown(self, id: str) -> dict[str, Any]:
        return {"object": "customer", **self.customers[id], "metadata": dict(self.customers[id]["metadata"])}

    def _campaign(self, request: Request, name: str) -> Answer:
        known = {*self.codes, *(campaign for campaign, _ in self.cards)}
        return Answer(body={"name": name, "object": "campaign"}) if name in known else _missing("campaign", name)

    def _campaigns(self, request: Request) -> Answer:
        names = sorted({*self.codes, *(campaign for campaign, _ in self.cards)})
        limit = int(request.query.get("limit", 10))
        listed = [{"id": f"camp_{name}", "name": name, "object": "campaign"} for name in names[:limit]]
        return Answer(body={"object": "list", "data_ref": "campaigns", "campaigns": listed, "total": len(names)})


def error(status: int, key: str, message: str, **more: str) -> Answer:
    """An error as Voucherify tells it."""
    return Answer(status=status, body={"code": status, "key": key, "message": message, "request_id": "v-1", **more})


def _object(request: Request) -> dict[str, Any] | None:
    try:
        body = request.json
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _invalid(details: str) -> Answer:
    return error(400, "invalid_payload", "Invalid payload", details=details)


def _missing(kind: str, id: str) -> Answer:
    return error(
        404,
        "not_found",
        "Resource not found",
        details=f"Cannot find {kind} with id {id}",
        resource_id=id,
        resource_type=kind,
    )


def _publication_refusal(body: Mapping[str, Any] | None) -> Answer | None:
    """What is wrong with the form of a publication, if anything is."""
    customer = body.get("customer") if body else None
    if body is None or not isinstance(customer, dict):
        return _invalid("Body should have required property 'customer'")
    if not any(isinstance(customer.get(name), str) and customer[name] for name in ("id", "source_id")):
        return _invalid("Property .customer should have id or source_id")
    campaign = body.get("campaign")
    if not isinstance(campaign, dict) or not (campaign.get("name") or campaign.get("id")):
        return error(400, "missing_vouchers", "Missing vouchers", details="Either Campaign or Voucher is required")
    count = campaign.get("count", 1)
    if count != 1 and body.get("source_id"):
        return error(
            400, "too_many_vouchers_requested", "Too many vouchers requested", details="Only up to 1 can be published"
        )
    if not isinstance(body.get("metadata", {}), dict):
        return _invalid("Property .metadata should be object")
    return None


def _twin(source_id: str) -> Answer:
    return error(
        400,
        "duplicate_source_id",
        "Duplicate source_id",
        details=f"Publication with source_id: '{source_id}' already exists",
    )


def _told(publication: Publication) -> Answer:
    return Answer(
        body={
            "id": publication.id,
            "object": "publication",
            "customer_id": publication.customer,
            "source_id": publication.source_id,
            "metadata": publication.metadata,
            "result": "SUCCESS",
            "voucher": {"code": publication.code, "campaign": publication.campaign, "object": "voucher"},
        }
    )
