"""The pattern of an error: what is left of its text when ids, numbers, quotes and addresses are taken out.

Errors with one pattern are one group, in listings, in counts and for bulk operations, which all use this function.
"""

from __future__ import annotations

import re

#: Characters of the longest pattern, and of the text that is looked at.
MAX_PATTERN_CHARS = 200
_MAX_TEXT_CHARS = 600

#: What is taken out, in this order; the first that matches at a place wins. A whole match becomes its placeholder.
_PARTS = (
    ("quote", r"\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»|`[^`\n]*`|(?<!\w)'[^'\n]*'(?!\w)"),
    ("url", r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s,;)\]}>\"']+"),
    ("email", r"[^\s@<>,;:()\"']+@[^\s@<>,;:()\"']+\.[^\s@<>,;:()\"']*[^\s@<>,;:()\"'.]"),
    ("id", r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"),
    ("time", r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"),
    ("address", r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\[?[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){3,7}\]?(?::\d+)?"),
    ("hex", r"\b0x[0-9a-fA-F]+\b|\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b"),
    # Ids of vendors and of Voucherify: letters and digits mixed, or a prefix and an underscore before a digit.
    ("id", r"\b(?=[\w-]*\d)(?=[\w-]*[^\W\d_])[\w-]{6,}\b"),
    ("n", r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*(?=(?:[a-zµ%]{1,2})?\b|$|[^\w])"),
)
_TAKEN_OUT = re.compile("|".join(f"(?P<{name}{i}>{pattern})" for i, (name, pattern) in enumerate(_PARTS)))
_BLANKS = re.compile(r"\s+")

#: Three digits of an HTTP status are what tells one error from another.
_STATUS = re.compile(r"(^|\b(?:answered|status|HTTP(?:/[\d.]+)?|SMTP|code|error):? )([1-5]\d\d)\b", re.IGNORECASE)


def error_pattern(text: str) -> str:
    """The pattern of an error's text, on one line, of at most 200 characters.

    >>> error_pattern('answered 404: contact "81723" of ada@example.com is unknown (request 7f3a9c21d4)')
    'answered 404: contact <quote> of <email> is unknown (request <hex>)'
    """
    line = _BLANKS.sub(" ", text[:_MAX_TEXT_CHARS]).strip()
    pieces: list[str] = []
    at = 0
    for status in _STATUS.finditer(line):
        pieces += [_taken_out(line[at : status.start(2)]), status[2]]
        at = status.end(2)
    pieces.append(_taken_out(line[at:]))
    return "".join(pieces)[:MAX_PATTERN_CHARS]


def _taken_out(text: str) -> str:
    return _TAKEN_OUT.sub(lambda match: f"<{(match.lastgroup or '').rstrip('0123456789')}>", text)
