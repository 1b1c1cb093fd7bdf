"""The address of a `webhook`: fixed, behind a reference, or with templates that may not lead it elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tiercast.actions import Permanent, Skip

#: One part of a template: {{ ... }}, {% ... %} or {# ... #}.
_PARTS = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_TEMPLATE = re.compile(r"\{[{%#]")

#: Stands for a part of a template in the address; no address holds it.
_HOLE = "\x00"

#: The longest address; servers refuse more.
_LONGEST = 8192

_LEAVES = "option url would leave the configured path for this event"


@dataclass(frozen=True, slots=True)
class _Segment:
    """One segment of the path: fixed, or with values between its beginning and its end."""

    begins: str
    ends: str
    fixed: bool
    only_values: bool

    def accepts(self, text: str) -> bool:
        if self.fixed:
            return text == self.begins
        return (
            len(text) >= len(self.begins) + len(self.ends) and text.startswith(self.begins) and text.endswith(self.ends)
        )


class Address:
    """The configured address. A value in its path is one segment: it can neither add segments nor climb.

    Args:
        text: the option; templates may stand in path and query.

    Attributes:
        origin: scheme, host and port, as written; no event changes it.
        host: the host alone.
        fixed: whether it holds no template.

    Raises:
        ValueError: it is no such address.
    """

    def __init__(self, text: str) -> None:
        text = text.strip()
        template = _TEMPLATE.search(text)
        head = text[: template.start()] if template else text
        match = re.fullmatch(r"(https?://[^/?#\\\s]+)(?:[/?#].*)?", head, re.DOTALL | re.IGNORECASE)
        if match is None or (template and head == match[1]):
            raise ValueError(
                "url: expected http:// or https:// and a host; templates may stand only after the host, "
                'as in "https://example.com/hooks/{{ event.customer.id | urlencode }}"'
            )
        self.origin = match[1]
        if "@" in self.origin:
            raise ValueError("url: holds a user or password; give the authorization option instead")
        try:
            parts = urlsplit(self.origin)
            parts.port  # noqa: B018 - raises ValueError where it is none
        except ValueError:
            raise ValueError("url: is no address; its host or port is malformed") from None
        self.host = parts.hostname or ""
        self.fixed = template is None
        rest = text[len(self.origin) :]
        # A block ({% if %}) may leave out what stands between: then only its beginning and its dots are checked.
        self._blocks = "{%" in rest
        path, _, query = _PARTS.sub(_HOLE, rest).partition("?")
        self._segments = [_segment(part) for part in path.split("/")]
        self._has_query = "?" in _PARTS.sub(_HOLE, rest)
        self._query_begins = query.partition(_HOLE)[0]

    def check(self, rendered: str) -> str:
        """The address for one event, if it stays where the configuration has it.

        Raises:
            Permanent: it leads elsewhere.
            Skip: a part of its path that is all value is empty.
        """
        url = rendered.strip()
        if len(url) > _LONGEST or not url.startswith(self.origin):
            raise Permanent("option url leads to another host for this event than the configuration names")
        rest = url[len(self.origin) :]
        if rest[:1] not in {"", "/", "?"}:
            raise Permanent("option url leads to another host for this event than the configuration names")
        path, _, query = rest.partition("?")
        # A line break would be dropped on the way, and a backslash taken for a slash.
        if "#" in rest or "\\" in path or any(sign < " " or sign == "\x7f" for sign in url):
            raise Permanent(f"{_LEAVES}; pass values through | urlencode")
        self._check_path(path.split("/"))
        if ("?" in rest and not self._has_query and not self._blocks) or not query.startswith(self._query_begins):
            raise Permanent(f"{_LEAVES}; pass values through | urlencode")
        return url

    def _check_path(self, found: list[str]) -> None:
        if any(_climbs(part) for part in found):
            raise Permanent(f"{_LEAVES}: a value is or holds . or ..")
        expected = self._segments
        if self._blocks:
            first = next((place for place, one in enumerate(expected) if not one.fixed), len(expected))
            good = len(found) >= first and all(
                one.accepts(part) for one, part in zip(expected[:first], found[:first], strict=True)
            )
        else:
            good = len(found) == len(expected) and all(
                one.accepts(part) for one, part in zip(expected, found, strict=True)
            )
        if not good:
            raise Permanent(f"{_LEAVES}; pass values through | urlencode")
        if not self._blocks and any(one.only_values and not part for one, part in zip(expected, found, strict=True)):
            raise Skip("a part of option url is empty for this event")


def _segment(text: str) -> _Segment:
    first, hole, rest = text.partition(_HOLE)
    return _Segment(
        begins=first,
        ends=rest.rpartition(_HOLE)[2],
        fixed=not hole,
        only_values=bool(hole) and not text.strip(_HOLE),
    )


def _climbs(segment: str) -> bool:
    """Whether a server that decodes a segment would find one in it that climbs."""
    if "." not in segment and "%2" not in segment:
        return False
    return any(part in {".", ".."} for part in re.split(r"[/\\]", unquote(segment)))
