"""The webhook kind against a real HTTP server, verified by the Standard Webhooks library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import marshmallow
import pytest
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from tests.servers.web import Answer, WebServer
from tiercast.actions import Action, Halt, Permanent, RetryLater, Skip, Unknown
from tiercast.config.sandbox import Template, view_of
from tiercast.runner import perform
from tiercast.samples import sample_event
from tiercast.testing import make_action, make_job
from worker.actions.webhook import Webhook

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZWEgaG91c2U="


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@contextmanager
def caller(web: WebServer, **options: Any) -> Iterator[Action]:
    made = {"url": f"{web.url}/hook", "secret": SECRET, "allow_hosts": ["127.0.0.1"]} | options
    yield make_action(Webhook, made)


@pytest.mark.parametrize(
    ("configured", "given"),
    [(SECRET, SECRET), (SECRET.rstrip("="), SECRET), ("any text, as it is", b"any text, as it is")],
)
def test_the_signature_verifies(web: WebServer, configured: str, given: str | bytes) -> None:
    with caller(web, secret=configured) as action:
        perform(action, make_job(action, sample_event(name="Zoë")))
    (request,) = web.requests
    Verifier(given).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(given).verify(request.body.replace(b"Silver", b"Golden"), request.headers)


def test_every_attempt_carries_the_key(web: WebServer) -> None:
    with caller(web) as action:
        job = make_job(action)
        perform(action, job)
        perform(action, job)
    assert [request.headers["webhook-id"] for request in web.requests] == [job.key, job.key]


def test_a_key_is_made_safe_for_a_header(web: WebServer) -> None:
    with caller(web) as action:
        perform(action, make_job(action, key="s:é \n100%:hook"))
    (request,) = web.requests
    assert request.headers["webhook-id"] == "s:%C3%A9%20%0A100%25:hook"
    Verifier(SECRET).verify(request.body, request.headers)


def test_without_a_body_the_event_is_sent(web: WebServer) -> None:
    event = sample_event("customer.loyalty.tier.upgraded")
    with caller(web) as action:
        told = perform(action, make_job(action, event))
    (request,) = web.requests
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["content-type"] == "application/json"
    body = request.json
    assert set(body) == {"id", "type", "at", "source", "customer", "campaign", "tier", "previous_tier"}
    assert (body["id"], body["type"], body["at"]) == (event.id, event.type, event.at)
    assert (body["previous_tier"]["name"], body["tier"]["name"]) == ("Green leaf", "Silver leaf")
    assert told == "127.0.0.1 answered 200"


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (
            {"tier": "Gold", "n": 1, "deep": {"list": [None, True]}},
            {"tier": "Gold", "n": 1, "deep": {"list": [None, True]}},
        ),
        (["a"], ["a"]),
        ('{"tier": "Gold"}', {"tier": "Gold"}),
    ],
)
def test_a_body_of_ones_own(web: WebServer, body: object, sent: object) -> None:
    with caller(web, body="x") as action:
        perform(action, make_job(action, body=body))
    assert web.requests[0].json == sent
    Verifier(SECRET).verify(web.requests[0].body, web.requests[0].headers)


def test_text_that_is_not_json_needs_a_content_type(web: WebServer) -> None:
    with caller(web, body="x") as action, pytest.raises(Permanent, match="option body is not JSON"):
        perform(action, make_job(action, body='{"tier": "Gold}'))
    with caller(web, body="x", headers={"Content-Type": "text/plain"}) as action:
        perform(action, make_job(action, body="Gold"))
    (request,) = web.requests
    assert (request.headers["content-type"], request.body) == ("text/plain", b"Gold")


def test_headers_method_and_authorization(web: WebServer) -> None:
    with caller(web, method="PUT", headers={"X-Tier": "x"}, authorization="Bearer s3cr3t") as action:
        perform(action, make_job(action, headers={"X-Tier": "Gold"}))
    (request,) = web.requests
    assert request.method == "PUT"
    assert (request.headers["x-tier"], request.headers["authorization"]) == ("Gold", "Bearer s3cr3t")


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "é", "\x00"])
def test_what_no_header_can_hold_kills_the_job(web: WebServer, value: str) -> None:
    with caller(web, headers={"X-Tier": "x"}) as action, pytest.raises(Permanent, match=r"headers\.X-Tier"):
        perform(action, make_job(action, headers={"X-Tier": value}))
    assert not web.requests


def test_the_path_may_be_of_the_event(web: WebServer) -> None:
    with caller(web, url=web.url + "/hook/{{ event.customer.id }}?t={{ event.tier.name }}") as action:
        perform(action, make_job(action, url=f"{web.url}/hook/cust_1?t=Gold leaf"))
    assert web.requests[0].path == "/hook/cust_1?t=Gold%20leaf"


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/x", "http://127.0.0.1:1/", "http://a:b@127.0.0.1:{port}/", "http://"]
)
def test_the_host_may_not(web: WebServer, url: str) -> None:
    with caller(web, url=web.url + "/{{ event.id }}") as action, pytest.raises(Permanent, match="option url"):
        perform(action, make_job(action, url=url.replace("{port}", str(web.port))))
    assert not web.requests


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "https://{{ event.source }}.example/x"}, "url: expected http"),
        ({"url": "https://hooks.example{{ event.id }}"}, "url: expected http"),
        ({"url": "{{ event.data.url }}"}, "url: expected http"),
        ({"url": "hooks.example/x"}, "url: expected http"),
        ({"url": "ftp://hooks.example/x"}, "url: expected http"),
        ({"url": "https://u:p@hooks.example/x"}, "url: holds a user or password"),
        ({"allow_hosts": []}, "url: 127.0.0.1 is or resolves to a private"),
        ({"url": "http://localhost/x"}, 'add allow_hosts = \\["localhost"\\]'),
        ({"url": "http://[::ffff:10.0.0.1]/x"}, "url: ::ffff:"),
        ({"url": "http://169.254.169.254/latest"}, "url: 169.254.169.254"),
        ({"secret": "whsec_%%%"}, "secret: what follows whsec_ is not base64"),
        ({"secret": "whsec_"}, "secret: is empty"),
        ({"secret": ""}, "secret: is empty"),
        ({"headers": {"webhook-id": "x"}}, "headers: webhook-id is set by Tiercast"),
        ({"headers": {"Authorization": "x"}}, "headers: use the authorization option"),
        ({"headers": {"X Y": "x"}}, "headers: 'X Y' is no name"),
    ],
)
def test_mistakes_are_told_at_the_start(web: WebServer, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message), caller(web, **options):
        pass


def test_methods_are_three(web: WebServer) -> None:
    with pytest.raises(marshmallow.ValidationError), caller(web, method="GET"):
        pass


def test_a_name_that_resolves_to_this_machine_is_refused(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def look_up(host: str, port: int, *args: object, **more: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    url = f"http://hooks.example:{web.port}/x"
    with caller(web, url=url, allow_hosts=[]) as action, pytest.raises(Halt, match="allow_hosts"):
        perform(action, make_job(action))
    assert not web.requests
    with caller(web, url=url, allow_hosts=["hooks.example"]) as action:
        perform(action, make_job(action))
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (Answer(status=302, headers={"location": "http://169.254.169.254/"}), Halt, "redirects are not followed"),
        (Answer(status=410, body={"message": "gone away"}), Halt, "answered 410: gone away"),
        (Answer(status=401), Halt, "check the credential"),
        (Answer(status=500), RetryLater, "answered 500"),
        (Answer(hang_up=True), Unknown, "no answer"),
    ],
)
def test_answers(web: WebServer, answer: Answer, error: type[Exception], message: str) -> None:
    web.queue.append(answer)
    with caller(web) as action, pytest.raises(error, match=message):
        perform(action, make_job(action))
    assert len(web.requests) == 1


def test_neither_secret_is_shown(web: WebServer) -> None:
    def repeat(request: Any) -> Answer:
        return Answer(status=400, body={"message": json.dumps(request.headers) + request.body.decode()})

    web.default = repeat
    with caller(web, authorization="s3cr3t-token") as action, pytest.raises(Permanent) as raised:
        perform(action, make_job(action))
    assert "s3cr3t" not in str(raised.value)
    assert "Okafor" not in str(raised.value)


def test_without_a_secret_it_is_not_signed(web: WebServer) -> None:
    with caller(web, secret=None) as action:
        perform(action, make_job(action))
    assert "webhook-signature" not in web.requests[0].headers
    assert "webhook-id" in web.requests[0].headers


@pytest.mark.parametrize(
    ("id_", "path"),
    [
        ("ok", "/tiers/ok/stamp"),
        ("4lx%2Fd03", "/tiers/4lx%2Fd03/stamp"),
        ("a b", "/tiers/a%20b/stamp"),
        ("..a", "/tiers/..a/stamp"),
    ],
)
def test_a_value_in_the_path_is_one_segment(web: WebServer, id_: str, path: str) -> None:
    with caller(web, url=web.url + "/tiers/{{ event.customer.source_id }}/stamp?v=1") as action:
        perform(action, make_job(action, url=f"{web.url}/tiers/{id_}/stamp?v=1"))
    assert web.requests[0].path == f"{path}?v=1"


@pytest.mark.parametrize(
    "id_",
    [
        "../../admin/users", "..%2F..%2Fadmin%2Fusers", "..", ".", "%2e%2E", "%2E", "a/b", "a?v=2", "a#", "a\\b",
        "a/../b", "..%5Cx", "a\nb", "x/stamp?v=1#", "a" * 9000,
    ],
)  # fmt: skip
def test_a_value_cannot_leave_the_configured_path(web: WebServer, id_: str) -> None:
    url = web.url + "/tiers/{{ event.customer.source_id }}/stamp?v=1"
    with caller(web, url=url) as action, pytest.raises(Permanent, match="option url"):
        perform(action, make_job(action, url=f"{web.url}/tiers/{id_}/stamp?v=1"))
    assert not web.requests


def test_an_empty_segment_is_skipped(web: WebServer) -> None:
    with caller(web, url=web.url + "/tiers/{{ event.customer.source_id }}/stamp") as action, pytest.raises(Skip):
        perform(action, make_job(action, url=f"{web.url}/tiers//stamp"))
    assert not web.requests


def test_urlencode_makes_one_segment_of_any_text() -> None:
    view = view_of(sample_event(source_id="../a b/ü?"))
    assert Template("{{ event.customer.source_id | urlencode }}").render(view) == "..%2Fa%20b%2F%C3%BC%3F"
    assert Template("{{ '..' | urlencode }}{{ event.data.nothing | urlencode }}").render(view) == "%2E%2E"
    assert Template("{{ {'a': 'b/c d'} | urlencode }}").render(view) == "a=b%2Fc+d"


def test_address_and_headers_may_be_secret(web: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given an address that is a secret, in the environment, and a header that is one, in a file
    monkeypatch.setenv("SLACK", f"{web.url}/services/T0/B0/s3cr3tpath")
    monkeypatch.setenv("TIERCAST_CONFIG", str(tmp_path / "tiercast.toml"))
    (tmp_path / "key").write_text("\ufeffs3cr3t-key\n", encoding="utf-8")
    web.default = lambda request: Answer(status=422, body={"message": f"{request.path} {request.headers['x-key']}"})
    # When it is called and refuses with both in its message
    headers = {"X-Key": "file:key", "X-B": "b"}
    with caller(web, url="env:SLACK", headers=headers) as action, pytest.raises(Permanent) as raised:
        perform(action, make_job(action))
    # Then both were sent, and neither is shown
    (request,) = web.requests
    assert (request.path, request.headers["x-key"]) == ("/services/T0/B0/s3cr3tpath", "s3cr3t-key")
    assert "s3cr3t" not in f"{raised.value} {action.options!r} {action.options.url}"
    with pytest.raises(ValueError, match="url: the environment variable NONE is not set"), caller(web, url="env:NONE"):
        pass
