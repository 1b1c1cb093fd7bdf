"""The signature: what must verify, what must not, and that no input breaks it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercast.signature import (
    Authentic,
    AuthenticStream,
    Compactor,
    Verdict,
    authenticate,
    authenticate_stream,
    sign,
    strip_whitespace,
    verify,
)

SECRET = "a-secret-of-ours"
BODY = b'{"type":"customer.loyalty.tier.joined","data":{"note":"spaces  stay \\" here","n":1e3}}'
#: HMAC-SHA256 of BODY under SECRET, made with `openssl dgst -sha256 -hmac`.
DIGEST = "eca07aab73363f891f8924fdf048daba05e0d25c3399ef73054e052202419abe"

PRETTY = b"""{
  "type" : "customer.loyalty.tier.joined",\r
\t"data": { "note":\t"spaces  stay \\" here", "n": 1e3 }
}
"""

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
#: Bytes that are likely to open, close and confuse string literals.
confusing = st.lists(st.sampled_from([b'"', b"\\", b" ", b"\n", b"\t", b"a", b"{", b"\xff", b"\\u0022"])).map(b"".join)


def compact(document: Any, *, ascii_only: bool = True) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=ascii_only).encode()


def test_signature_is_the_hmac_of_the_bytes() -> None:
    assert sign(BODY, SECRET) == DIGEST


def test_raw_bytes_match() -> None:
    verdict = verify(BODY, DIGEST, [SECRET])

    assert verdict.ok
    assert verdict.reason == "secret 1 of 1 matches the raw bytes"


def test_pretty_printed_body_matches_the_signature_of_its_compact_form() -> None:
    verdict = verify(PRETTY, DIGEST, [SECRET])

    assert verdict.ok
    assert verdict.reason == "secret 1 of 1 matches the text without whitespace"


def test_body_signed_as_it_is_matches_though_it_holds_whitespace() -> None:
    assert verify(b"  no json  ", sign(b"  no json  ", SECRET), [SECRET]).ok


def test_any_of_several_secrets_matches_and_the_verdict_says_which() -> None:
    verdict = verify(BODY, DIGEST, ["retired", SECRET, "next"])

    assert verdict.secret == 1
    assert verdict.reason == "secret 2 of 3 matches the raw bytes"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "no header"),
        ("", "not 64 lower-case hex digits"),
        (DIGEST.upper(), "not 64 lower-case hex digits"),
        (DIGEST[:-1], "not 64 lower-case hex digits"),
        (DIGEST + "0", "not 64 lower-case hex digits"),
        (DIGEST + "\n", "not 64 lower-case hex digits"),
        ("sha256=" + DIGEST, "not 64 lower-case hex digits"),
        (DIGEST[:-1] + "é", "not 64 lower-case hex digits"),
        ("٣" * 64, "not 64 lower-case hex digits"),
        ("\ud800" * 64, "not 64 lower-case hex digits"),
        ("0" * 64, "no secret of 2 matches"),
    ],
)
def test_refusal_names_its_reason(header: str | None, reason: str) -> None:
    verdict = verify(BODY, header, [SECRET, "other"])

    assert verdict == Verdict(secret=None, reason=reason)
    assert not verdict.ok


def test_no_secrets_match_nothing() -> None:
    assert verify(BODY, DIGEST, []).reason == "no secret of 0 matches"


def test_only_a_matching_body_becomes_authentic_and_shows_nothing_of_itself() -> None:
    checked = authenticate(PRETTY, DIGEST, [SECRET])

    assert isinstance(checked, Authentic)
    assert checked.body == PRETTY
    assert "spaces" not in repr(checked)
    assert isinstance(authenticate(PRETTY + b"!", DIGEST, [SECRET]), Verdict)


def test_every_changed_byte_is_refused() -> None:
    for place in range(len(BODY)):
        changed = bytearray(BODY)
        changed[place] ^= 1
        assert not verify(bytes(changed), DIGEST, [SECRET]).ok, place


@given(documents)
def test_stripping_pretty_json_gives_the_compact_form(document: Any) -> None:
    for ascii_only in (True, False):
        pretty = json.dumps(document, indent=3, ensure_ascii=ascii_only).encode()
        assert strip_whitespace(pretty) == compact(document, ascii_only=ascii_only)


@given(documents)
def test_stripping_leaves_the_compact_form_alone(document: Any) -> None:
    assert strip_whitespace(compact(document)) == compact(document)


@given(st.binary() | confusing)
def test_stripping_is_idempotent_and_removes_only_whitespace(body: bytes) -> None:
    stripped = strip_whitespace(body)

    assert strip_whitespace(stripped) == stripped
    assert without_whitespace(stripped) == without_whitespace(body)


@given(st.binary() | confusing)
def test_stripping_agrees_with_a_scan_by_hand(body: bytes) -> None:
    assert strip_whitespace(body) == b"".join(kept_by_hand(body))


def pieces_of(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


@given(documents | confusing.map(repr), st.integers(1, 9))
def test_stripping_piece_by_piece_gives_the_compact_form(document: Any, size: int) -> None:
    for ascii_only in (True, False):
        compactor = Compactor()
        pretty = json.dumps(document, indent=3, ensure_ascii=ascii_only).encode()
        found = b"".join(compactor.feed(piece) for piece in pieces_of(pretty, size)) + compactor.end()
        assert not compactor.failed
        assert found == compact(document, ascii_only=ascii_only)


@given(st.binary() | confusing, st.integers(1, 9))
def test_stripping_piece_by_piece_agrees_with_a_scan_by_hand_or_gives_up(body: bytes, size: int) -> None:
    compactor = Compactor()
    found = b"".join(compactor.feed(piece) for piece in pieces_of(body, size)) + compactor.end()
    assert compactor.failed or found == b"".join(kept_by_hand(body))


def test_a_large_pretty_body_matches_whole_and_in_pieces() -> None:
    document = [{"a b": 'c "d" \\ e', "é ü": [1, 2.50]}] * 5000
    body = json.dumps(document, indent=2, ensure_ascii=False).encode()
    for text in (body, compact(document, ascii_only=False)):
        header = sign(text, SECRET)
        assert verify(body, header, ["other", SECRET]).ok
        found = authenticate_stream(pieces_of(body, 1000), header, ["other", SECRET])
        assert found == AuthenticStream(size=len(body), sha256=hashlib.sha256(body).hexdigest())
        assert isinstance(authenticate_stream(pieces_of(body + b"!", 1000), header, [SECRET]), Verdict)


@given(st.binary() | confusing, st.integers(1, 9), st.booleans())
def test_a_stream_is_authentic_exactly_if_the_whole_is(body: bytes, size: int, changed: bool) -> None:
    header = sign(body + b"x" if changed else body, SECRET)
    assert isinstance(authenticate_stream(pieces_of(body, size), header, [SECRET]), AuthenticStream) is not changed


@given(st.binary() | confusing, st.none() | st.text() | st.text(alphabet="0123456789abcdef", min_size=64, max_size=64))
def test_verify_never_raises(body: bytes, header: str | None) -> None:
    assert not verify(body, header, [SECRET]).ok


@given(st.binary() | confusing, st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
def test_what_is_signed_verifies_raw_and_stripped(body: bytes, secret: str) -> None:
    assert verify(body, sign(body, secret), [secret]).ok
    assert verify(body, sign(strip_whitespace(body), secret), [secret]).ok


@pytest.mark.parametrize("unit", [b'"', b'"\\', b"\\", b'" ', b"a ", b'"a" ', b'\\"', b'"\\" ', b" "])
def test_hostile_bodies_of_the_largest_size_take_linear_time(unit: bytes) -> None:
    body = unit * (256 * 1024 // len(unit))
    started = time.process_time()

    strip_whitespace(body)

    # Linear is some 50 ms on a slow machine; quadratic would be minutes.
    assert time.process_time() - started < 2


def without_whitespace(body: bytes) -> bytes:
    return body.translate(None, b" \t\r\n")


def kept_by_hand(body: bytes) -> Iterator[bytes]:
    """The same rule, one byte at a time."""
    inside = escaped = False
    for code in body:
        byte = bytes([code])
        if inside:
            yield byte
            if escaped:
                escaped = False
            elif byte == b"\\":
                escaped = True
            elif byte == b'"':
                inside = False
        elif byte not in b" \t\r\n":
            yield byte
            inside = byte == b'"'


def published() -> list[dict[str, Any]]:
    """The sender's published signatures, where the reference material is present."""
    shared = Path(os.environ.get("TIERCAST_SHARED") or Path(__file__).parents[2].parent / "shared")
    path = shared / "voucherify" / "signature_vectors.json"
    return json.loads(path.read_text()) if path.exists() else []


@pytest.mark.skipif(not published(), reason="the reference material is not here")
def test_published_signatures_verify_and_with_one_byte_changed_do_not() -> None:
    for vector in published():
        body, header, secrets = vector["body"].encode(), vector["hex"], [vector["secret"]]
        assert verify(body, header, secrets).ok
        for place in range(len(body)):
            changed = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
            assert not verify(changed, header, secrets).ok
