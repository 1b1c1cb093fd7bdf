"""Reasons of dead, uncertain and quarantined work, grouped so that a few lines tell what is wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

#: Ids, times and long numbers: what differs where the reason is the same. Short numbers, such as a status, stay.
_ITS_OWN = re.compile(r"(?=[\w:./-]*\d)[\w:./-]{8,}")


def reason_of(text: str | None) -> str:
    """A reason without what is one attempt's own; `…` stands for that."""
    return _ITS_OWN.sub("…", " ".join((text or "no reason on record").split()))


def grouped(texts: Iterable[str | None]) -> Counter[str]:
    """How often each reason is given."""
    return Counter(map(reason_of, texts))
