"""Reads a request's raw body, never more than the hard limit and never for longer than `BODY_TIMEOUT`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from .connections import BODY_TIMEOUT_SECONDS, READS

#: Bytes that are read at a time.
PIECE_BYTES = 64 * 1024

#: Bytes that are read of a body after an answer that did not need it.
DISCARD_BYTES = 256 * 1024

#: Bodies that are discarded at once in a process; the connections of further ones are closed unread.
DISCARDS = 32

#: Bytes of large bodies that a process holds at once.
ROOM_BYTES = 256 * 1024 * 1024

_discarding = threading.BoundedSemaphore(DISCARDS)


class BodyTooLarge(Exception):
    """The body is above the hard limit."""


class BodyIncomplete(Exception):
    """The body ended before its declared length, or took too long."""


class NoRoom(Exception):
    """The bodies that this process holds leave no room for another large one."""


class Room:
    """Bounds the memory that large bodies take in this process. Bodies of one piece are bounded by the connections."""

    def __init__(self, most: int = ROOM_BYTES) -> None:
        self._left = most
        self._lock = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[Callable[[int], None]]:
        """Give a function that takes bytes of the room or raises NoRoom; all that it took is given back at the end."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            with self._lock:
                if count > self._left:
                    raise NoRoom
                self._left -= count
            taken += count

        try:
            yield take
        finally:
            if taken:
                with self._lock:
                    self._left += taken


ROOM = Room()


def declared_length(environ: dict[str, Any]) -> int | None:
    """The length that a request declares; None where it declares none (chunked, HTTP/2)."""
    declared = environ.get("CONTENT_LENGTH", "")
    if "HTTP_TRANSFER_ENCODING" in environ or not (declared.isascii() and declared.isdigit()):
        return None
    # The length of the text first: a number of thousands of digits is not worth converting.
    return int(declared) if len(declared) <= 18 else 10**18


def read_body(
    environ: dict[str, Any], *, keep: int, most: int, take: Callable[[int], None] | None = None
) -> bytes | Iterator[bytes]:
    """Return the body byte for byte, whatever its type and encoding; above `keep` bytes, its pieces as they come.

    A declared length is judged before anything is read. A body without one is read only from a server that ends the
    input by itself (`wsgi.input_terminated`), at most a byte more than `most`.

    Args:
        keep: bytes up to which the body is returned whole.
        most: bytes of the largest body.
        take: is called with the bytes that are about to be held beyond the first piece; may raise NoRoom.

    Raises:
        BodyTooLarge: it is above `most`; the pieces raise it, too.
        BodyIncomplete: it broke off; the pieces raise it, too.
    """
    length = declared_length(environ)
    if length is None:
        if not environ.get("wsgi.input_terminated"):
            return b""
        return _read_unknown(environ["wsgi.input"], keep, most, take)
    if length > most:
        raise BodyTooLarge
    if length > keep:
        return _pieces(environ["wsgi.input"], length, exact=True)
    if length <= PIECE_BYTES:
        stream = environ["wsgi.input"]
        body = READS.read(stream, length)
        if len(body) == length:
            return body
        # A single read may give less than was asked for.
        return body + b"".join(_pieces(stream, length - len(body), exact=True))
    if take is not None:
        take(length)
    return b"".join(_pieces(environ["wsgi.input"], length, exact=True))


def _read_unknown(stream: Any, keep: int, most: int, take: Callable[[int], None] | None) -> bytes | Iterator[bytes]:
    pieces, size, taken = [], 0, PIECE_BYTES
    # At most a byte above the limit is read, which tells that the body is above it.
    coming = _pieces(stream, most + 1, exact=False)
    for piece in coming:
        pieces.append(piece)
        size += len(piece)
        if size > keep:
            return _bounded(chain(pieces, coming), most)
        if take is not None and size > taken:
            take(PIECE_BYTES)
            taken += PIECE_BYTES
    return b"".join(pieces)


def _bounded(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > most:
            raise BodyTooLarge
        yield piece


def _pieces(stream: Any, size: int, *, exact: bool) -> Iterator[bytes]:
    """Read `size` bytes; fewer at the end of the input are BodyIncomplete where the length is `exact`."""
    left, started = size, time.monotonic()
    while left:
        with READS.since(started):
            piece: bytes = stream.read(min(left, PIECE_BYTES))
        if not piece:
            if exact:
                raise BodyIncomplete
            return
        left -= len(piece)
        if left and time.monotonic() - started > BODY_TIMEOUT_SECONDS:
            raise BodyIncomplete
        yield piece


def discard_body(environ: dict[str, Any], *, most: int = DISCARD_BYTES) -> None:
    """Read and throw away what comes of the body, at most `most` bytes, unless many are discarded already.

    A connection that is closed with unread bytes is reset, and its client may never see the answer.
    """
    length = declared_length(environ)
    if length is None:
        length = most if environ.get("wsgi.input_terminated") else 0
    if not length or not _discarding.acquire(blocking=False):
        return
    try:
        for _ in _pieces(environ["wsgi.input"], min(length, most), exact=False):
            pass
    except BodyIncomplete:
        pass
    finally:
        _discarding.release()
