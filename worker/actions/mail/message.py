"""Build a mail as bytes."""

from __future__ import annotations

import email.policy
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime

from tiercast.actions import Permanent, Skip

_HEADER_NAME = re.compile(r"[!-9;-~]+")

#: Headers that are ours to set.
_RESERVED = re.compile(
    r"from|sender|to|cc|bcc|reply-to|subject|date|message-id|mime-version|content-.*|auto-submitted|return-path"
    r"|received|resent-.*|dkim-.*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail that is ready to be sent. `utf8`: an address has a local part beyond ASCII (RFC 6531)."""

    sender: str
    recipients: tuple[str, ...]
    message_id: str
    content: bytes
    utf8: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """The addresses of a mail."""

    sender: Address
    to: tuple[Address, ...]
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()

    @property
    def recipients(self) -> tuple[Address, ...]:
        """All that the server is told, each once."""
        return tuple({address.addr_spec: address for address in (*self.to, *self.cc, *self.bcc)}.values())


def build_mail(key: str, people: People, *, subject: str, text: str, html: str, headers: Mapping[str, str]) -> Mail:
    """Build the mail of the job `key`. Building it again gives the same Message-ID, made from the key.

    Raises:
        Skip: text and html are both empty.
        Permanent: a header holds a line break.
    """
    utf8 = not all(address.addr_spec.isascii() for address in (people.sender, *people.recipients, *people.reply_to))
    # 7bit, so that every server takes it as it is; nothing in between has a reason to re-encode it.
    message = EmailMessage(policy=email.policy.SMTP.clone(cte_type="7bit", utf8=utf8))
    message_id = f"<{hashlib.sha256(key.encode()).hexdigest()[:32]}@{people.sender.domain}>"
    message["From"] = people.sender
    for name, addresses in (("To", people.to), ("Cc", people.cc), ("Reply-To", people.reply_to)):
        if addresses:
            message[name] = addresses
    message["Subject"] = _one_line("subject", subject)
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies
    for name, value in headers.items():
        message[name] = _one_line(f"headers.{name}", value)
    _set_body(message, text, html)
    return Mail(
        sender=people.sender.addr_spec,
        recipients=tuple(address.addr_spec for address in people.recipients),
        message_id=message_id,
        content=message.as_bytes(),
        utf8=utf8,
    )


def check_headers(headers: Mapping[str, str]) -> None:
    """Check the names of configured headers.

    Raises:
        ValueError: one is malformed, or set by us.
    """
    for name in headers:
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"headers: {name!r} is no name of a header")
        if _RESERVED.fullmatch(name):
            raise ValueError(f"headers: {name} is set by Tiercast or by an option of its own; remove it")


def _one_line(option: str, value: str) -> str:
    value = value.strip()
    # A line break would begin a header of its own: https://cwe.mitre.org/data/definitions/93.html
    if any(not (character.isprintable() or character == "\t") for character in value):
        raise Permanent(f"option {option} holds a line break or a control character")
    return value


def _set_body(message: EmailMessage, text: str, html: str) -> None:
    if not text.strip() and not html.strip():
        raise Skip("options text and html are both empty for this event")
    # Half a character (a lone surrogate) cannot be encoded.
    text, html = (part.encode("utf-8", "replace").decode() for part in (text, html))
    if text.strip():
        message.set_content(text)
        if html.strip():
            message.add_alternative(html, subtype="html")
    else:
        message.set_content(html, subtype="html")
