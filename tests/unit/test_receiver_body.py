"""Reading the body: never above the limits, from any kind of server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from receiver.body import PIECE_BYTES, BodyIncomplete, BodyTooLarge, NoRoom, Room, discard_body, read_body


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

    assert read_body(request, keep=10, most=20) == b"0123456789"[:size]
    assert request["wsgi.input"].taken == size


@pytest.mark.parametrize("declared", ["21", "9" * 18, "9" * 5000])
def test_body_declared_above_the_hard_limit_is_not_read_at_all(declared: str) -> None:
    request = environ(b"x" * 100, CONTENT_LENGTH=declared)

    with pytest.raises(BodyTooLarge):
        read_body(request, keep=10, most=20)
    assert request["wsgi.input"].taken == 0


def test_body_above_what_is_kept_comes_in_pieces() -> None:
    declared = read_body(environ(b"0123456789abcdef", CONTENT_LENGTH="16"), keep=10, most=20)
    chunked = read_body(environ(b"0123456789abcdef", **{"wsgi.input_terminated": True}), keep=10, most=20)

    for pieces in (declared, chunked):
        assert isinstance(pieces, Iterator)
        assert b"".join(pieces) == b"0123456789abcdef"


@pytest.mark.parametrize("extra", [{}, {"CONTENT_LENGTH": "2", "HTTP_TRANSFER_ENCODING": "chunked"}])
def test_body_without_a_length_is_read_to_one_byte_above_the_hard_limit(extra: dict[str, str]) -> None:
    small = environ(b"0123456789", **{"wsgi.input_terminated": True}, **extra)
    large = environ(b"0" * 100, **{"wsgi.input_terminated": True}, **extra)

    assert read_body(small, keep=10, most=20) == b"0123456789"
    pieces = read_body(large, keep=10, most=20)
    assert isinstance(pieces, Iterator)
    with pytest.raises(BodyTooLarge):
        list(pieces)
    assert large["wsgi.input"].taken == 21


@pytest.mark.parametrize("declared", ["", "abc", "-1", "٣", "1.5"])
def test_no_usable_length_and_no_end_of_input_means_no_body(declared: str) -> None:
    assert read_body(environ(b"whatever", CONTENT_LENGTH=declared), keep=10, most=20) == b""


@pytest.mark.parametrize("keep", [10, 4])
def test_body_that_breaks_off_is_none(keep: int) -> None:
    with pytest.raises(BodyIncomplete):
        b"".join(read_body(environ(b"half", CONTENT_LENGTH="8"), keep=keep, most=20))  # type: ignore[arg-type]


def test_large_bodies_share_a_room_and_give_it_back() -> None:
    room, size = Room(most=3 * PIECE_BYTES), 2 * PIECE_BYTES
    body = b"x" * size

    def read(**more: Any) -> bytes:
        with room.take() as take:
            found = read_body({"wsgi.input": io.BytesIO(body), **more}, keep=size, most=size, take=take)
            assert isinstance(found, bytes)
            return found

    # Given one that is held, when others come, then there is room for no other large one, declared or not
    with room.take() as take:
        take(size)
        with pytest.raises(NoRoom):
            read(CONTENT_LENGTH=str(size))
        body = b"x" * PIECE_BYTES
        assert read(CONTENT_LENGTH=str(PIECE_BYTES)) == body
        body = b"x" * size
        take(PIECE_BYTES)
        with pytest.raises(NoRoom):
            read(**{"wsgi.input_terminated": True})

    # And when it is gone, then there is
    for _ in range(3):
        assert read(CONTENT_LENGTH=str(size)) == body
        assert read(**{"wsgi.input_terminated": True}) == body


def test_discarding_is_bounded() -> None:
    endless = environ(b"x" * 1000, **{"wsgi.input_terminated": True})
    declared = environ(b"x" * 1000, CONTENT_LENGTH="20")
    unknown = environ(b"x" * 1000)

    for request in (endless, declared, unknown):
        discard_body(request, most=100)

    assert [request["wsgi.input"].taken for request in (endless, declared, unknown)] == [100, 20, 0]
