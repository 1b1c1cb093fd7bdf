"""The client of kinds against real sockets."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.servers.mail import free_port
from tests.servers.web import Answer, WebServer
from tiercast.actions import Halt, Permanent, RetryLater, Unknown
from tiercast.outbound import make_client, send


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with make_client(timeout=2.0) as client:
        yield client


def post(client: httpx.Client, url: str, *, timeout: float = 2.0, **more: Any) -> httpx.Response:
    return send(client, client.build_request("POST", url, content=b"{}"), timeout=timeout, **more)


def test_a_connection_serves_many_requests(web: WebServer, http: httpx.Client) -> None:
    for _ in range(5):
        post(http, web.url)
    assert len(web.requests) == 5
    assert web.connections == 1


def test_requests_name_us_and_ask_for_plain_answers(web: WebServer, http: httpx.Client) -> None:
    post(http, web.url)
    assert web.requests[0].headers["user-agent"].startswith("tiercast/")
    assert web.requests[0].headers["accept-encoding"] == "identity"


def test_cookies_are_not_kept(web: WebServer, http: httpx.Client) -> None:
    web.queue.append(Answer(headers={"set-cookie": "a=b; Path=/"}))
    post(http, web.url)
    post(http, web.url)
    assert "cookie" not in web.requests[1].headers


def test_redirects_are_not_followed(web: WebServer, http: httpx.Client) -> None:
    web.queue.append(Answer(status=307, headers={"location": f"{web.url}/elsewhere"}))
    with pytest.raises(Permanent, match="redirects are not followed"):
        post(http, web.url)
    assert [request.path for request in web.requests] == ["/"]


def test_a_refused_connection_means_that_nothing_happened(http: httpx.Client) -> None:
    with pytest.raises(RetryLater, match="no connection to"):
        post(http, f"http://127.0.0.1:{free_port()}/")


def test_an_unknown_name_means_that_nothing_happened(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(RetryLater, match="no connection to"):
        post(http, "http://nowhere.example/")
    with make_client(timeout=1, allow_hosts=[]) as guarded, pytest.raises(RetryLater, match="no connection to"):
        post(guarded, "http://nowhere.example/")


def test_no_answer_after_sending_is_unknown(web: WebServer, http: httpx.Client) -> None:
    web.queue.append(Answer(hang_up=True))
    with pytest.raises(Unknown, match="no answer from"):
        post(http, web.url)


def test_a_server_that_says_nothing_is_unknown_after_the_timeout(http: httpx.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(Unknown, match="timed out"):
            post(http, f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.3)
        assert time.monotonic() - began < 1.5


def test_a_server_that_drips_its_headers_cannot_hold_us(http: httpx.Client) -> None:
    # Given a server that sends a byte of its answer now and then, for ever
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as slow:

        def drip() -> None:
            connection, _ = slow.accept()
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\n" + b"x" * 10_000:
                    if stop.wait(0.05):
                        return
                    try:
                        connection.sendall(bytes([byte]))
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        # When it is called / Then the whole attempt ends in time
        try:
            with pytest.raises(Unknown):
                post(http, f"http://127.0.0.1:{slow.getsockname()[1]}/", timeout=0.4)
            assert time.monotonic() - began < 1.5
        finally:
            stop.set()
            thread.join()


def test_a_dripping_body_does_not_change_what_the_status_says(web: WebServer, http: httpx.Client) -> None:
    web.queue.append(Answer(status=422, body=b'{"message": "' + b"x" * 400 + b'"}', drip=0.05))
    began = time.monotonic()
    with pytest.raises(Permanent, match="answered 422"):
        post(http, web.url, timeout=0.4)
    assert time.monotonic() - began < 1.5


def test_a_huge_answer_is_cut(web: WebServer, http: httpx.Client) -> None:
    web.queue.append(Answer(body=b"x" * 3_000_000))
    assert len(post(http, web.url, max_answer=1000).content) == 1000


def test_a_malformed_header_is_permanent_and_not_shown(web: WebServer, http: httpx.Client) -> None:
    request = http.build_request("POST", web.url, headers={"authorization": "Bearer s3cr3t\r\nx: y"})
    with pytest.raises(Permanent) as raised:
        send(http, request, timeout=1)
    assert "s3cr3t" not in str(raised.value)
    assert not web.requests


def test_nothing_is_logged_below_warning(web: WebServer, http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        post(http, f"{web.url}/ada@example.com")
    assert "ada@" not in caplog.text


class Resolver:
    """Stands in for the name server: answers each look-up with the next list of addresses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: int, *args: Any, **more: Any) -> Any:
        if host.replace(".", "").isdigit():
            return self._real(host, port, *args, **more)
        self.asked.append(host)
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["10.0.0.7"], ["93.184.215.14", "127.0.0.1"]])
def test_a_name_that_resolves_to_a_private_address_is_refused(
    web: WebServer, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    Resolver(monkeypatch, addresses)
    with make_client(timeout=1, allow_hosts=[]) as guarded, pytest.raises(Halt, match="allow_hosts"):
        post(guarded, f"http://hooks.example:{web.port}/")
    assert not web.requests
    assert web.connections == 0


def test_the_address_that_was_checked_is_the_one_connected_to(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a name that is public when it is checked and private a moment later
    resolver = Resolver(monkeypatch, ["192.0.2.1"], ["127.0.0.1"])
    monkeypatch.setattr("tiercast.outbound.addresses.is_public", lambda text: text == "192.0.2.1")
    connected: list[str] = []

    def connect(address: tuple[str, int], *args: object, **more: object) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError("not today")

    monkeypatch.setattr(socket, "create_connection", connect)
    # When it is called
    with make_client(timeout=1, allow_hosts=[]) as guarded, pytest.raises(RetryLater):
        post(guarded, f"http://hooks.example:{web.port}/")
    # Then the name was looked up once, and the connection went to what was checked
    assert resolver.asked == ["hooks.example"]
    assert connected == ["192.0.2.1"]


def test_the_host_header_stays_the_name(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(monkeypatch, ["127.0.0.1"])
    monkeypatch.setattr("tiercast.outbound.addresses.is_public", lambda text: True)
    with make_client(timeout=1, allow_hosts=[]) as guarded:
        post(guarded, f"http://hooks.example:{web.port}/")
    assert web.requests[0].headers["host"] == f"hooks.example:{web.port}"


def test_a_host_allowed_by_name_may_be_private(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(monkeypatch, ["127.0.0.1"])
    with make_client(timeout=1, allow_hosts=["Hooks.Example."]) as guarded:
        post(guarded, f"http://hooks.example:{web.port}/")
    assert len(web.requests) == 1


def test_the_next_address_is_tried_where_one_does_not_answer(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    Resolver(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    monkeypatch.setattr("tiercast.outbound.addresses.is_public", lambda text: True)
    with make_client(timeout=1, allow_hosts=[]) as guarded:
        post(guarded, f"http://hooks.example:{web.port}/")
    assert len(web.requests) == 1
