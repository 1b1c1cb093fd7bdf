"""Voucherify's webhook signature: making it, and saying whether and why one matches.

The header `x-voucherify-signature` is the lower-case hexadecimal HMAC-SHA256 of the body's JSON without
whitespace outside strings; a body that is no JSON is signed as it is. There is no prefix and no timestamp
(https://docs.voucherify.io/api-reference/introduction-to-webhooks). A body is never parsed and written again to check
it: that would change escapes, number forms and the order of keys.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

#: The header that carries the signature.
HEADER = "x-voucherify-signature"

_HEX = re.compile(r"[0-9a-f]{64}")

#: What JSON calls whitespace (RFC 8259, section 2).
_WHITESPACE = b" \t\r\n"

#: Bytes of a body up to which whitespace is found with `_STRING`, a match for each string; see `Compactor`.
_SMALL = 4096

#: Bytes of a body that are checked at a time, so that other threads get the interpreter in between.
PIECE_BYTES = 16 * 1024

#: A string literal, whatever it holds; one that never ends runs to the end of the body. All quantifiers are
#: possessive, so that hostile input costs linear time.
_STRING = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+"?+)', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a signature matches.

    `secret` is the index of the secret that matched, or None. `reason` says in words which text and secret
    matched, or why none did; it names neither the secret nor the body, so it can be logged.
    """

    secret: int | None
    reason: str

    @property
    def ok(self) -> bool:
        """Whether the body is authentic."""
        return self.secret is not None


@dataclass(frozen=True, slots=True)
class Authentic:
    """A body whose signature matched, byte for byte as it arrived. Only `authenticate` makes one."""

    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticStream:
    """A body whose signature matched while it streamed by: it was not kept. Only `authenticate_stream` makes one.

    `size` is bytes, `sha256` the lower-case hexadecimal digest of the raw bytes.
    """

    size: int
    sha256: str


NO_HEADER = Verdict(secret=None, reason="no header")
NOT_HEX = Verdict(secret=None, reason="not 64 lower-case hex digits")


def sign(body: bytes, secret: str) -> str:
    """Return the signature of exactly these bytes; strip whitespace first to sign as Voucherify does."""
    return hmac.digest(secret.encode(), body, "sha256").hex()


def strip_whitespace(body: bytes) -> bytes:
    r"""Remove JSON's whitespace outside of string literals, in linear time; the body need not be JSON.

    A large body that cannot be JSON comes back as it is: that is how it was signed.

    >>> strip_whitespace(b'{ "a b": "c \\" d",\n "e": 1 }')
    b'{"a b":"c \\" d","e":1}'
    """
    if len(body.translate(None, _WHITESPACE)) == len(body):
        return body
    if len(body) > _SMALL:
        compactor = Compactor()
        parts = [compactor.feed(piece) for piece in _pieces(body)]
        return body if compactor.failed else b"".join(parts) + compactor.end()
    # Splitting at the strings leaves what is outside of them at the even places.
    parts = _STRING.split(body)
    parts[::2] = [outside.translate(None, _WHITESPACE) for outside in parts[::2]]
    return b"".join(parts)


#: What whitespace inside of a string is written as while that outside is deleted: bytes that no UTF-8 text holds.
_KEPT = {0x20: 0xC0, 0x09: 0xF9, 0x0A: 0xFA, 0x0D: 0xFD}


def _table(*pairs: tuple[int, int], other: int | None = None) -> bytes:
    """A table for `bytes.translate`; a byte that is not named stays, or becomes `other`."""
    return bytes(dict(pairs).get(byte, byte if other is None else other) for byte in range(256))


_IMPOSSIBLE = bytes(_KEPT.values())
_QUOTES = _table((ord('"'), 0xFF), other=0)
_BACKSLASHES = _table((ord("\\"), 0xFF), other=0)
_TO_KEPT = _table(*((byte, byte ^ kept) for byte, kept in _KEPT.items()), other=0)
_FROM_KEPT = _table(*((kept, byte) for byte, kept in _KEPT.items()))


