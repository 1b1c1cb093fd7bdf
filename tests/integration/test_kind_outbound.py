"""The client of kinds against real sockets."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.certificate import make_certificate
from tests.servers.mail import free_port
from tests.servers.web import Answer, WebServer
from tiercast.actions import Halt, Permanent, Unavailable, Unknown
from tiercast.outbound import Answer as Got
from tiercast.outbound import Client, names


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


class Http:
    """A client with a loop of its own."""

    def __init__(self, **options: Any) -> None:
        self.client = Client(**options)
        self.loop = asyncio.Runner()

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.run(self.client.close())
        self.loop.close()


make_client = Http


@pytest.fixture
def http() -> Iterator[Http]:
    with Http(timeout=2.0) as client:
        yield client


def post(http: Http, url: str, *, timeout: float = 2.0, **more: Any) -> Got:
    return http.loop.run(http.client.send("POST", url, content=b"{}", timeout=timeout, **more))


def test_a_connection_serves_many_requests(web: WebServer, http: Http) -> None:
    for _ in range(5):
        post(http, web.url)
    assert len(web.requests) == 5
    assert web.connections == 1


def test_requests_name_us_and_ask_for_plain_answers(web: WebServer, http: Http) -> None:
    post(http, web.url)
    assert web.requests[0].headers["user-agent"].startswith("tiercast/")
    assert web.requests[0].headers["accept-encoding"] == "identity"


def test_cookies_are_not_kept(web: WebServer, http: Http) -> None:
    web.queue.append(Answer(headers={"set-cookie": "a=b; Path=/"}))
    post(http, web.url)
    post(http, web.url)
    assert "cookie" not in web.requests[1].headers


def test_redirects_are_not_followed(web: WebServer, http: Http) -> None:
    web.queue.append(Answer(status=307, headers={"location": f"{web.url}/elsewhere"}))
    with pytest.raises(Halt, match="redirects are not followed"):
        post(http, web.url)
    assert [request.path for request in web.requests] == ["/"]


def test_a_refused_connection_means_that_nothing_happened(http: Http) -> None:
    with pytest.raises(Unavailable, match="no connection to"):
        post(http, f"http://127.0.0.1:{free_port()}/")


def test_an_unknown_name_means_that_nothing_happened(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unavailable, match="no connection to"):
        post(http, "http://nowhere.example/")
    with make_client(timeout=1, allow_hosts=[]) as guarded, pytest.raises(Unavailable, match="no connection to"):
        post(guarded, "http://nowhere.example/")


def test_no_answer_after_sending_is_unknown(web: WebServer, http: Http) -> None:
    web.queue.append(Answer(hang_up=True))
    with pytest.raises(Unknown, match="no answer from"):
        post(http, web.url)


def test_a_server_that_says_nothing_is_unknown_after_the_timeout(http: Http) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(Unknown, match="timed out"):
            post(http, f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.3)
        assert time.monotonic() - began < 1.5


def test_a_server_that_drips_its_headers_cannot_hold_us(http: Http) -> None:
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


def test_a_dripping_body_does_not_change_what_the_status_says(web: WebServer, http: Http) -> None:
    web.queue.append(Answer(status=422, body=b'{"message": "' + b"x" * 400 + b'"}', drip=0.05))
    began = time.monotonic()
    with pytest.raises(Permanent, match="answered 422"):
        post(http, web.url, timeout=0.4)
    assert time.monotonic() - began < 1.5


def test_a_huge_answer_is_cut(web: WebServer, http: Http) -> None:
    web.queue.append(Answer(body=b"x" * 3_000_000))
    assert len(post(http, web.url, max_answer=1000).content) == 1000


def test_a_malformed_header_is_permanent_and_not_shown(web: WebServer, http: Http) -> None:
    with pytest.raises(Permanent) as raised:
        post(http, web.url, headers={"authorization": "Bearer s3cr3t\r\nx: y"})
    assert "s3cr3t" not in str(raised.value)
    assert not web.requests


def test_nothing_is_logged_below_warning(web: WebServer, http: Http, caplog: pytest.LogCaptureFixture) -> None:
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

    def __call__(self, host: str, port: int | None, *args: Any, **more: Any) -> Any:
        if host.replace(".", "").isdigit():
            return self._real(host, port, *args, **more)
        self.asked.append(host)
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in addresses]


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
    # When it is called
    with make_client(timeout=1, allow_hosts=[]) as guarded, pytest.raises(Unavailable):
        post(guarded, f"http://hooks.example:{web.port}/", timeout=0.3)
    # Then the name was looked up once, and nothing went to the other address
    assert resolver.asked == ["hooks.example"]
    assert web.connections == 0


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


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "127.1", "2130706433", "0x7f000001", "localhost"])
def test_a_literal_address_is_checked_too(web: WebServer, host: str) -> None:
    with make_client(timeout=1, allow_hosts=[]) as guarded, pytest.raises(Halt, match="allow_hosts") as raised:
        post(guarded, f"http://{host}:{web.port}/")
    assert raised.value.cause == "setting"
    assert web.connections == 0


def test_what_is_encoded_in_an_address_stays_so(web: WebServer, http: Http) -> None:
    post(http, f"{web.url}/a/%2E%2E/b%2Fc d?x=%41#e")
    assert web.requests[0].path == "/a/%2E%2E/b%2Fc%20d?x=%41"


def test_an_answer_compressed_unasked_is_read_within_the_bound(web: WebServer, http: Http) -> None:
    web.queue.append(Answer(body=gzip.compress(b"x" * 5_000_000), headers={"content-encoding": "gzip"}))
    assert len(post(http, web.url).content) == 1024 * 1024
    web.queue.append(Answer(body=b"???", headers={"content-encoding": "br"}))
    got = post(http, web.url)
    assert (got.status, got.content, got.readable) == (200, b"", False)
    web.queue.append(Answer(body=b"???", headers={"content-encoding": "gzip"}))
    assert not post(http, web.url).readable


def test_a_silent_name_ends_in_time_and_holds_up_no_other(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given more silent names than there are threads for such, and a healthy one that has answered before
    real, silent, asked = socket.getaddrinfo, threading.Event(), []

    def look_up(host: str, port: int | None, *args: Any, **more: Any) -> Any:
        if host.endswith(".slow"):
            asked.append(host)
            silent.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1", port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(names, "_lookups", names.Lookups(threads=8))
    try:
        with make_client(timeout=1) as http:
            post(http, f"http://healthy.example:{web.port}/")

            async def all_at_once() -> list[Any]:
                hosts = [f"vendor{number % 40}.slow" for number in range(200)]
                calls = [http.client.send("POST", f"http://{host}/", timeout=0.5) for host in hosts]
                return await asyncio.gather(*calls, return_exceptions=True)

            # When all of them are called
            began = time.monotonic()
            outcomes = http.loop.run(all_at_once())
            # Then each ends in time, nothing was sent, and no name took a second thread
            assert time.monotonic() - began < 3
            assert {type(outcome) for outcome in outcomes} == {Unavailable}
            assert len(asked) == 4 == len(set(asked))
        with make_client(timeout=1) as http:
            post(http, f"http://healthy.example:{web.port}/", timeout=1)
    finally:
        silent.set()


def test_a_client_works_in_several_loops_and_leaves_nothing_open(web: WebServer) -> None:
    client = Client(timeout=2)

    async def call() -> int:
        return (await client.send("POST", web.url, json={"a": 1})).status

    # Loops that end without anybody closing the client
    assert [asyncio.run(call()) for _ in range(3)] == [200] * 3
    assert web.connections == 3


def test_an_attempt_that_is_cancelled_leaves_the_client_usable(web: WebServer, http: Http) -> None:
    async def cancel() -> None:
        task = asyncio.ensure_future(http.client.send("POST", web.url, timeout=5))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    web.queue.append(Answer(body=b"x" * 100, drip=0.1))
    http.loop.run(cancel())
    assert post(http, web.url).status == 200


def test_a_proxy_of_the_environment_is_used_only_where_a_setting_says_so(
    web: WebServer, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", web.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(Unavailable):
        post(http, "http://vendor.invalid/x")
    monkeypatch.setenv("TIERCAST_PROXY", "environment")
    with make_client(timeout=2, allow_hosts=[]) as through:
        post(through, "http://vendor.invalid/x")
        with pytest.raises(Halt):
            post(through, "http://10.0.0.1/x")
    assert [request.path for request in web.requests] == ["http://vendor.invalid/x"]


def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path)
    with WebServer() as web:
        web.wrap(certificate.context())
        url = f"https://localhost:{web.port}/"
        with make_client(timeout=2) as http, pytest.raises(Unavailable, match="certificate is not trusted"):
            post(http, url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
        with make_client(timeout=2) as http:
            assert post(http, url).status == 200
