"""What an answer means, what a message may show, and which addresses are public."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tiercast.actions import Halt, Permanent, RateLimited, RetryLater, Unavailable, Unknown
from tiercast.outbound import (
    FIXED_PATH,
    AddressRefused,
    Answer,
    Waits,
    is_public,
    personal_values,
    redact,
    refuse_private_host,
    retry_after,
)
from tiercast.outbound import (
    classify as classified,
)
from tiercast.samples import sample_event


def answer(status: int, body: object = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is None:
        return Answer(status, named)
    return Answer(status, {"content-type": "application/json"} | named, json.dumps(body).encode())


def classify(found: Answer, **options: Any) -> None:
    classified(found, host="api.example.com", **options)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 207])
def test_2xx_is_done(status: int) -> None:
    classify(answer(status))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, Halt),
        (302, Halt),
        (304, Halt),
        (400, Permanent),
        (401, Halt),
        (403, Halt),
        (404, Permanent),
        (408, RetryLater),
        (409, Permanent),
        (410, Halt),
        (422, Permanent),
        (425, RetryLater),
        (429, RateLimited),
        (421, Unavailable),
        (500, Unavailable),
        (502, RetryLater),
        (503, RetryLater),
        (504, RetryLater),
        (599, Unavailable),
    ],
)
def test_other_statuses(status: int, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        classify(answer(status))
    assert f"api.example.com answered {status}" in str(raised.value)


def test_429_waits_for_everyone_until_the_time_named() -> None:
    with pytest.raises(RetryLater) as raised:
        classify(answer(429, retry_after="17"))
    assert (raised.value.after, raised.value.everyone) == (17.0, True)


def test_503_waits_until_the_date_by_the_vendors_clock() -> None:
    # Given a vendor whose clock is years off
    said = {"date": "Tue, 01 Jan 2030 10:00:00 GMT", "retry_after": "Tue, 01 Jan 2030 10:02:00 GMT"}
    # When it names a time
    with pytest.raises(RetryLater) as raised:
        classify(answer(503, **said))
    # Then the wait is the difference that it meant
    assert (raised.value.after, raised.value.everyone) == (120.0, True)


def test_a_vendor_can_have_more_statuses_for_later() -> None:
    with pytest.raises(RetryLater):
        classify(answer(423), later={423})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("99999999999", 86400.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0),
        ("-5", None),
        ("9" * 5000, 86400.0),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 99 Jan 2030 00:00:00 GMT", None),
        ("soon", None),
        ("١٢", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, now=40.0) == seconds


@pytest.mark.parametrize(
    "body",
    [
        {"message": "no such list"},
        {"error": {"message": "no such list"}},
        {"error": "no such list"},
        {"errors": [{"detail": "no such list"}]},
        {"details": "no such list"},
        ["no such list"],
    ],
)
def test_the_vendors_own_words_are_told(body: object) -> None:
    with pytest.raises(Permanent, match="answered 400: no such list"):
        classify(answer(400, body))


def test_a_page_of_html_is_not() -> None:
    page = Answer(400, {"content-type": "text/html"}, b"<html>secret page</html>")
    with pytest.raises(Permanent) as raised:
        classify(page)
    assert str(raised.value) == "api.example.com answered 400"


def test_messages_are_short_and_hold_neither_secrets_nor_personal_data() -> None:
    # Given a vendor that repeats everything it was sent
    event = sample_event(name="Zoë Quartermaine", email="zoe@example.com", source_id="S-991")
    said = "token tok_12345 for zoe@example.com (Zoë Quartermaine, quartermaine, S-991)\n\x00 " + "x" * 5000
    # When its answer is classified
    with pytest.raises(Permanent) as raised:
        classify(answer(400, {"message": said}), secrets=["tok_12345"], personal=personal_values(event))
    # Then the message names none of it
    message = str(raised.value)
    assert len(message) <= 300
    for hidden in ("tok_12345", "zoe", "Zoë", "uartermaine", "S-991", "\n", "\x00"):
        assert hidden not in message


def test_a_secret_is_found_before_the_text_is_cut() -> None:
    assert "s3cr3t" not in redact("x" * 296 + "s3cr3t-value", ["s3cr3t-value"])


@pytest.mark.parametrize(
    "text", ["a.b+c@example.com", "mail <a@b.example>", "jörg@bücher.example", "user%40example.com", "x=y@z.example"]
)
def test_addresses_are_redacted(text: str) -> None:
    assert "example" not in redact(text)


def test_credentials_in_headers_are_redacted() -> None:
    assert redact("Authorization: Bearer abc.def-ghi") == "Authorization: Bearer [secret]"


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:8.8.8.8"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.0.9",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "2606:4700::5efe:10.0.0.1",
        "not an address",
    ],
)
def test_private_addresses_in_every_form(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "host",
    """
    localhost LOCALHOST. a.localhost printer.local metadata.google.internal 127.0.0.1 127.1 0x7f000001 2130706433
    0177.0.0.1 169.254.169.254 [::1] fe80::1%1
    """.split(),  # noqa: SIM905 - one a word
)
def test_a_host_that_is_private_by_itself_is_refused_unless_named(host: str) -> None:
    with pytest.raises(AddressRefused, match="allow_hosts"):
        refuse_private_host(host)
    refuse_private_host(host, [host.upper()])


def test_other_hosts_are_left_to_the_resolver() -> None:
    for host in ("example.com", "localhost.example.com", "1.1.1.1", "2606:4700::1111", "internalx"):
        refuse_private_host(host)


@pytest.mark.parametrize("word", ["A", "a@", "%40", "basic ", '"', "1 ", "&amp;", "\\u0041", "\ud83d"])
def test_a_long_text_takes_milliseconds(word: str) -> None:
    event = sample_event(name="A" * 100_000, email="a@a.example")
    text = word * (1024 * 1024 // len(word))
    began = time.process_time()
    message = redact(text, ["s" * 5000, "A" * 50], personal=event)
    assert time.process_time() - began < 0.1
    assert len(message) <= 300
    assert message.isprintable()


def test_half_a_secret_at_the_cut_is_not_shown() -> None:
    secret = "s3cr3t" * 50
    text = (secret + " ") * 6 + "x" * (2048 - 6 * 301 - 150) + secret + "y" * 5000
    assert "s3cr3t" not in redact(text, [secret])


@pytest.mark.parametrize(
    "said", ["Zoë%20Quartermaine", "Zo&euml; Quartermaine", "Zo\\u00eb Quartermaine", "ZOË QUARTERMAINE", "Zoë_1"]
)
def test_a_name_is_recognised_behind_escapes(said: str) -> None:
    shown = redact(f"no such person: {said}!", personal=sample_event(name="Zoë Quartermaine"))
    assert "zo" not in shown.casefold()
    assert "quarter" not in shown.casefold()


def test_a_holder_and_a_customer_that_is_the_data_are_people_too() -> None:
    holder = sample_event("voucher.updated", data={"holder": {"name": "Ada Byron", "source_id": "S-1", "id": "cust_1"}})
    itself = sample_event("customer.updated", data={"object": "customer", "name": "Ada Byron", "phone": "+49 171 2"})
    for event in (holder, itself):
        assert "Byron" not in redact("Byron and cust_1", personal=event)
    assert "cust_1" not in personal_values(holder)


def test_a_message_keeps_codes_and_words_and_leaves_values_out(monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"code": "E_TIER", "message": 'value "Rue des Lilas 4" of "home_town" is wrong, call +49 171 5551234'}
    with pytest.raises(Permanent) as raised:
        classify(answer(422, body))
    assert str(raised.value) == (
        'api.example.com answered 422 (E_TIER): value "…" of "home_town" is wrong, call [number]'
    )
    monkeypatch.setenv("TIERCAST_VENDOR_MESSAGES", "full")
    with pytest.raises(Permanent, match="Rue des Lilas"):
        classify(answer(422, body))


def test_statuses_that_a_kind_names() -> None:
    with pytest.raises(Unknown) as unknown:
        classify(answer(502), unsure={502})
    assert unknown.value.unavailable
    with pytest.raises(Halt) as halt:
        classify(answer(404), setting=FIXED_PATH)
    assert halt.value.cause == "setting"
    with pytest.raises(Halt) as halt:
        classify(answer(403))
    assert halt.value.cause == "credential"


def test_a_vendors_own_waiting_header() -> None:
    waits = Waits(until=("x-reset",), more=lambda found: 30.0 if found.status == 503 else None)
    assert waits.seconds(answer(429, x_reset="1060"), now=1000) == 60
    assert waits.seconds(answer(429, x_reset="1060", retry_after="90"), now=1000) == 90
    assert waits.seconds(answer(503, x_reset="soon"), now=1000) == 30
    assert waits.seconds(answer(429, x_reset="9" * 400), now=1000) is None