class Compactor:
    """Removes JSON's whitespace outside of string literals from a body that comes in pieces.

    The cost of a piece does not depend on what it holds. With a match for each string, a refused body of 256 KiB that
    consists of quotes and blanks held the interpreter for 20 ms; so it costs 4 ms, in 16 parts. The bytes of a piece
    are the digits of a large number, base 256. Where the digits of a mask are 255 at each quote, the exclusive or of
    each digit with all before it (18 shifts, not one step a byte) is 255 exactly inside of the strings.
    """

    def __init__(self) -> None:
        self._inside = False
        self._held = b""
        #: Whether the body cannot be JSON: a backslash outside of a string, or bytes that are not UTF-8.
        self.failed = False

    def feed(self, piece: bytes) -> bytes:
        """Return what of the text is known to stay; nothing once `failed` is set."""
        text = self._held + piece
        # A last backslash waits for the byte that it escapes.
        odd = (len(text) - len(text.rstrip(b"\\"))) % 2
        self._held = text[len(text) - odd :]
        text = text[: len(text) - odd]
        size = len(text)
        if self.failed or not size:
            return b""
        if len(text.translate(None, _IMPOSSIBLE)) != size:
            self.failed = True
            return b""
        escapes = b"\\" in text
        quotes = text.replace(b"\\\\", b"__").replace(b'\\"', b"__") if escapes else text
        inside = _number(quotes.translate(_QUOTES)) ^ (0xFF if self._inside else 0)
        shift = 8
        while shift < 8 * size:
            inside ^= inside << shift
            shift *= 2
        inside &= (1 << 8 * size) - 1
        self._inside = inside >> 8 * (size - 1) != 0
        if escapes and _number(text.translate(_BACKSLASHES)) & ~inside:
            self.failed = True
            return b""
        marked = _number(text) ^ (_number(text.translate(_TO_KEPT)) & inside)
        return marked.to_bytes(size, "little").translate(None, _WHITESPACE).translate(_FROM_KEPT)

    def end(self) -> bytes:
        """Return what was held back; a body that ends in a backslash ends so."""
        held, self._held = self._held, b""
        return b"" if self.failed else held


def _number(text: bytes) -> int:
    return int.from_bytes(text, "little")


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


def verify(body: bytes, header: str | None, secrets: Sequence[str]) -> Verdict:
    """Say whether `header` is the signature of `body` under one of `secrets`, and why; raises nothing.

    The raw bytes are tried first, then the text without whitespace. Digests are compared in constant time.
    """
    if fault := header_fault(header):
        return fault
    assert header is not None  # noqa: S101 - header_fault has refused that
    index = _matching(body, header, secrets)
    if index is not None:
        return Verdict(secret=index, reason=f"secret {index + 1} of {len(secrets)} matches the raw bytes")
    stripped = strip_whitespace(body)
    if len(stripped) != len(body):
        index = _matching(stripped, header, secrets)
        if index is not None:
            reason = f"secret {index + 1} of {len(secrets)} matches the text without whitespace"
            return Verdict(secret=index, reason=reason)
    return _no_match(secrets)


def header_fault(header: str | None) -> Verdict | None:
    """Refuse a header that cannot match whatever the body is; None for one that can."""
    if header is None:
        return NO_HEADER
    return None if _HEX.fullmatch(header) else NOT_HEX


def authenticate(body: bytes, header: str | None, secrets: Sequence[str]) -> Authentic | Verdict:
    """Return the body as `Authentic`, or the verdict that refuses it."""
    verdict = verify(body, header, secrets)
    return Authentic(body) if verdict.ok else verdict


def authenticate_stream(
    pieces: Iterable[bytes], header: str | None, secrets: Sequence[str]
) -> AuthenticStream | Verdict:
    """Check a body piece by piece, as `authenticate` does a whole one, without keeping it."""
    if fault := header_fault(header):
        return fault
    assert header is not None  # noqa: S101 - header_fault has refused that
    raw, stripped = _Digests(secrets), _Digests(secrets)
    content, compactor, size = hashlib.sha256(), Compactor(), 0
    for piece in pieces:
        size += len(piece)
        content.update(piece)
        raw.update(piece)
        # A body that breaks off being JSON was not signed in this form, so what is missing here matters no more.
        stripped.update(compactor.feed(piece))
    stripped.update(compactor.end())
    matches = [raw.matching(header)]
    if not compactor.failed:
        matches.append(stripped.matching(header))
    if all(match is None for match in matches):
        return _no_match(secrets)
    return AuthenticStream(size=size, sha256=content.hexdigest())


class _Digests:
    """The signatures of a growing text, one under each secret."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._under_each = [hmac.new(secret.encode(), digestmod="sha256") for secret in secrets]

    def update(self, piece: bytes) -> None:
        for digest in self._under_each:
            digest.update(piece)

    def matching(self, header: str) -> int | None:
        """The index of the secret under which the text has this signature."""
        for index, digest in enumerate(self._under_each):
            if hmac.compare_digest(digest.hexdigest(), header):
                return index
        return None


def _no_match(secrets: Sequence[str]) -> Verdict:
    return Verdict(secret=None, reason=f"no secret of {len(secrets)} matches")


def _matching(text: bytes, header: str, secrets: Sequence[str]) -> int | None:
    for index, secret in enumerate(secrets):
        if hmac.compare_digest(sign(text, secret), header):
            return index
    return None
