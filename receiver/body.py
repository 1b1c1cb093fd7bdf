"""Reads a request's raw body, never more than the limit of it."""

from __future__ import annotations

from typing import Any

from .slow import READS


def read_body(environ: dict[str, Any], limit: int) -> bytes | None:
    """Return the body byte for byte, whatever its type and encoding; None if it is above `limit` bytes.

    A declared length is judged before anything is read. Without one (chunked, HTTP/2) at most a byte more
    than the limit is read, and only from a server that ends the input by itself (`wsgi.input_terminated`).
    The body is shorter than declared where the client broke off; its signature cannot match then.
    """
    declared = environ.get("CONTENT_LENGTH", "")
    if "HTTP_TRANSFER_ENCODING" in environ or not (declared.isascii() and declared.isdigit()):
        if not environ.get("wsgi.input_terminated"):
            return b""
        body = _read(environ["wsgi.input"], limit + 1)
        return body if len(body) <= limit else None
    # The length of the text first: a number of thousands of digits is not worth converting.
    if len(declared) > 18 or int(declared) > limit:
        return None
    return _read(environ["wsgi.input"], int(declared))


def discard_body(environ: dict[str, Any], *, most: int = 16 * 1024 * 1024) -> None:
    """Read and throw away what is left of the body, at most `most` bytes of it, a little at a time."""
    declared = environ.get("CONTENT_LENGTH", "")
    if environ.get("wsgi.input_terminated"):
        left = most
    elif declared.isascii() and declared.isdigit() and len(declared) <= 18:
        left = min(int(declared), most)
    else:
        left = 0
    stream = environ["wsgi.input"]
    with READS:
        while left > 0 and (chunk := stream.read(min(left, 64 * 1024))):
            left -= len(chunk)


def _read(stream: Any, size: int) -> bytes:
    """Read `size` bytes, or fewer at the end of the input; a single read may give less than was asked for."""
    with READS:
        body: bytes = stream.read(size)
        while len(body) < size and (more := stream.read(size - len(body))):
            body += more
    return body
