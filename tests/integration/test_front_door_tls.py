"""The ledger behind TLS: `rediss://`, with the certificate checked."""

from __future__ import annotations

import selectors
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from tests.door import opened
from tests.servers.certificate import Certificate, make_certificate
from tiercast.embedded import EmbeddedServer
from tiercast.errors import LedgerUnavailable
from tiercast.ledger import open_ledger
from tiercast.settings import load_settings


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


class Terminator(socketserver.ThreadingTCPServer):
    """Takes TLS connections and passes on what is in them; the embedded server is built without TLS."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, certificate: Certificate, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.context = certificate.context()
        self.behind = port


class Passing(socketserver.BaseRequestHandler):
    """One connection."""

    server: Terminator

    def handle(self) -> None:
        with (
            suppress(OSError),
            self.server.context.wrap_socket(self.request, server_side=True) as outside,
            socket.create_connection(("127.0.0.1", self.server.behind)) as inside,
        ):
            self.carry(outside, inside)

    @staticmethod
    def carry(outside: ssl.SSLSocket, inside: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(outside, selectors.EVENT_READ, inside)
            selector.register(inside, selectors.EVENT_READ, outside)
            while True:
                for key, _ in selector.select():
                    source = outside if key.data is inside else inside
                    data = source.recv(65536)
                    while isinstance(source, ssl.SSLSocket) and source.pending():
                        data += source.recv(source.pending())
                    if not data:
                        return
                    key.data.sendall(data)


@contextmanager
def terminator(certificate: Certificate, server: EmbeddedServer) -> Iterator[int]:
    with Terminator(certificate, server.port) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield serving.server_address[1]
        finally:
            serving.shutdown()
            thread.join()


def test_ledger_over_tls_stores_and_a_certificate_that_is_not_trusted_is_refused(
    server: EmbeddedServer, client: redis.Redis, certificate: Certificate, tmp_path: Path
) -> None:
    with terminator(certificate, server) as port:
        url = f"rediss://127.0.0.1:{port}/0"
        trusted = f"{url}?ssl_ca_certs={certificate.path}"

        with opened(server, tmp_path, env={"TIERCAST_REDIS_URL": trusted}, workers=1) as door:
            delivery = door.post().json()["delivery"]
        assert client.exists(f"t:b:{delivery}") == 1

        ledger = open_ledger(load_settings({"TIERCAST_REDIS_URL": url}), role="operator")
        with pytest.raises(LedgerUnavailable):
            ledger.ping()
        ledger.client.close()
