"""Every answer of the receiver, through Flask's test client, with a store that lives in memory."""

from __future__ import annotations

import ast
import gzip
import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from receiver.app import create_app
from receiver.commit import Triple
from receiver.enqueue import Enqueue
from receiver.fast_path import Shortcut
from receiver.refusals import Refusals
from tiercast.config.model import Source
from tiercast.errors import LedgerError, LedgerFull, LedgerUnavailable
from tiercast.ids import received_ms
from tiercast.oversized import Oversized
from tiercast.ringer import BellRinger
from tiercast.settings import HARD_MAX_BODY, load_settings
from tiercast.signature import sign

SECRET = "shop-secret"
BODY = b'{"type": "customer.loyalty.tier.joined", "data": {"customer": {"email": "ada@example.com"}}}'
LIMIT = 1024


@dataclass(frozen=True)
class Bells:
    bells: Sequence[str]


class Memory:
    """Stores in a list, or raises what a test told it to."""

    def __init__(self) -> None:
        self.stored: list[Triple] = []
        self.error: Exception | None = None

    def record(self, deliveries: Sequence[Triple], *, due_ms: Sequence[int] | None = None) -> Bells:
        if self.error is not None:
            raise self.error
        self.stored.extend(deliveries)
        return Bells([f"deliveries/{deliveries[0][0]}"])

    def ping(self) -> None:
        if self.error is not None:
            raise self.error


class Silent(BellRinger):
    """Notes what it should ring."""

    def __init__(self) -> None:
        super().__init__(lambda lane: None)
        self.asked: list[str] = []

    def ring(self, lanes: Any) -> None:
        self.asked.extend(lanes)


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def bells() -> Silent:
    return Silent()


@pytest.fixture
def refusals() -> Refusals:
    return Refusals()


@pytest.fixture(params=["shortcut", "flask"])
def client(request: pytest.FixtureRequest, store: Memory, bells: Silent, refusals: Refusals) -> Iterator[FlaskClient]:
    """A client of the app as it is, and of Flask's own route: both must answer alike."""
    sources = {
        "shop": Source(name="shop", secrets=("retired", SECRET)),
        "other": Source(name="other", secrets=("other-secret",)),
    }
    app = create_app(replace(load_settings({}), max_body=LIMIT), sources, store, bells, refusals=refusals)
    assert isinstance(app.wsgi_app, Shortcut)
    if request.param == "flask":
        app.wsgi_app = app.wsgi_app.flask  # type: ignore[method-assign, assignment]
    with app.test_client() as client:
        yield client


def post(
    client: FlaskClient,
    body: bytes = BODY,
    *,
    to: str = "/webhooks/shop",
    signature: str | None = None,
    headers: dict[str, str] | None = None,
) -> TestResponse:
    signed = {"x-voucherify-signature": signature or sign(body, SECRET)}
    return client.post(to, data=body, headers={**signed, **(headers or {})})


def test_authentic_delivery_is_stored_then_acknowledged_then_rung(
    client: FlaskClient, store: Memory, bells: Silent
) -> None:
    answer = post(client)

    assert answer.status_code == 202
    assert answer.content_type == "application/json"
    assert answer.json is not None
    assert list(answer.json) == ["delivery"]
    assert received_ms(answer.json["delivery"]) > 1_700_000_000_000
    assert store.stored == [("shop", answer.json["delivery"], BODY)]
    assert bells.asked == ["deliveries/shop"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"null", {}),
        (b"no json \x00\xff\xfe", {"content-type": "text/plain"}),
        (b'{"broken": ', {"content-type": "application/json"}),
        (b"a=1&b=2", {"content-type": "application/x-www-form-urlencoded"}),
        (b"--x\r\n", {"content-type": "multipart/form-data; boundary=x"}),
        (gzip.compress(BODY, mtime=0), {"content-encoding": "gzip"}),
        (b"x" * LIMIT, {}),
    ],
)
def test_any_authentic_body_is_stored_byte_for_byte(
    client: FlaskClient, store: Memory, body: bytes, headers: dict[str, str]
) -> None:
    assert post(client, body, headers=headers).status_code == 202
    assert store.stored[0][2] == body


