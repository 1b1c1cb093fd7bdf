"""One SMTP session that sends many mails (RFC 5321), and what each answer means for the job."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import time
from collections.abc import Iterable

from tiercast.actions import Halt, Permanent, RetryLater, Unknown
from tiercast.outbound import Deadline, redact

from .errors import NoConnection, Stale
from .message import Mail
from .place import Server

#: Refusals of ourselves and not of a mail: authentication or encryption is wanted (RFC 4954 6, RFC 3207 4).
_OURSELVES = frozenset({530, 534, 535, 538})

_Answer = tuple[int, bytes]


class Session:
    """A connection to a server, greeted and authenticated. `usable` says whether another mail can follow."""

    def __init__(self, server: Server, deadline: Deadline) -> None:
        """Open it.

        Raises:
            NoConnection: the server cannot be reached, or will not have us now.
            Halt: it refuses our credential, certificate or encryption: no mail can be sent as things are.
        """
        self._secrets = [server.password] if server.password else []
        self._host = server.host
        self.used = False
        self.idle_since = 0.0
        smtp: smtplib.SMTP | None = None
        try:
            smtp = self._connect(server, deadline)
            _introduce(smtp, server, deadline)
        except ssl.SSLCertVerificationError as error:
            self._abandon(smtp)
            raise Halt(f"the certificate of {server.host} is not accepted: {error.verify_message}") from None
        except (smtplib.SMTPResponseException, smtplib.SMTPNotSupportedError) as error:
            self._abandon(smtp)
            raise self._refused(error) from None
        except (OSError, smtplib.SMTPException) as error:
            self._abandon(smtp)
            raise NoConnection(f"no mail session with {server.host}:{server.port}: {_why(error)}") from None
        self._smtp = smtp

    @property
    def usable(self) -> bool:
        """Whether the connection is open, as far as we know."""
        return self._smtp.sock is not None

    def deliver(self, mail: Mail, deadline: Deadline, *, personal: Iterable[str] = ()) -> str:
        """Send one mail to all its recipients or to none; return the server's words.

        Raises:
            Stale: the session had been closed while idle; nothing was said.
            RetryLater, Permanent, Halt: refused for now, for good, or for everyone.
            Unknown: the mail was sent, and the connection was lost before the answer.
        """
        try:
            return self._transact(mail, deadline, tuple(personal))
        except smtplib.SMTPServerDisconnected as error:
            self.close()
            raise RetryLater(f"{self._host} closed the connection before the mail was sent: {_why(error)}") from None
        except BaseException:
            self._reset(deadline)
            raise

    def close(self) -> None:
        """Close the connection without a word."""
        self._smtp.close()

    def quit(self) -> None:
        """Say goodbye and close."""
        try:
            if self._smtp.sock is not None:
                self._smtp.sock.settimeout(1.0)
                self._smtp.quit()
        except (OSError, smtplib.SMTPException):
            pass
        finally:
            self.close()

    def _connect(self, server: Server, deadline: Deadline) -> smtplib.SMTP:
        timeout = max(0.05, deadline.left / 2)
        if server.tls == "tls":
            return smtplib.SMTP_SSL(
                server.host,
                server.port,
                local_hostname=_our_name(),
                timeout=timeout,
                context=ssl.create_default_context(),
            )
        return smtplib.SMTP(server.host, server.port, local_hostname=_our_name(), timeout=timeout)

    def _transact(self, mail: Mail, deadline: Deadline, personal: tuple[str, ...]) -> str:
        first, self.used = not self.used, True
        options = [f"SIZE={len(mail.content)}"] if self._smtp.has_extn("size") else []
        if mail.utf8:
            if not self._smtp.has_extn("smtputf8"):
                raise Permanent(f"an address is not ASCII, and {self._host} does not take such (no SMTPUTF8)")
            options += ["SMTPUTF8", "BODY=8BITMIME"]
        self._begin(mail, options, deadline, personal, first=first)
        answers = [self._say(deadline, "rcpt", recipient) for recipient in mail.recipients]
        self._check_recipients(answers, personal)
        answer = self._say(deadline, "docmd", "DATA")
        if answer[0] != 354:
            raise self._refusal("the mail", answer, personal)
        self._hold(deadline)
        self._smtp.send(_as_data(mail.content))
        # From here on the server may have it.
        try:
            self._hold(deadline)
            answer = self._smtp.getreply()
        except (smtplib.SMTPServerDisconnected, RetryLater) as error:
            self.close()
            raise Unknown(f"{self._host} had the mail and did not answer: {_why(error)}") from None
        if answer[0] != 250:
            raise self._refusal("the mail", answer, personal)
        return self._words(answer, personal)

    def _begin(
        self, mail: Mail, options: list[str], deadline: Deadline, personal: tuple[str, ...], *, first: bool
    ) -> None:
        try:
            answer = self._say(deadline, "mail", mail.sender, options)
        except smtplib.SMTPServerDisconnected:
            if first:
                raise
            raise Stale from None
        if answer[0] == 421 and not first:
            self.close()
            raise Stale
        if answer[0] != 250:
            raise self._refusal("the sender", answer, personal)

    def _say(self, deadline: Deadline, method: str, *arguments: object) -> _Answer:
        self._hold(deadline)
        code, words = getattr(self._smtp, method)(*arguments)
        return int(code), bytes(words)

    def _hold(self, deadline: Deadline) -> None:
        if deadline.left <= 0:
            self.close()
            raise RetryLater(f"the time for sending to {self._host} is used up")
        if self._smtp.sock is not None:
            self._smtp.sock.settimeout(deadline.left)

    def _check_recipients(self, answers: list[_Answer], personal: tuple[str, ...]) -> None:
        refused = [(place, answer) for place, answer in enumerate(answers, 1) if answer[0] not in {250, 251, 252}]
        # All or nothing, so that a repeat sends to nobody twice; one that is refused for good decides.
        for place, answer in sorted(refused, key=lambda entry: entry[1][0] < 500):
            raise self._refusal(f"recipient {place} of {len(answers)}", answer, personal)

    def _refusal(self, what: str, answer: _Answer, personal: tuple[str, ...] = ()) -> Exception:
        message = f"{self._host} refused {what}: {self._words(answer, personal)}"
        code = answer[0]
        if code == 421 or not 400 <= code < 600:
            self.close()
            return RetryLater(message)
        if code < 500:
            return RetryLater(message)
        return Halt(message) if code in _OURSELVES else Permanent(message)

    def _refused(self, error: Exception) -> Exception:
        """What a failed opening means, from an exception that holds the server's answer."""
        if isinstance(error, smtplib.SMTPNotSupportedError):
            return Halt(f"{self._host} does not offer what is configured: {error}; see the options tls and username")
        code = int(getattr(error, "smtp_code", 0))
        words = getattr(error, "smtp_error", b"")
        answer = (code, words if isinstance(words, bytes) else str(words).encode())
        message = f"{self._host} refused the session: {self._words(answer, ())}"
        return Halt(message) if code >= 500 else NoConnection(message)

    def _words(self, answer: _Answer, personal: tuple[str, ...]) -> str:
        text = answer[1].decode("utf-8", "replace")
        return redact(f"{answer[0]} {text}", self._secrets, personal=personal, limit=200)

    def _reset(self, deadline: Deadline) -> None:
        """Forget the mail under way, so that another can follow; if that fails, close."""
        if not self.usable:
            return
        try:
            if self._say(deadline, "rset")[0] != 250:
                self.close()
        except (OSError, smtplib.SMTPException, RetryLater):
            self.close()

    @staticmethod
    def _abandon(smtp: smtplib.SMTP | None) -> None:
        if smtp is not None:
            smtp.close()

    def mark_idle(self) -> None:
        """Note when it was last used."""
        self.idle_since = time.monotonic()


def _introduce(smtp: smtplib.SMTP, server: Server, deadline: Deadline) -> None:
    try:
        if smtp.sock is not None:
            smtp.sock.settimeout(max(0.05, deadline.left))
        smtp.ehlo_or_helo_if_needed()
        if server.tls == "starttls":
            smtp.starttls(context=ssl.create_default_context())
            smtp.ehlo_or_helo_if_needed()
        if server.username is not None and server.password is not None:
            smtp.login(server.username, server.password)
    except BaseException:
        smtp.close()
        raise


def _as_data(content: bytes) -> bytes:
    """Lines end in CRLF and nothing else, a leading dot is doubled, a lone dot ends it (RFC 5321 4.5.2)."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    if not lines.endswith(b"\r\n"):
        lines += b"\r\n"
    return re.sub(rb"(?m)^\.", b"..", lines) + b".\r\n"


def _our_name() -> str:
    # smtplib's default asks the resolver for our full name, which can take many seconds.
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name) else "[127.0.0.1]"


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "timed out"
    return redact(str(error) or type(error).__name__, limit=120)
