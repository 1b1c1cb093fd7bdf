"""Write the headers of a mail from text that was checked (RFC 5322 2.2, RFC 2047).

Python's own e-mail policies are not used: they decode what looks like an encoded word in a value, whose line breaks
then begin headers of their own, and encode whatever word is longer than a line, which spoils the address in
`List-Unsubscribe` and the comma between two recipients.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from .addresses import Mailbox

_T = TypeVar("_T", str, bytes)

#: What no header holds: a line break would begin a header of its own (https://cwe.mitre.org/data/definitions/93.html),
#: and no mail program shows the others. A tab is a blank.
CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")

#: The longest line of a mail, without its end (RFC 5322 2.1.1).
LINE_MAX_BYTES = 998

#: Characters of a line after which it is folded, where it can be.
_FOLD_CHARS = 76

#: The longest encoded word (RFC 2047 2), and what is around its text.
_WORD_CHARS = 75 - len("=?utf-8?q??=")

_SURROGATES = re.compile(r"[\ud800-\udfff]")
_PLAIN = re.compile(r"[\t -~]*")
_ENCODED_WORD = re.compile(r"=\?[^?\s]*\?[bq]\?[^?\s]*\?=", re.IGNORECASE)
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")


class HeaderFault(ValueError):
    """A value cannot stand in a header; the message says why and shows nothing of it."""


def clean(text: str) -> str:
    """Text that can be encoded: half a character (a lone surrogate) becomes U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


def text_header(name: str, value: str) -> str:
    """Write a header of free text. Blanks within the value are kept.

    >>> text_header("Subject", "Grüße")
    'Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?='

    Raises:
        HeaderFault: the value holds a line break or a control character.
    """
    value = _checked(value)
    if _PLAIN.fullmatch(value) and "=?" not in value:
        folded = _fold(f"{name}: {value}")
        if all(len(line) <= LINE_MAX_BYTES for line in folded.split("\r\n")):
            return folded
    return f"{name}: " + "\r\n ".join(_encoded_words(value, used=len(name) + 2))


def plain_header(name: str, value: str) -> str:
    """Write a header that mail programs read as it stands, in one line, such as `List-Unsubscribe` (RFC 8058).

    Raises:
        HeaderFault: the value is not plain ASCII, or too long for one line.
    """
    value = _checked(value)
    if not _PLAIN.fullmatch(value) or _ENCODED_WORD.search(value):
        raise HeaderFault("holds what is not plain ASCII; write a value in an address as {{ ... | urlencode }}")
    line = f"{name}: {value}"
    if len(line) > LINE_MAX_BYTES:
        raise HeaderFault(f"is longer than a line of a mail, which is {LINE_MAX_BYTES} bytes with the header's name")
    return line


def address_header(name: str, mailboxes: Sequence[Mailbox]) -> str:
    """Write a header of addresses.

    >>> from .addresses import Mailbox
    >>> address_header("To", [Mailbox("Zoë", "zoe", "example.com"), Mailbox("", "team", "example.com")])
    'To: =?utf-8?q?Zo=C3=AB?= <zoe@example.com>, team@example.com'
    """
    written, line = "", f"{name}:"
    for part in _address_parts(mailboxes):
        if len(line) + 1 + len(part) > _FOLD_CHARS and line.strip() and not line.endswith(":"):
            written, line = f"{written}{line}\r\n", ""
        line = f"{line} {part}"
    return written + line


def check_written(head: str, names: Iterable[str], *, utf8: bool) -> None:
    """Read the finished header block once more: it holds the headers that were meant, and nothing else.

    Raises:
        HeaderFault: it does not. Nothing of it may leave.
    """
    lines = head.split("\r\n")
    found = [line.partition(":")[0] for line in lines if line[:1] not in {" ", "\t"}]
    if found != list(names) or CONTROLS.search(head.replace("\r\n", "")):
        raise HeaderFault("the headers that were written are not those that were meant")
    if any(not line.strip() or len(line.encode()) > LINE_MAX_BYTES for line in lines):
        raise HeaderFault("a line of the headers is empty or too long")
    if not utf8 and not head.isascii():
        raise HeaderFault("the headers hold what is not ASCII")


def _checked(value: str) -> str:
    value = clean(value).strip(" \t\r\n")
    if CONTROLS.search(value):
        raise HeaderFault("holds a line break or a control character")
    return value


def _fold(line: str) -> str:
    """Break a line before blanks, so that unfolding gives back exactly what it was."""
    if len(line) <= _FOLD_CHARS:
        return line
    lines, current = [], ""
    for word in re.findall(r"[ \t]*[^ \t]+", line):
        if current and len(current) + len(word) > _FOLD_CHARS and word[0] in " \t" and not current.endswith(":"):
            lines.append(current)
            current = ""
        current += word
    return "\r\n".join([*lines, current])


def _encoded_words(value: str, *, used: int = 0) -> list[str]:
    """Encoded words that make up `value`; of the first one's line, `used` characters are taken."""
    quoted = [_quoted(character) for character in value]
    if sum(map(len, quoted)) <= len(value.encode()) * 4 / 3:
        return [f"=?utf-8?q?{text}?=" for text in _chunks(quoted, used, _WORD_CHARS)]
    pieces = [character.encode() for character in value]
    return [
        f"=?utf-8?b?{base64.b64encode(b''.join(part)).decode('ascii')}?="
        for part in _groups(pieces, used * 3 // 4, _WORD_CHARS // 4 * 3)
    ]


def _chunks(pieces: Sequence[str], used: int, most: int) -> Iterator[str]:
    for group in _groups(pieces, used, most):
        yield "".join(group)


def _groups(pieces: Sequence[_T], used: int, most: int) -> Iterator[list[_T]]:
    group: list[_T] = []
    room = max(most - used, 12)
    for piece in pieces:
        if len(piece) > room:
            yield group
            group, room = [], most
        group.append(piece)
        room -= len(piece)
    if group:
        yield group


def _quoted(character: str) -> str:
    if character == " ":
        return "_"
    return "".join(chr(byte) if byte in _Q_SAFE else f"={byte:02X}" for byte in character.encode())


def _address_parts(mailboxes: Sequence[Mailbox]) -> Iterator[str]:
    """What address headers are folded between; a comma stays with the address before it."""
    for place, mailbox in enumerate(mailboxes, 1):
        comma = "," if place < len(mailboxes) else ""
        name = clean(mailbox.name)
        if not name:
            yield f"{mailbox.address}{comma}"
            continue
        yield from _phrase(name)
        yield f"<{mailbox.address}>{comma}"


def _phrase(name: str) -> list[str]:
    plain = len(name) <= _WORD_CHARS and name.isascii() and name.isprintable() and "=?" not in name
    if plain and _PHRASE.fullmatch(name):
        return [name]
    if plain:
        return ['"' + re.sub(r'(["\\])', r"\\\1", name) + '"']
    return _encoded_words(name)
