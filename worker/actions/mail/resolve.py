"""Resolve the name of one server, in a thread of its own: a resolver may be silent for minutes."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress

#: Seconds that an answer is used again.
KEEP_SECONDS = 15.0

_Addresses = list[str]


class Resolver:
    """Resolves one host and port; used on one event loop.

    At most one question is open at a time and all attempts wait for its answer, so that a silent resolver holds one
    thread and not one an attempt.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._pending: asyncio.Future[_Addresses] | None = None
        self._known: tuple[float, _Addresses] | None = None

    async def addresses(self) -> _Addresses:
        """The host's addresses.

        Raises:
            OSError: the name cannot be resolved.
        """
        loop = asyncio.get_running_loop()
        if self._known and loop.time() - self._known[0] < KEEP_SECONDS:
            return self._known[1]
        if self._pending is None or self._pending.done():
            self._pending = loop.create_future()
            self._pending.add_done_callback(_retrieved)
            threading.Thread(target=self._ask, args=(loop, self._pending), name="mail-dns", daemon=True).start()
        found = await asyncio.shield(self._pending)
        self._known = loop.time(), found
        return found

    def _ask(self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[_Addresses]) -> None:
        found: _Addresses | OSError
        try:
            entries = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        except (OSError, UnicodeError) as error:
            found = error if isinstance(error, OSError) else OSError("the name of the host is not valid")
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(_settle, answer, found)


def _settle(answer: asyncio.Future[_Addresses], found: _Addresses | OSError) -> None:
    if answer.done():
        return
    if isinstance(found, OSError):
        answer.set_exception(found)
    else:
        answer.set_result(found)


def _retrieved(answer: asyncio.Future[_Addresses]) -> None:
    """Every attempt that asked may have been cancelled; then nobody else looks at a failure."""
    if not answer.cancelled():
        answer.exception()
