"""Say what an SMTP server's answer means for the job (RFC 5321 4.2.1, enhanced codes of RFC 3463)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from tiercast.actions import Halt, Permanent, RetryLater, Unavailable
from tiercast.outbound import redact

from .connection import Reply

#: What the server refused: the session as a whole, the credential, or a mail by its sender, a recipient or content.
Stage = Literal["session", "credential", "sender", "recipient", "mail"]

#: Characters of an answer that are read, and those that an operator gets to see.
_READ_CHARS = 2000
_SHOWN_CHARS = 200

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?!\S)")
_HELLO = re.compile(r"\b(helo|ehlo)\b", re.IGNORECASE)
_UNVERIFIED = re.compile(
    r"\b(not verified|unverified|not authori[sz]ed|not owned|not permitted to send)\b", re.IGNORECASE
)

#: Authentication or encryption is wanted, or refused (RFC 4954 6, RFC 3207 4).
_CREDENTIAL_CODES = frozenset({530, 534, 535, 538})
_CREDENTIAL = frozenset({"7.8", "7.9", "7.14"})

#: The address of the sender is refused.
_SENDER = frozenset({"1.7", "1.8"})

#: A policy refuses us, or the sender's domain: it may be one receiver's rule or hold for all mail.
_POLICY = frozenset({"7.0", "7.1", "7.60", "7.515", *(f"7.{number}" for number in range(20, 33))})

#: The mail is too large, or a command has a parameter that the server does not know: never the sender's fault.
_OF_THE_MAIL = frozenset({"3.4", "5.2", "5.4", "6.7", "2.3"})
_OF_THE_MAIL_CODES = frozenset({501, 502, 503, 504, 552, 555})


class SenderRefused(Exception):
    """The server refuses the sender's address: it holds for every mail from it."""


class PolicyRefused(Exception):
    """A policy refuses the mail; whether it holds for every mail shows only when others are sent.

    `reason` is the basic and the enhanced code.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Judge:
    """Turns answers into outcomes. `host` names the server; the values of `secrets` and `personal` are not repeated."""

    host: str
    secrets: Iterable[str] = ()
    personal: Iterable[str] = field(default=(), repr=False)

    def words(self, reply: Reply) -> str:
        """The answer as an operator sees it."""
        return redact(
            f"{reply.code} {reply.text[:_READ_CHARS]}", self.secrets, personal=self.personal, limit=_SHOWN_CHARS
        )

    def refusal(self, stage: Stage, reply: Reply, what: str) -> Exception:
        """What an answer that is no success means.

        Args:
            stage: what was refused.
            reply: the answer.
            what: the same in words, such as "recipient 2 of 3".
        """
        message = f"{self.host} refused {what}: {self.words(reply)}"
        hello = bool(_HELLO.search(f"{what} {reply.text[:_READ_CHARS]}"))
        if hello:
            message += '; if it wants another name of this machine, set ehlo = "mail.shop.example"'
        if reply.code == 421 or not 400 <= reply.code < 600:
            return Unavailable(message)
        if reply.code < 500:
            return RetryLater(message) if stage in {"recipient", "mail"} else Unavailable(message)
        return self._refused_for_good(stage, reply, message, hello=hello)

    def _refused_for_good(self, stage: Stage, reply: Reply, message: str, *, hello: bool) -> Exception:
        code = enhanced(reply)
        if stage == "credential" or code in _CREDENTIAL or reply.code in _CREDENTIAL_CODES:
            return Halt(f"{message} (check username, password and tls of this action)", cause="credential")
        if stage == "session" or hello:
            return Halt(message, cause="setting")
        if code in _OF_THE_MAIL or reply.code in _OF_THE_MAIL_CODES:
            return Permanent(message)
        if stage == "sender" or code in _SENDER:
            return SenderRefused(message)
        if code in _POLICY or _UNVERIFIED.search(reply.text[:_READ_CHARS]):
            return PolicyRefused(message, f"{reply.code} {code}")
        return Permanent(message)


def enhanced(reply: Reply) -> str | None:
    """The subject and detail of the answer's enhanced code, such as "7.1", if it has one of its class.

    >>> enhanced(Reply(550, "5.7.1 not allowed"))
    '7.1'
    """
    found = _ENHANCED.match(reply.text)
    return f"{found[2]}.{found[3]}" if found and found[1] == str(reply.code)[0] else None
