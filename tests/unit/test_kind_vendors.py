"""What a vendor's own codes mean, before the common table."""

from __future__ import annotations

import json

import pytest

from tiercast.actions import Halt, Permanent, RateLimited, RetryLater, Skip, Unavailable, Unknown
from tiercast.outbound import FIXED_PATH, Answer, Meaning, TooLarge, Vendor, Waits, classify

#: The codes of several vendors in one table: each vendor's stand in VENDORS.md.
VENDOR = Vendor(
    name="Acme",
    meanings={
        (403, "REQUEST_LIMIT_EXCEEDED"): Meaning("limited", after=900),
        "INVALID_FIELD": Meaning("dead", "take the field out of properties"),
        "duplicate_source_id": Meaning("done"),
        "21610": Meaning("skip"),
        "concurrent_requests": Meaning("later"),
        "missing_vouchers": Meaning("setting", "add codes to the campaign"),
        "BadApiKey": Meaning("credential"),
        409: Meaning("later"),
        504: Meaning("unknown"),
    },
    judge=lambda answer: Meaning("limited") if answer.status == 403 and answer.parsed() is None else None,
)


def answer(status: int, body: object = None, **headers: str) -> Answer:
    content = b"" if body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"content-type": "application/json"} | named, content)


def raised(found: Answer, vendor: Vendor = VENDOR, **options: object) -> Exception | None:
    try:
        classify(found, host="api.acme.example", vendor=vendor, **options)  # type: ignore[arg-type]
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        # 15: a limit that comes as 403 is none of the credential's
        (403, [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "…"}], RateLimited),
        (403, [{"errorCode": "INSUFFICIENT_ACCESS", "message": "…"}], Halt),
        (400, {"code": "INVALID_FIELD"}, Permanent),
        # 25: who has stopped messages is nothing to retry
        (400, {"code": 21610, "status": 400}, Skip),
        # 28: two writers at once
        (409, {"name": "x", "code": "concurrent_requests"}, RetryLater),
        (409, {}, RetryLater),
        (400, {"key": "missing_vouchers", "code": 400}, Halt),
        (400, {"code": "BadApiKey"}, Halt),
        (504, {}, Unknown),
        (500, {}, Unavailable),
        (400, {"key": "duplicate_source_id"}, type(None)),
        (400, {"code": "never heard of"}, Permanent),
    ],
)
def test_codes_decide_before_the_status(status: int, body: object, error: type) -> None:
    assert type(raised(answer(status, body))) is error


def test_a_page_where_json_belongs_can_be_judged() -> None:
    # 26, 31: Mailchimp's 403 without JSON means too many connections
    assert isinstance(raised(Answer(403, {"content-type": "text/html"}, b"<html>busy</html>")), RateLimited)


def test_a_limit_waits_at_least_as_long_as_the_table_says() -> None:
    # 30: a day's cap is not tried again every few seconds
    limited = answer(403, {"code": "REQUEST_LIMIT_EXCEEDED"})
    error = raised(limited)
    assert isinstance(error, RateLimited)
    assert (error.after, error.everyone) == (900, True)
    longer = raised(answer(403, {"code": "REQUEST_LIMIT_EXCEEDED"}, retry_after="3600"))
    assert isinstance(longer, RateLimited)
    assert longer.after == 3600


def test_the_message_names_vendor_status_code_and_remedy() -> None:
    body = {"code": "INVALID_FIELD", "message": 'No such column "tier" for ada@example.com'}
    error = raised(answer(400, body))
    assert isinstance(error, Permanent)
    assert str(error) == (
        'Acme answered 400 (INVALID_FIELD): No such column "…" for [email] (take the field out of properties)'
    )
    assert error.code == "400 INVALID_FIELD"


def test_the_same_cause_has_the_same_code_whomever_it_is_about() -> None:
    codes = set()
    for customer in ("ada", "bob"):
        error = raised(answer(422, {"code": "invalid", "message": f"{customer} is refused"}))
        assert isinstance(error, Permanent)
        codes.add(error.code)
    assert codes == {"422 invalid"}


@pytest.mark.parametrize("status", [301, 302, 307, 308, 402, 405, 406, 410, 415])
def test_a_wrong_setting_holds_the_lane_by_default(status: int) -> None:
    error = raised(answer(status), Vendor())
    assert isinstance(error, Halt)
    assert error.cause == "setting"


def test_404_is_the_jobs_only_where_its_id_is_in_the_path() -> None:
    assert isinstance(raised(answer(404), Vendor()), Permanent)
    error = raised(answer(404), Vendor(), setting=FIXED_PATH)
    assert isinstance(error, Halt)
    assert error.cause == "setting"


def test_a_call_that_is_too_large_is_told_apart() -> None:
    assert isinstance(raised(answer(413), Vendor()), TooLarge)


def test_a_vendor_has_headers_of_its_own() -> None:
    vendor = Vendor(waits=Waits(after=("retry-after", "x-ratelimit-retry-after")))
    error = raised(answer(429, None, x_ratelimit_retry_after="3"), vendor)
    assert isinstance(error, RateLimited)
    assert error.after == 3


def test_items_are_judged_by_the_same_table() -> None:
    found = VENDOR.item(
        codes=["INVALID_FIELD"], message="no field tier of Ada", otherwise=Meaning("later"), personal=["Ada"]
    )
    assert isinstance(found, Permanent)
    assert str(found) == "Acme INVALID_FIELD: no field tier of [personal] (take the field out of properties)"
    assert isinstance(VENDOR.item(codes=["???"], otherwise=Meaning("later")), RetryLater)
    assert VENDOR.item(codes=["duplicate_source_id"], otherwise=Meaning("dead")) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"code": ', b"[1, 2]", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_31_a_body_that_is_no_json_is_judged_by_its_status(body: bytes) -> None:
    found = Answer(400, {"content-type": "application/json"}, body)
    assert isinstance(raised(found), Permanent)
    assert isinstance(raised(Answer(502, {"content-type": "text/html"}, body)), Unavailable)
