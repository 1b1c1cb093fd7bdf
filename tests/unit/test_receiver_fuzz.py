"""Any environment that a server may hand over: the app answers, and never with a fault."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.app import create_app
from receiver.commit import Triple
from tiercast.config.model import Source
from tiercast.ringer import BellRinger
from tiercast.settings import load_settings
from tiercast.signature import sign


@dataclass
class Bells:
    bells: Sequence[str] = ()


class Nowhere:
    """Stores nothing and says that all is well."""

    def record(self, deliveries: Sequence[Triple], *, due_ms: Sequence[int] | None = None) -> Bells:
        return Bells()

    def ping(self) -> None:
        pass


APP = create_app(
    load_settings({}), {"shop": Source(name="shop", secrets=("s",))}, Nowhere(), BellRinger(lambda lane: None)
)

#: What WSGI servers make of bytes: one character for each.
latin = st.text(st.characters(max_codepoint=255), max_size=50)
paths = st.one_of(
    st.sampled_from(["/webhooks/shop", "/webhooks/shop/", "/healthz", ""]), latin.map("/webhooks/".__add__), latin
)
lengths = st.one_of(st.integers(-5, 300_000).map(str), latin)
headers = st.dictionaries(
    st.sampled_from(
        [
            "HTTP_HOST",
            "HTTP_TRANSFER_ENCODING",
            "HTTP_EXPECT",
            "CONTENT_TYPE",
            "HTTP_X_FORWARDED_FOR",
            "HTTP_COOKIE",
            "HTTP_RANGE",
        ]
    ),
    latin,
)


@settings(max_examples=300, deadline=None)
@given(
    method=st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "PUT", "\xff"]),
    path=paths, query=latin, length=st.none() | lengths, more=headers, body=st.binary(max_size=300),
    signature=st.none() | st.just("right") | latin, terminated=st.booleans(),
)  # fmt: skip
def test_whatever_comes_is_answered_without_a_fault(
    method: str, path: str, query: str, length: str | None, more: dict[str, str], body: bytes,
    signature: str | None, terminated: bool,
) -> None:  # fmt: skip
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "SCRIPT_NAME": "", "SERVER_NAME": "x",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO(), "wsgi.input_terminated": terminated, **more,
    }  # fmt: skip
    if length is not None:
        environ["CONTENT_LENGTH"] = length
    if signature is not None:
        environ["HTTP_X_VOUCHERIFY_SIGNATURE"] = sign(body, "s") if signature == "right" else signature
    started: list[str] = []

    def start(status: str, headers: Any, exc_info: Any = None, /) -> Callable[[bytes], object]:
        started.append(status)
        return lambda data: None

    answer = APP.wsgi_app(environ, start)
    b"".join(answer)

    assert started[0][:1] in "24"
