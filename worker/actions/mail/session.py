"""One SMTP session that sends many mails (RFC 5321)."""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass

from tiercast.actions import Halt, Permanent, Unavailable, Unknown
from tiercast.outbound import redact

from .answers import Judge, Stage
from .connection import TLS_SHUTDOWN_SECONDS, Connection, Lost, Reply
from .errors import Busy, Stale
from .message import Mail
from .place import Server
from .resolve import Resolver

#: Ways to authenticate, best first. All may be plain: the password goes over TLS, or stays on this machine.
_METHODS = ("PLAIN", "LOGIN", "CRAM-MD5")

#: Seconds for one of several addresses of a server; the last one gets all that the attempt has left.
CONNECT_SECONDS = 3.0

TLS_HANDSHAKE_SECONDS = 30.0


@dataclass(slots=True)
class Progress:
    """How far an attempt has come: what it waits for, and whether the server may have the mail."""

    step: str = "a free connection"
    sent: bool = False


class Session:
    """A connection to a server, greeted and authenticated, which one mail uses at a time."""

    def __init__(self, server: Server, connection: Connection, extensions: dict[str, str]) -> None:
        self._server = server
        self._connection = connection
        self._extensions = extensions
        self._used = False
        self._reset_needed = False
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether another mail can follow, as far as is known."""
        return self._connection.open

    async def deliver(self, mail: Mail, progress: Progress, personal: Iterable[str]) -> str:
        """Send one mail to all its recipients or to none; return the server's words.

        Raises:
            Stale: the session had been closed while idle; nothing was sent.
            Permanent, RetryLater, Unavailable, Halt, SenderRefused, PolicyRefused: refused.
            Unknown: the mail was sent, and the connection was lost before the answer.
        """
        judge = Judge(self._server.host, self._server.secrets, tuple(personal))
        try:
            return await self._transact(mail, progress, judge)
        except Lost as lost:
            if progress.sent:
                raise Unknown(f"{self._server.host} had the mail and did not answer: {_why(lost)}") from None
            raise Unavailable(
                f"{self._server.host} closed the connection before the mail was sent: {_why(lost)}"
            ) from None
        except (asyncio.CancelledError, GeneratorExit):
            self.abort()
            raise

    def abort(self) -> None:
        """Close the connection at once."""
        self._connection.abort()

    def quit(self) -> None:
        """Say goodbye and close."""
        self._connection.quit()

    async def _transact(self, mail: Mail, progress: Progress, judge: Judge) -> str:
        replies = await self._exchange(self._envelope(mail), progress)
        self._check_envelope(replies, mail, judge)
        progress.step = "the answer to DATA"
        answer = await self._connection.ask(b"DATA")
        if answer.code != 354:
            raise self._refusal(judge, "mail", answer, "the mail")
        progress.step = "the answer to the mail"
        progress.sent = True  # from here on the server may have it
        self._connection.send_data(as_data(mail.content))
        answer = await self._connection.reply()
        if answer.code != 250:
            progress.sent = False
            raise self._refusal(judge, "mail", answer, "the mail")
        self._reset_needed = False
        return judge.words(answer)

    def _envelope(self, mail: Mail) -> list[bytes]:
        """MAIL and RCPT.

        Raises:
            Permanent: the server has said that it does not take such a mail.
        """
        options = ""
        if "SIZE" in self._extensions:
            most = self._extensions["SIZE"]
            if most.isdecimal() and 0 < int(most) < len(mail.content):
                raise Permanent(
                    f"the mail has {len(mail.content):,} bytes, and {self._server.host} takes at most {int(most):,}"
                )
            options += f" SIZE={len(mail.content)}"
        if mail.utf8:
            if "SMTPUTF8" not in self._extensions:
                raise Permanent(
                    f"an address is not ASCII, and {self._server.host} does not take such addresses (no SMTPUTF8)"
                )
            options += " SMTPUTF8 BODY=8BITMIME"
        lines = [f"MAIL FROM:<{mail.sender}>{options}", *(f"RCPT TO:<{address}>" for address in mail.recipients)]
        return [line.encode() for line in lines]

    async def _exchange(self, envelope: list[bytes], progress: Progress) -> list[Reply]:
        """Send the envelope, all at once where the server allows that (RFC 2920), and return the replies to it.

        The replies end with the first that closes the session or, without pipelining, refuses the sender.

        Raises:
            Stale: the server has closed the session since it was used last.
        """
        progress.step = "the answer to MAIL and RCPT"
        used, self._used = self._used, True
        # After a refusal. Only now, so that the refused job need not wait for the answer.
        reset, self._reset_needed = self._reset_needed, True
        commands = [b"RSET", *envelope] if reset else envelope
        try:
            replies = await self._replies_to(commands)
        except Lost:
            if used:
                raise Stale from None
            raise
        if used and (replies[0].code == 421 or (reset and replies[0].code != 250)):
            self.abort()
            raise Stale
        return replies[1:] if reset else replies

    async def _replies_to(self, commands: list[bytes]) -> list[Reply]:
        if "PIPELINING" in self._extensions:
            self._connection.send(*commands)
            replies = []
            for _ in commands:
                replies.append(await self._connection.reply())
                if replies[-1].code == 421:
                    break
            return replies
        replies = []
        for command in commands:
            replies.append(await self._connection.ask(command))
            if replies[-1].code == 421 or (not command.startswith(b"RCPT") and replies[-1].code != 250):
                break
        return replies

    def _check_envelope(self, replies: list[Reply], mail: Mail, judge: Judge) -> None:
        sender = replies[0]
        if sender.code != 250:
            raise self._refusal(judge, "sender", sender, "the sender")
        refused = [(place, reply) for place, reply in enumerate(replies[1:], 1) if reply.code not in {250, 251, 252}]
        # All or nothing, so that a repeat sends to nobody twice; one that is refused for good decides.
        for place, reply in sorted(refused, key=lambda entry: entry[1].code < 500):
            raise self._refusal(judge, "recipient", reply, f"recipient {place} of {len(mail.recipients)}")

    def _refusal(self, judge: Judge, stage: Stage, reply: Reply, what: str) -> Exception:
        if reply.code == 421 or not 400 <= reply.code < 600:
            self.abort()
        return judge.refusal(stage, reply, what)


async def open_session(
    server: Server, context: ssl.SSLContext | None, resolver: Resolver, progress: Progress
) -> Session:
    """Connect, greet, encrypt and authenticate.

    Args:
        server: where to, and how.
        context: for TLS; None where the server is spoken to in plain text.
        resolver: of the server's name.
        progress: noted as it goes, for the message where the time runs out.

    Raises:
        Busy: the server takes no session now.
        Unavailable: it cannot be reached, or TLS fails.
        Halt: it refuses the credential, or does not offer what is configured.
    """
    connection: Connection | None = None
    try:
        progress.step = "the connection"
        connection = await _connect(server, context, resolver)
        return Session(server, connection, await _Opening(server, connection, context, progress).run())
    except BaseException as error:
        # Also where the attempt is cancelled: no connection is left behind.
        if connection is not None:
            connection.abort()
        raise _failed_opening(server, error) from None


def _failed_opening(server: Server, error: BaseException) -> BaseException:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unavailable(
            f"the certificate of {server.host} is not accepted: {error.verify_message}; "
            "SSL_CERT_FILE can name the authorities to trust"
        )
    if isinstance(error, OSError | Lost) and not isinstance(error, TimeoutError):
        return Unavailable(f"no mail session with {server.host}:{server.port}: {_why(error)}")
    return error


async def _connect(server: Server, context: ssl.SSLContext | None, resolver: Resolver) -> Connection:
    """Connect to the first of the server's addresses that answers."""
    loop = asyncio.get_running_loop()
    implicit = context if server.tls == "tls" else None
    failure: OSError = OSError("the name has no address")
    addresses = await resolver.addresses()
    for place, address in enumerate(addresses, 1):
        try:
            async with asyncio.timeout(None if place == len(addresses) else CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    Connection,
                    address,
                    server.port,
                    ssl=implicit,
                    server_hostname=server.host if implicit else None,
                    ssl_shutdown_timeout=TLS_SHUTDOWN_SECONDS if implicit else None,
                )
            return connection
        except ssl.SSLError:
            raise
        except OSError as error:
            failure = error
    raise failure


