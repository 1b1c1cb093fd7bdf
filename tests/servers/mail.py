"""A real SMTP server that can be told to refuse."""

from __future__ import annotations

import asyncio
import email.policy
import gc
import re
import socket
import ssl
import warnings
from collections import deque
from collections.abc import Collection
from email import message_from_bytes
from email.message import EmailMessage
from typing import Any, Self, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class MailServer:
    """Keeps the mails that it accepts. A context manager.

    `rcpt` and `data` hold answers for the next commands of that name; `close` among them closes the connection
    instead: of `data`, after the mail was read.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit_tls: ssl.SSLContext | None = None,
        logins: dict[str, str] | None = None,
        smtputf8: bool = True,
        methods: Collection[str] = ("LOGIN", "PLAIN"),
        port: int = 0,
    ) -> None:
        self.mails: list[Envelope] = []
        self.rcpt: deque[str] = deque()
        self.data: deque[str] = deque()
        self.mail: deque[str] = deque()
        self.sessions = 0
        self.port = port or free_port()
        self._logins = logins
        self._controller = _Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            ready_timeout=20,
            ssl_context=implicit_tls,
            tls_context=tls,
            require_starttls=tls is not None,
            authenticator=self._authenticate if logins else None,
            auth_require_tls=False,
            enable_SMTPUTF8=smtputf8,
            auth_exclude_mechanism={"LOGIN", "PLAIN"} - set(methods),
        )

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def messages(self) -> list[EmailMessage]:
        """The mails, parsed."""
        return [message_from_bytes(cast(bytes, mail.content), policy=email.policy.default) for mail in self.mails]

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._controller.stop()
        # aiosmtpd leaves the socket of a failed TLS handshake to the garbage collector, which warns of it, in whatever
        # test runs then.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        known = (self._logins or {}).get(data.login.decode()) if isinstance(data, LoginPassword) else None
        return AuthResult(success=known is not None and known == data.password.decode(), handled=False)

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return responses

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.mail.popleft() if self.mail else ""
        if answer:
            return await self._give(server, answer)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.rcpt.popleft() if self.rcpt else ""
        if answer:
            return await self._give(server, answer)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = self.data.popleft() if self.data else ""
        if answer:
            return await self._give(server, answer)
        if self._logins is not None and not session.authenticated:
            return "530 5.7.0 authentication required"
        self.mails.append(envelope)
        return "250 2.0.0 OK: queued as 4F2A"

    async def _give(self, server: SMTP, answer: str) -> str:
        if answer == "close":
            cast(asyncio.WriteTransport, server.transport).abort()
            await asyncio.sleep(0)
            return "421 closing"
        return answer


class _Controller(Controller):
    def __init__(self, owner: MailServer, **options: Any) -> None:
        self._owner = owner
        super().__init__(owner, **options)

    def factory(self) -> SMTP:
        self._owner.sessions += 1
        return cast(SMTP, super().factory())  # type: ignore[no-untyped-call]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def dot_lines(content: bytes) -> list[bytes]:
    """Lines that begin with a dot."""
    return re.findall(rb"(?m)^\..*$", content)
