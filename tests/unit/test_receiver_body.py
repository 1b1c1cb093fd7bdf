"""Reading the body: never above the limit, from any kind of server."""

from __future__ import annotations

import io
from typing import Any

import pytest

from receiver.body import discard_body, read_body


class Drip(io.BytesIO):
    """A stream that gives at most three bytes a time and counts what was taken."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size >= 0, "reads without a limit are not for a public door"
        chunk = super().read(min(size, 3))
        self.taken += len(chunk)
        return chunk


def environ(body: bytes, **more: Any) -> dict[str, Any]:
    return {"wsgi.input": Drip(body), **more}


@pytest.mark.parametrize("size", [0, 1, 9, 10])
def test_declared_body_is_read_to_its_length_and_no_further(size: int) -> None:
    request = environ(b"0123456789 and the next request", CONTENT_LENGTH=str(size))

    assert read_body(request, 10) == b"0123456789"[:size]
    assert request["wsgi.input"].taken == size


@pytest.mark.parametrize("declared", ["11", "9" * 18, "9" * 5000])
def test_body_declared_too_large_is_not_read_at_all(declared: str) -> None:
    request = environ(b"x" * 100, CONTENT_LENGTH=declared)

    assert read_body(request, 10) is None
    assert request["wsgi.input"].taken == 0


@pytest.mark.parametrize("extra", [{}, {"CONTENT_LENGTH": "2", "HTTP_TRANSFER_ENCODING": "chunked"}])
def test_body_without_a_length_is_read_to_one_byte_above_the_limit(extra: dict[str, str]) -> None:
    small = environ(b"0123456789", **{"wsgi.input_terminated": True}, **extra)
    large = environ(b"0" * 100, **{"wsgi.input_terminated": True}, **extra)

    assert read_body(small, 10) == b"0123456789"
    assert read_body(large, 10) is None
    assert large["wsgi.input"].taken == 11


@pytest.mark.parametrize("declared", ["", "abc", "-1", "٣", "1.5"])
def test_no_usable_length_and_no_end_of_input_means_no_body(declared: str) -> None:
    assert read_body(environ(b"whatever", CONTENT_LENGTH=declared), 10) == b""


def test_body_that_breaks_off_is_what_there_was() -> None:
    assert read_body(environ(b"half", CONTENT_LENGTH="8"), 10) == b"half"


def test_discarding_is_bounded() -> None:
    endless = environ(b"x" * 1000, **{"wsgi.input_terminated": True})
    declared = environ(b"x" * 1000, CONTENT_LENGTH="20")
    unknown = environ(b"x" * 1000)

    for request in (endless, declared, unknown):
        discard_body(request, most=100)

    assert [request["wsgi.input"].taken for request in (endless, declared, unknown)] == [100, 20, 0]