class _Opening:
    """What is said between the connection and the first mail."""

    def __init__(
        self, server: Server, connection: Connection, context: ssl.SSLContext | None, progress: Progress
    ) -> None:
        self._server = server
        self._connection = connection
        self._context = context
        self._progress = progress
        self._judge = Judge(server.host, server.secrets)

    async def run(self) -> dict[str, str]:
        """Greet, encrypt, authenticate; return the server's extensions with their parameters."""
        self._progress.step = "the greeting"
        greeting = await self._connection.reply()
        if greeting.code != 220:
            raise self._refused(greeting, "the session")
        extensions = await self._hello()
        if self._server.tls == "starttls" and self._context is not None:
            if "STARTTLS" not in extensions:
                raise Halt(f"{self._server.host} does not offer STARTTLS; see the option tls", cause="setting")
            self._progress.step = "STARTTLS"
            answer = await self._connection.ask(b"STARTTLS")
            if answer.code != 220:
                raise self._refused(answer, "STARTTLS")
            await self._connection.start_tls(self._context, self._server.host, TLS_HANDSHAKE_SECONDS)
            extensions = await self._hello()
        if self._server.username is not None and self._server.password is not None:
            self._progress.step = "the answer to AUTH"
            await self._authenticate(extensions, self._server.username, self._server.password)
        return extensions

    async def _hello(self) -> dict[str, str]:
        self._progress.step = "the answer to EHLO"
        name = self._server.ehlo or own_name(self._connection.local_address)
        answer = await self._connection.ask(f"EHLO {name}".encode())
        if answer.code in {500, 502}:
            # A server from before 1995 has no extensions.
            answer = await self._connection.ask(f"HELO {name}".encode())
            if answer.code == 250:
                return {}
        if answer.code != 250:
            raise self._refused(answer, f"EHLO {name}")
        lines = (line.partition(" ") for line in answer.text.split("\n")[1:])
        return {word.upper(): parameters for word, _, parameters in lines}

    async def _authenticate(self, extensions: dict[str, str], username: str, password: str) -> None:
        offered = extensions.get("AUTH", "").upper().split()
        method = next((method for method in _METHODS if method in offered), None)
        if method is None:
            raise Halt(
                f"{self._server.host} offers no way to authenticate that is known here ({', '.join(_METHODS)}); "
                "see the options tls and username",
                cause="setting",
            )
        # The text of user and password is UTF-8 (RFC 4616).
        user, secret = username.encode(), password.encode()
        if method == "PLAIN":
            answer = await self._connection.ask(b"AUTH PLAIN " + base64.b64encode(b"\0" + user + b"\0" + secret))
        elif method == "LOGIN":
            answer = await self._connection.ask(b"AUTH LOGIN")
            for part in (user, secret):
                if answer.code == 334:
                    answer = await self._connection.ask(base64.b64encode(part))
        else:
            answer = await self._connection.ask(b"AUTH CRAM-MD5")
            if answer.code == 334:
                digest = hmac.new(secret, _challenge(answer.text), "md5").hexdigest().encode()
                answer = await self._connection.ask(base64.b64encode(user + b" " + digest))
        if answer.code != 235:
            raise self._refused(answer, "the credential", credential=True)

    def _refused(self, reply: Reply, what: str, *, credential: bool = False) -> Exception:
        refusal = self._judge.refusal("credential" if credential else "session", reply, what)
        return Busy(str(refusal)) if isinstance(refusal, Unavailable) else refusal


def as_data(content: bytes) -> bytes:
    """Content as DATA sends it: lines end in CRLF, a leading dot is doubled, a lone dot ends it (RFC 5321 4.5.2)."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    if not lines.endswith(b"\r\n"):
        lines += b"\r\n"
    return re.sub(rb"(?m)^\.", b"..", lines) + b".\r\n"


def own_name(address: str) -> str:
    """The name that EHLO gives where none is configured: this host's full name, or else its address."""
    # Not socket.getfqdn: it asks the resolver, which can take many seconds.
    name = socket.gethostname()
    if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name):
        return name
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _challenge(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _why(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return redact(str(text), limit=120)