def test_pretty_printed_body_is_stored_as_it_came(client: FlaskClient, store: Memory) -> None:
    pretty = b'{\n  "a" : 1\n}\n'

    answer = post(client, pretty, signature=sign(b'{"a":1}', SECRET))

    assert answer.status_code == 202
    assert store.stored[0][2] == pretty


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (None, "no header"),
        ("", "not 64 lower-case hex digits"),
        (sign(BODY, SECRET).upper(), "not 64 lower-case hex digits"),
        (sign(BODY, SECRET)[:-1], "not 64 lower-case hex digits"),
        ("\xe9" * 64, "not 64 lower-case hex digits"),
        (sign(BODY, "wrong"), "no secret of 2 matches"),
        (sign(BODY, "other-secret"), "no secret of 2 matches"),
        (sign(BODY + b" ", SECRET), "no secret of 2 matches"),
    ],
)
def test_unauthentic_request_is_refused_logged_and_not_stored(
    client: FlaskClient, store: Memory, signature: str | None, reason: str
) -> None:
    headers = {} if signature is None else {"x-voucherify-signature": signature}
    with capture_logs() as logs:
        answer = client.post("/webhooks/shop", data=BODY, headers=headers)

    assert (answer.status_code, answer.json) == (401, {"error": "no valid signature"})
    assert store.stored == []
    assert logs == [{"event": "delivery.refused", "log_level": "warning", "source": "shop", "reason": reason}]


def test_secret_of_another_source_does_not_open_this_one(client: FlaskClient) -> None:
    assert post(client, to="/webhooks/other").status_code == 401


def test_unknown_source_is_404_and_its_name_is_not_logged(client: FlaskClient, store: Memory) -> None:
    with capture_logs() as logs:
        answer = post(client, to="/webhooks/ada@example.com")

    assert (answer.status_code, answer.json) == (404, {"error": "unknown source"})
    assert store.stored == []
    assert logs[0]["known"] == "shop, other"
    assert "ada" not in str(logs)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_405_and_name_the_one(client: FlaskClient, method: str) -> None:
    answer = client.open("/webhooks/shop", method=method)

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    assert answer.data == (b"" if method == "HEAD" else b'{"error": "method not allowed"}\n')


@pytest.mark.parametrize("path", ["/", "/webhooks", "/webhooks/shop/more", "/favicon.ico", "/%ff%00"])
def test_other_paths_are_404_in_json(client: FlaskClient, path: str) -> None:
    answer = post(client, to=path)

    assert (answer.status_code, answer.json) == (404, {"error": "not found"})


def test_trailing_slash_is_no_redirect(client: FlaskClient) -> None:
    assert post(client, to="/webhooks/shop/").status_code == 202


