"""The arena with RabbitMQ as its broker, where one listens on this machine."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Self

from kombu.connection import Connection

from .arena import Arena
from .failover import Proxy
from .scenario import CannotBeShown

_PORT = 5672
_URL = "amqp://guest:guest@127.0.0.1:{port}//"
_QUEUE = "tiercast"


class WithRabbitMQ(Arena):
    """The arena whose bells go through RabbitMQ; every connection goes through a proxy that can be cut.

    Raises:
        CannotBeShown: no RabbitMQ listens on 127.0.0.1:5672.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        try:
            socket.create_connection(("127.0.0.1", _PORT), timeout=1).close()
        except OSError:
            raise CannotBeShown(f"no RabbitMQ listens on 127.0.0.1:{_PORT}") from None
        super().__init__(folder, **options)
        self._proxy = Proxy()
        self._proxy.target = _PORT

    def __enter__(self) -> Self:
        self.delete_queue()
        self._proxy.__enter__()
        self._env["TIERCAST_BROKER_URL"] = _URL.format(port=self._proxy.port)
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._proxy.__exit__()
        self.delete_queue()

    def delete_queue(self) -> None:
        """Delete the queue with all bells in it."""
        with Connection(_URL.format(port=_PORT)) as connection:  # type: ignore[no-untyped-call]
            connection.default_channel.queue_delete(_QUEUE)

    def cut(self) -> None:
        """End every connection to RabbitMQ for good."""
        self._proxy.cut()
