"""The small HTTP client of the command line and of `tiercast up`."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.servers.certificate import Certificate, make_certificate
from tests.servers.web import Answer, WebServer
from tiercast.embedded import free_port
from tiercast.http_client import HttpClient, NoAnswer, NotConnected, UnusableAddress


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


def test_it_sends_what_it_is_given_and_keeps_its_connection(web: WebServer) -> None:
    web.queue.append(Answer(status=202, body={"delivery": "d1"}))
    with HttpClient(web.url, timeout=5) as client:
        answer = client.request("POST", f"{web.url}/webhooks/v?a=b%20c", body=b"{}", headers={"x-own": "yes"})
        client.request("GET", f"{web.url}/healthz")
    assert (answer.status, answer.body, str(answer)) == (202, b'{"delivery": "d1"}', "202 Accepted")
    first, second = web.requests
    assert (first.method, first.path, first.body) == ("POST", "/webhooks/v?a=b%20c", b"{}")
    assert first.headers["x-own"] == "yes"
    assert (second.method, second.path) == ("GET", "/healthz")
    assert web.connections == 1


def test_a_path_beyond_ascii_is_quoted_and_what_is_quoted_stays(web: WebServer) -> None:
    with HttpClient(web.url, timeout=5) as client:
        client.request("GET", f"{web.url}/a b/\N{LATIN SMALL LETTER E WITH ACUTE}/%2F?q=\N{SNOWMAN}")
        client.request("GET", web.url)
    assert [request.path for request in web.requests] == ["/a%20b/%C3%A9/%2F?q=%E2%98%83", "/"]


def test_a_name_and_password_in_the_address_are_sent_as_basic_authorization(web: WebServer) -> None:
    url = web.url.replace("://", "://me:p%40ss@")
    with HttpClient(url, timeout=5) as client:
        client.request("GET", url)
    assert web.requests[0].headers["authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://a", "http://", "http://a:99999", "http://[::1", "/path"])
def test_what_is_no_http_address_is_refused(url: str) -> None:
    with pytest.raises(UnusableAddress):
        HttpClient(url, timeout=1)


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid", "a..b", "\N{SNOWMAN}" * 70])
def test_where_nobody_listens_it_is_not_connected(host: str) -> None:
    with HttpClient(f"http://{host}:{free_port()}", timeout=2) as client, pytest.raises(NotConnected):
        client.request("GET", "/")


def test_a_redirect_is_an_answer(web: WebServer) -> None:
    web.queue.append(Answer(status=302, headers={"Location": f"{web.url}/elsewhere"}))
    with HttpClient(web.url, timeout=5) as client:
        assert client.request("GET", web.url).status == HTTPStatus.FOUND
    assert len(web.requests) == 1


def test_proxies_of_the_environment_are_not_used(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with HttpClient(web.url, timeout=5) as client:
        assert client.request("GET", web.url).status == HTTPStatus.OK


def test_a_server_that_hangs_up_gave_no_answer_and_the_next_call_connects_anew(web: WebServer) -> None:
    web.queue.append(Answer(hang_up=True))
    with HttpClient(web.url, timeout=5) as client:
        with pytest.raises(NoAnswer, match="RemoteDisconnected"):
            client.request("GET", web.url)
        assert client.request("GET", web.url).status == HTTPStatus.OK


def test_a_connection_that_the_server_closed_meanwhile_is_made_anew() -> None:
    """As behind a proxy that lets idle connections live for a minute."""
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(2):
                connection, _address = listening.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with HttpClient(url, timeout=5) as client:
            assert client.request("GET", url).body == b"ok"
            time.sleep(0.1)
            assert client.request("GET", url).body == b"ok"
        thread.join()


def test_a_silent_server_is_given_up_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        began = time.monotonic()
        with HttpClient(url, timeout=0.3) as client, pytest.raises(NoAnswer, match="TimeoutError"):
            client.request("GET", url)
        assert time.monotonic() - began < 5


def test_something_that_speaks_no_http_gave_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"220 mail.example.com ESMTP\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with HttpClient(url, timeout=2) as client, pytest.raises(NoAnswer, match="BadStatusLine"):
            client.request("GET", url)
        thread.join()


def test_of_an_answer_without_end_only_the_beginning_is_read(web: WebServer) -> None:
    web.default = lambda request: Answer(body=b"x" * 10_000_000)
    with HttpClient(web.url, timeout=5) as client:
        assert len(client.request("GET", web.url).body) < 100_000
        assert len(client.request("GET", web.url).body) < 100_000


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


def test_a_certificate_that_nobody_vouches_for_is_refused(web: WebServer, certificate: Certificate) -> None:
    web.wrap(certificate.context())
    with HttpClient(f"https://127.0.0.1:{web.port}", timeout=5) as client, pytest.raises(NotConnected, match="verify"):
        client.request("GET", "/")
    assert web.requests == []


def test_an_authority_of_ones_own_can_be_named(
    web: WebServer, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    web.wrap(certificate.context())
    with HttpClient(f"https://localhost:{web.port}", timeout=5) as client:
        assert client.request("GET", "/").status == HTTPStatus.OK