@pytest.mark.parametrize("length", [LIMIT + 1, 300_000])
@pytest.mark.parametrize("pretty", [False, True])
def test_authentic_body_above_the_limit_is_acknowledged_and_a_note_of_it_is_stored(
    client: FlaskClient, store: Memory, length: int, pretty: bool
) -> None:
    body = b'{"text": "' + b"x " * (length // 2) + b'"}'
    answer = post(client, body, signature=sign(body.replace(b": ", b":"), SECRET) if pretty else None)

    assert answer.status_code == 202
    assert answer.json is not None
    digest = hashlib.sha256(body).hexdigest()
    note = Oversized(size=len(body), sha256=digest)
    assert [(delivery, Oversized.from_body(stored)) for _, delivery, stored in store.stored] == [
        (answer.json["delivery"], note)
    ]
    assert f"{len(body)} bytes" in note.reason
    assert digest in note.reason


def test_unauthentic_body_above_the_limit_is_refused(client: FlaskClient, store: Memory) -> None:
    assert post(client, b"x" * (LIMIT + 1), signature=sign(b"x" * LIMIT, SECRET)).status_code == 401
    assert store.stored == []


def test_body_above_the_hard_limit_is_413_though_authentic(client: FlaskClient, store: Memory) -> None:
    assert post(client, b"x" * HARD_MAX_BODY).status_code == 202
    store.stored.clear()

    answer = post(client, b"x" * (HARD_MAX_BODY + 1))

    assert (answer.status_code, answer.json) == (413, {"error": "body too large"})
    assert answer.headers["Connection"] == "close"
    assert store.stored == []


class Untouchable:
    """An input that must not be read."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("the body was read")


def test_declared_length_is_judged_before_the_body_is_read(client: FlaskClient) -> None:
    started: list[str] = []

    def start(status: str, headers: Any, exc_info: Any = None, /) -> Callable[[bytes], object]:
        started.append(status)
        return lambda data: None

    environ = {
        **client.application.test_request_context("/webhooks/shop", method="POST").request.environ,
        "CONTENT_LENGTH": str(10**7),
        "HTTP_X_VOUCHERIFY_SIGNATURE": "0" * 64,
        "wsgi.input": Untouchable(),
    }

    answer = client.application.wsgi_app(environ, start)

    # The first piece of the answer is there before anything is read.
    assert started == ["413 REQUEST ENTITY TOO LARGE"]
    assert next(iter(answer)) == b'{"error": "body too large"}\n'


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), LedgerFull("full"), LedgerError("script")])
def test_what_cannot_be_stored_is_503_with_retry_after(
    client: FlaskClient, store: Memory, bells: Silent, error: Exception
) -> None:
    store.error = error

    with capture_logs() as logs:
        answer = post(client)

    assert (answer.status_code, answer.json) == (503, {"error": "cannot store now"})
    assert answer.headers["Retry-After"] == "5"
    assert bells.asked == []
    assert [(line["event"], line["error"]) for line in logs] == [("deliveries.unstored", type(error).__name__)]


def test_fault_of_ours_is_json_without_traceback_or_the_errors_text(client: FlaskClient, store: Memory) -> None:
    store.error = ValueError(f"cannot handle {BODY!r}")

    with capture_logs() as logs:
        answer = post(client)

    assert (answer.status_code, answer.json) == (500, {"error": "internal error"})
    assert logs[-1]["event"] == "receiver.failed"
    assert logs[-1]["error"] == "ValueError"
    assert logs[-1]["at"].startswith("test_receiver_app.py:")
    assert "ada" not in str(logs)


def test_nothing_of_body_or_secret_is_logged(client: FlaskClient) -> None:
    with capture_logs() as logs:
        answer = post(client)
        post(client, signature="0" * 64)

    assert answer.json is not None
    assert logs[0]["event"] == "deliveries.stored"
    assert logs[0]["deliveries"] == [answer.json["delivery"]]
    assert "ada" not in str(logs)
    assert SECRET not in str(logs)


def test_healthz_needs_no_ledger_and_readyz_does(client: FlaskClient, store: Memory) -> None:
    store.error = LedgerUnavailable("away")

    assert client.get("/healthz").status_code == 200
    unready = client.get("/readyz")
    assert (unready.status_code, unready.json) == (503, {"status": "cannot store", "reason": "away"})
    assert unready.headers["Retry-After"] == "5"
    assert client.head("/readyz").data == b""


def test_what_a_server_says_of_itself_is_not_for_the_public(client: FlaskClient, store: Memory) -> None:
    store.error = LedgerError("NOPERM User tiercast has no permissions")
    assert "tiercast" not in client.get("/readyz").text


def test_readyz_knows_that_the_last_write_failed_though_a_trial_works(client: FlaskClient, store: Memory) -> None:
    assert client.get("/readyz").json == {"status": "ok"}

    # Given a server that answers and takes no writes, with its own text behind the error
    refused = LedgerError("the ledger refused a command: ...")
    refused.__cause__ = redis.exceptions.ResponseError("NOREPLICAS Not enough good replicas to write.")
    store.error = refused
    with capture_logs() as logs:
        assert [post(client).status_code for _ in range(20)] == [503] * 20
        store.error = None
        unready = client.get("/readyz")

    # Then readyz says why, with the server's code, and one line of the log does
    assert unready.status_code == 503
    assert "NOREPLICAS" in unready.json["reason"]  # type: ignore[index]
    assert [(line["event"], line["code"]) for line in logs] == [("deliveries.unstored", "NOREPLICAS")]

    # And when a write works again, so does readyz
    assert post(client).status_code == 202
    assert client.get("/readyz").json == {"status": "ok"}


def test_refusals_are_logged_ten_times_then_counted(client: FlaskClient, refusals: Refusals) -> None:
    with capture_logs() as logs:
        for _ in range(50):
            assert post(client, signature="0" * 64).status_code == 401
        time.sleep(1.01)
        refusals.flush()
        refusals.flush()

    assert [line.get("count") for line in logs] == [None] * 10 + [40]
    assert {line["reason"] for line in logs} == {"no secret of 2 matches"}


def test_enqueue_takes_authentic_bodies_only() -> None:
    """mypy refuses bare bytes; so does the code, for those who do not ask mypy."""
    with pytest.raises(AttributeError):
        Enqueue(Memory(), Silent())(BODY, "shop")  # type: ignore[arg-type]


def test_receiver_loads_neither_schemas_nor_kinds() -> None:
    code = (
        "import sys, receiver.app, receiver.enqueue\n"
        "print([name for name in sys.modules if name.split('.')[0] in {'worker', 'console', 'celery'}])"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)

    assert ast.literal_eval(run.stdout) == []
