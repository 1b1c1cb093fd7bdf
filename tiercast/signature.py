"""Voucherify's webhook signature: making it, and saying whether and why one matches.

The header `x-voucherify-signature` is the lower-case hexadecimal HMAC-SHA256 of the body's JSON without
whitespace outside strings; a body that is no JSON is signed as it is. There is no prefix and no timestamp
(https://docs.voucherify.io/api-reference/introduction-to-webhooks). A body is never parsed and written again to check
it: that would change escapes, number forms and the order of keys.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

#: The header that carries the signature.
HEADER = "x-voucherify-signature"

_HEX = re.compile(r"[0-9a-f]{64}")

#: What JSON calls whitespace (RFC 8259, section 2).
_WHITESPACE = b" \t\r\n"

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


NO_HEADER = Verdict(secret=None, reason="no header")
NOT_HEX = Verdict(secret=None, reason="not 64 lower-case hex digits")


def sign(body: bytes, secret: str) -> str:
    """Return the signature of exactly these bytes; strip whitespace first to sign as Voucherify does."""
    return hmac.digest(secret.encode(), body, "sha256").hex()


def strip_whitespace(body: bytes) -> bytes:
    r"""Remove JSON's whitespace outside of string literals, in linear time; the body need not be JSON.

    >>> strip_whitespace(b'{ "a b": "c \\" d",\n "e": 1 }')
    b'{"a b":"c \\" d","e":1}'
    """
    if len(body.translate(None, _WHITESPACE)) == len(body):
        return body
    # Splitting at the strings leaves what is outside of them at the even places.
    parts = _STRING.split(body)
    parts[::2] = [outside.translate(None, _WHITESPACE) for outside in parts[::2]]
    return b"".join(parts)


def verify(body: bytes, header: str | None, secrets: Sequence[str]) -> Verdict:
    """Say whether `header` is the signature of `body` under one of `secrets`, and why; raises nothing.

    The raw bytes are tried first, then the text without whitespace. Digests are compared in constant time.
    """
    if header is None:
        return NO_HEADER
    if not _HEX.fullmatch(header):
        return NOT_HEX
    index = _matching(body, header, secrets)
    if index is not None:
        return Verdict(secret=index, reason=f"secret {index + 1} of {len(secrets)} matches the raw bytes")
    stripped = strip_whitespace(body)
    if len(stripped) != len(body):
        index = _matching(stripped, header, secrets)
        if index is not None:
            reason = f"secret {index + 1} of {len(secrets)} matches the text without whitespace"
            return Verdict(secret=index, reason=reason)
    return Verdict(secret=None, reason=f"no secret of {len(secrets)} matches")


def authenticate(body: bytes, header: str | None, secrets: Sequence[str]) -> Authentic | Verdict:
    """Return the body as `Authentic`, or the verdict that refuses it."""
    verdict = verify(body, header, secrets)
    return Authentic(body) if verdict.ok else verdict


def _matching(text: bytes, header: str, secrets: Sequence[str]) -> int | None:
    for index, secret in enumerate(secrets):
        if hmac.compare_digest(sign(text, secret), header):
            return index
    return None
