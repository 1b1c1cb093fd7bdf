"""Build a mail as bytes (RFC 5322, RFC 2045)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from tiercast.actions import Permanent, Skip
from tiercast.config.templates import is_template

from .addresses import Mailbox
from .headers import (
    LINE_MAX_BYTES,
    HeaderFault,
    address_header,
    check_written,
    clean,
    plain_header,
    text_header,
)

_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")

#: Headers that are ours to set.
_RESERVED = re.compile(
    r"from|sender|to|cc|bcc|reply-to|subject|date|message-id|mime-version|content-.*|auto-submitted|return-path"
    r"|received|resent-.*|dkim-.*",
    re.IGNORECASE,
)

#: Headers that hold addresses for programs: encoded or folded, Gmail and others do not read them.
_PLAIN_HEADER = re.compile(r"list-.*", re.IGNORECASE)

#: A body that every server takes as it is: printable ASCII in short lines.
_SEVEN_BIT = re.compile(rb"(?:[\t -~]{0,76}\r\n)*")

#: What begins a line between the parts of a mail; encoded bodies cannot hold it.
_BOUNDARY_BEGIN = "=_tiercast_"


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

    sender: Mailbox
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()

    @property
    def recipients(self) -> tuple[str, ...]:
        """All that the server is given, each once."""
        return tuple(dict.fromkeys(mailbox.address for mailbox in (*self.to, *self.cc, *self.bcc)))


def build_mail(key: str, people: People, *, subject: str, text: str, html: str, headers: Mapping[str, str]) -> Mail:
    """Build the mail of the job `key`. Building it again gives the same Message-ID, made from the key.

    Raises:
        Skip: text and html are both empty.
        Permanent: a header cannot be written; the message names the option.
    """
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    message_id = f"<{digest}@{people.sender.domain}>"
    shown = (people.sender, *people.to, *people.cc, *people.reply_to)
    utf8 = not all(address.isascii() for address in (*people.recipients, *(mailbox.address for mailbox in shown)))
    lines: list[tuple[str, str]] = []
    for name, mailboxes in (
        ("From", (people.sender,)),
        ("To", people.to),
        ("Cc", people.cc),
        ("Reply-To", people.reply_to),
    ):
        if mailboxes:
            lines.append((name, address_header(name, mailboxes)))
    lines.append(("Subject", _header("subject", "Subject", subject, text_header)))
    lines.append(("Date", f"Date: {format_datetime(datetime.now(UTC))}"))
    lines.append(("Message-ID", f"Message-ID: {message_id}"))
    lines.append(("Auto-Submitted", "Auto-Submitted: auto-generated"))  # RFC 3834: no out-of-office replies
    for name, value in headers.items():
        if value.strip():
            lines.append((name, _header(f"headers.{name}", name, value, _writer(name))))
    lines.append(("MIME-Version", "MIME-Version: 1.0"))
    of_body, body = _body(text, html, boundary=f"{_BOUNDARY_BEGIN}{digest}")
    lines += [(line.partition(":")[0], line) for line in of_body]
    head = "\r\n".join(line for _, line in lines)
    try:
        check_written(head, [name for name, _ in lines], utf8=utf8)
    except HeaderFault as fault:
        raise Permanent(f"the mail cannot be written safely: {fault}") from None
    return Mail(
        sender=people.sender.address,
        recipients=people.recipients,
        message_id=message_id,
        content=head.encode() + b"\r\n\r\n" + body,
        utf8=utf8,
    )


def check_headers(headers: Mapping[str, str]) -> None:
    """Check the configured headers: their names, and the values that are no templates.

    Raises:
        ValueError: one cannot be written, is set by us, or stands there twice.
    """
    seen: set[str] = set()
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"headers: {name!r} is no name of a header")
        if _RESERVED.fullmatch(name):
            raise ValueError(f"headers: {name} is set by Tiercast or by an option of its own; remove it")
        if name.lower() in seen:
            raise ValueError(f"headers: {name} stands there twice, in two spellings; remove one")
        seen.add(name.lower())
        if not is_template(value):
            try:
                _writer(name)(name, value)
            except HeaderFault as fault:
                raise ValueError(f"headers: {name} {fault}") from None


def _writer(name: str) -> Callable[[str, str], str]:
    return plain_header if _PLAIN_HEADER.fullmatch(name) else text_header


def _header(option: str, name: str, value: str, write: Callable[[str, str], str]) -> str:
    try:
        return write(name, value)
    except HeaderFault as fault:
        raise Permanent(f"option {option} {fault}") from None


def _body(text: str, html: str, *, boundary: str) -> tuple[list[str], bytes]:
    """The body with the headers that describe it."""
    parts = [(kind, part) for kind, part in (("plain", text), ("html", html)) if part.strip()]
    if not parts:
        raise Skip("options text and html are both empty for this event")
    encoded = [_part(kind, part) for kind, part in parts]
    if len(encoded) == 1:
        return encoded[0]
    separated = b"".join(
        f"--{boundary}\r\n".encode() + "\r\n".join(head).encode() + b"\r\n\r\n" + content for head, content in encoded
    )
    return [
        f'Content-Type: multipart/alternative;\r\n boundary="{boundary}"'
    ], separated + f"--{boundary}--\r\n".encode()


def _part(kind: str, text: str) -> tuple[list[str], bytes]:
    """One body in ASCII, in lines that end in CRLF, with the headers that say how it was encoded."""
    content = re.sub(r"\r\n|\r|\n", "\r\n", clean(text)).encode()
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    encoding = "7bit"
    if not _SEVEN_BIT.fullmatch(content) or _BOUNDARY_BEGIN.encode() in content:
        encoding, content = _encode(content)
    return [f'Content-Type: text/{kind}; charset="utf-8"', f"Content-Transfer-Encoding: {encoding}"], content


def _encode(content: bytes) -> tuple[str, bytes]:
    quoted = re.sub(rb"\r?\n", b"\r\n", binascii.b2a_qp(content))
    if len(quoted) <= len(content) * 4 / 3 and max(map(len, quoted.split(b"\r\n"))) <= LINE_MAX_BYTES:
        return "quoted-printable", quoted
    return "base64", base64.encodebytes(content).replace(b"\n", b"\r\n")
