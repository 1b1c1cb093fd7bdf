"""One connection to an SMTP server: commands out, replies in (RFC 5321 4.2), bounded in size."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass

from .headers import CONTROLS

#: The longest line of a reply. RFC 5321 4.5.3.1.5 allows 512; some servers say more.
LINE_MAX_BYTES = 4096

#: The longest reply, over all its lines. The answer to EHLO is a few hundred bytes.
REPLY_MAX_BYTES = 64 * 1024

#: Seconds that a TLS connection waits for the other side's farewell.
TLS_SHUTDOWN_SECONDS = 1.0


class Lost(Exception):
    """The connection is closed, or the server does not speak SMTP; the message says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer to one command: the code, and its text with lines separated by line feeds."""

    code: int
    text: str


class Connection(asyncio.Protocol):
    """Reads replies as they come. Whatever the server sends unasked ends the connection.

    Methods that wait have no time-out of their own: the caller's deadline covers the whole attempt.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._lines: list[str] = []
        self._reply_bytes = 0
        self._replies: deque[Reply] = deque()
        self._expected = 1  # the greeting
        self._waiter: asyncio.Future[None] | None = None
        self._lost: str | None = None

    @property
    def open(self) -> bool:
        """Whether the connection is open, as far as is known."""
        return self._lost is None and self._transport is not None and not self._transport.is_closing()

    @property
    def local_address(self) -> str:
        """The address of this end."""
        name = self._transport.get_extra_info("sockname") if self._transport else None
        return str(name[0]) if isinstance(name, tuple) else "127.0.0.1"

    def send(self, *commands: bytes) -> None:
        """Send commands, and expect a reply for each.

        Raises:
            Lost: the connection is closed.
            ValueError: a command holds a line break or a control character.
        """
        for command in commands:
            if CONTROLS.search(command.decode("utf-8", "replace")) or b"\n" in command:
                raise ValueError("a command holds a line break or a control character")
        self._write(b"".join(command + b"\r\n" for command in commands), replies=len(commands))

    def send_data(self, content: bytes) -> None:
        """Send the content of a mail, prepared by `as_data`, and expect one reply."""
        self._write(content, replies=1)

    async def reply(self) -> Reply:
        """Wait for the next reply.

        Raises:
            Lost: the connection was closed before it came.
        """
        while not self._replies:
            if self._lost is not None:
                raise Lost(self._lost)
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._replies.popleft()

    async def ask(self, command: bytes) -> Reply:
        """Send one command and wait for its reply."""
        self.send(command)
        return await self.reply()

    async def start_tls(self, context: ssl.SSLContext, host: str, seconds: float) -> None:
        """Encrypt the connection from here on.

        Raises:
            Lost: the server has sent more than its reply: somebody may have slipped it in (RFC 3207 6).
            ssl.SSLError, OSError: as the handshake ends.
        """
        if self._lost is not None:
            raise Lost(self._lost)
        if self._buffer or self._replies or self._transport is None:
            self.abort("sent something between STARTTLS and encryption")
            raise Lost("the server sent something between STARTTLS and encryption")
        encrypted = await self._loop.start_tls(
            self._transport,
            self,
            context,
            server_hostname=host,
            ssl_handshake_timeout=seconds,
            ssl_shutdown_timeout=TLS_SHUTDOWN_SECONDS,
        )
        if encrypted is None:
            raise Lost("the connection was closed")
        self._transport = encrypted

    def abort(self, why: str = "closed by us") -> None:
        """Close the connection at once."""
        self._end(why)
        if self._transport is not None:
            self._transport.abort()

    def quit(self) -> None:
        """Say goodbye and close; nothing is waited for."""
        if self.open and self._transport is not None:
            self._expected += 1
            self._transport.write(b"QUIT\r\n")
            self._transport.close()
        self._end("closed by us")

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of TCP or TLS
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._lost is not None:
            return
        self._buffer += data
        while self._lost is None:
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > LINE_MAX_BYTES:
                    self.abort(f"answered with a line of more than {LINE_MAX_BYTES:,} bytes")
                return
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            self._read_line(line)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("closed the connection" if exc is None else _words(exc))

    def _read_line(self, line: bytes) -> None:
        self._reply_bytes += len(line)
        if len(line) > LINE_MAX_BYTES or self._reply_bytes > REPLY_MAX_BYTES:
            self.abort(f"answered with more than {REPLY_MAX_BYTES // 1024} KiB")
            return
        if not (line[:3].isdigit() and b"200" <= line[:3] <= b"599" and line[3:4] in {b" ", b"-", b"\r", b"\n"}):
            self.abort("does not speak SMTP")
            return
        self._lines.append(line[4:].decode("utf-8", "replace").strip())
        if line[3:4] == b"-":
            return
        reply = Reply(int(line[:3]), "\n".join(self._lines))
        self._lines, self._reply_bytes = [], 0
        if not self._expected:
            # As a rule 421, before the server closes an idle connection.
            self.abort(f"said {reply.code} unasked")
            return
        self._expected -= 1
        self._replies.append(reply)
        self._wake()

    def _write(self, data: bytes, *, replies: int) -> None:
        if not self.open or self._transport is None:
            raise Lost(self._lost or "closed the connection")
        self._expected += replies
        self._transport.write(data)

    def _end(self, why: str) -> None:
        if self._lost is None:
            self._lost = why
            self._buffer.clear()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
