"""Starts granian with our limits, after checking what would otherwise fail in every one of its processes.

What granian 2.8 does, found by trying: it calls the app before the body has arrived, and reading blocks the
thread until the asked-for bytes are there; it limits neither the size of a body (body.py does) nor the time it
takes (connections.py does). Threads are started as they are needed. It
binds with SO_REUSEPORT, so that a second server on the same port would silently get a share of the requests.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import click

from tiercast.errors import LedgerFull, LedgerUnavailable, TiercastError

from .limits import CONNECTIONS

#: What granian serves; the worker processes import it.
TARGET = "receiver.wsgi:app"

#: Threads that can wait for a body or for the ledger, in each process: one for each connection, so that clients that
#: stall cannot use them up. They are started when they are needed and end when they idle.
THREADS = CONNECTIONS

#: The kernel's queue of connections that nobody has taken yet.
BACKLOG = 1024

#: Milliseconds that a client has for the headers of a request, and that a kept connection may be idle: the most
#: that granian takes, since load balancers keep theirs for a minute and a connection closed first loses a request.
HEADER_TIMEOUT_MS = 60_000

#: Seconds that requests have to end when the receiver is told to stop: well below the 10 s after which Docker, and
#: `tiercast up`, kills what it has told to stop.
STOP_TIMEOUT = 4


@click.command(name="python -m receiver", help="Receive webhooks and store them in the ledger.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all.")
@click.option("--port", default=8080, show_default=True, envvar="PORT", type=click.IntRange(1, 65535))
@click.option(
    "--workers",
    default=None,
    envvar="WEB_CONCURRENCY",
    type=click.IntRange(1, 64),
    help="Processes; by default one a core, at most two.",
)
def main(host: str, port: int, workers: int | None) -> int:
    """Check the settings, the sources, the ledger and the port; then serve until told to stop."""
    try:
        _check_places()
        _check_port(host, port)
    except TiercastError as error:
        raise click.ClickException(str(error)) from None
    serve(host=host, port=port, workers=workers or min(2, os.cpu_count() or 1))
    return 0


def serve(*, host: str, port: int, workers: int, target: str = TARGET) -> None:
    """Serve `target` until SIGTERM or SIGINT; a process of it that dies is replaced."""
    # Imported here: granian loads its shared library, which a refused start does not need.
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels
    from granian.server import Server

    server: Any = Server(
        target,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=THREADS,
        backpressure=CONNECTIONS,
        backlog=BACKLOG,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MS),
        websockets=False,
        log_level=LogLevels.error,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_TIMEOUT,
        # Named, since a server started elsewhere would not find the packages of a checkout.
        working_dir=Path(__file__).resolve().parent.parent,
    )
    server.serve()


def _check_places() -> None:
    """Read settings and sources; refuse a spool that cannot be used and an unsuited ledger; an absent one may come."""
    from tiercast.config import load_sources
    from tiercast.ledger import open_ledger, prepare
    from tiercast.settings import load_settings

    from .edge import edge_of

    settings = load_settings()
    load_sources(settings)
    edge_of(settings)
    if settings.spool_dir is not None:
        from .spool import SpoolFolder

        SpoolFolder(settings.spool_dir, max_bytes=settings.spool_max).close()
    ledger = open_ledger(settings, role="receiver")
    try:
        prepare(ledger, settings)
    except (LedgerFull, LedgerUnavailable) as error:
        until = "get 503" if settings.spool_dir is None else "are stored in the spool"
        click.echo(f"TIERCAST_REDIS_URL: {error}; requests {until} until it takes them.", err=True)
    finally:
        ledger.close()


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Like any server, this one may take over a port whose last connections are still closing.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortError(f"Port {port} is in use. Name another with --port.") from None
            raise PortError(f"Cannot listen on {host} port {port}: {error.strerror}. See --host and --port.") from None


class PortError(TiercastError):
    """The address cannot be listened on."""
