"""What an answer means, what a message may show, and which addresses are public."""

from __future__ import annotations

import httpx
import pytest

from tiercast.actions import Halt, Permanent, RetryLater
from tiercast.outbound import (
    AddressRefused,
    classify,
    is_public,
    personal_values,
    redact,
    refuse_private_host,
    retry_after,
)
from tiercast.samples import sample_event


def answer(status: int, body: object = None, **headers: str) -> httpx.Response:
    request = httpx.Request("POST", "https://api.example.com/x")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is None:
        return httpx.Response(status, headers=named, request=request)
    return httpx.Response(status, headers=named, json=body, request=request)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 207])
def test_2xx_is_done(status: int) -> None:
    classify(answer(status))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, Permanent),
        (302, Permanent),
        (304, Permanent),
        (400, Permanent),
        (401, Halt),
        (403, Halt),
        (404, Permanent),
        (408, RetryLater),
        (409, Permanent),
        (410, Permanent),
        (422, Permanent),
        (425, RetryLater),
        (429, RetryLater),
        (500, RetryLater),
        (502, RetryLater),
        (503, RetryLater),
        (504, RetryLater),
        (599, RetryLater),
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
    assert (raised.value.after, raised.value.everyone) == (120.0, False)


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
        {"code": 4, "details": "no such list"},
        ["no such list"],
    ],
)
def test_the_vendors_own_words_are_told(body: object) -> None:
    with pytest.raises(Permanent, match="answered 400: no such list"):
        classify(answer(400, body))


def test_a_page_of_html_is_not() -> None:
    page = httpx.Response(
        400, html="<html>secret page</html>", request=httpx.Request("GET", "https://api.example.com/")
    )
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
