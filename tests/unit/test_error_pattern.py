"""Error patterns: errors that differ in ids, numbers, quotes and addresses are one group."""

from __future__ import annotations

import time

import pytest

from tiercast.error_pattern import MAX_PATTERN_CHARS, error_pattern


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (
            'answered 404: contact "81723" of ada@example.com is unknown (request 7f3a9c21d4)',
            "answered 404: contact <quote> of <email> is unknown (request <hex>)",
        ),
        ("answered 500 Internal Server Error", "answered 500 Internal Server Error"),
        ("422: property hs_tier_1 unknown", "422: property <id> unknown"),
        ("HTTP/1.1 429 Too Many Requests", "HTTP/<n> 429 Too Many Requests"),
        ("SMTP 550 5.1.1 <ada@x.example>: Recipient", "SMTP 550 <n> <<email>>: Recipient"),
        ("[Errno 104] Connection reset by peer", "[Errno <n>] Connection reset by peer"),
        ("timed out after 10.5 s", "timed out after <n> s"),
        ("a newer event was done: voucherify:evcus_5xYq9:crm-tier", "a newer event was done: voucherify:<id>:crm-tier"),
        ("cannot connect to 10.0.0.7:443", "cannot connect to <address>"),
        ("cannot connect to [2001:db8::1]:443", "cannot connect to <address>"),
        ("0198a3c4-7d1e-7a52-b3f0-5f2a9c1d4e6b is gone", "<id> is gone"),
        ("since 2026-03-02T10:00:05.900Z it's away", "since <time> it's away"),
        ("no answer from https://api.example.com/v3/x?id=7, 3 of 5", "no answer from <url>, <n> of <n>"),
        ("it's 'Ada Lovelace' who isn't there", "it's <quote> who isn't there"),
        ("two\n lines\tand  blanks", "two lines and blanks"),
        ("no answer", "no answer"),
        ("", ""),
    ],
)
def test_what_differs_from_case_to_case_is_taken_out(text: str, pattern: str) -> None:
    assert error_pattern(text) == pattern


def test_a_pattern_is_its_own_pattern() -> None:
    for text in ("answered 404: contact 81723 of ada@example.com", "no answer from https://x.example/y, 3 of 5"):
        assert error_pattern(error_pattern(text)) == error_pattern(text)


@pytest.mark.parametrize("piece", ["a", "a@", "1.", "'", "ab:", "0x", "-", "a_1", '"', "http://"])
def test_no_text_takes_long_and_no_pattern_is_long(piece: str) -> None:
    started = time.process_time()
    pattern = error_pattern(piece * 100_000)
    assert time.process_time() - started < 0.5
    assert len(pattern) <= MAX_PATTERN_CHARS
