"""Reads what the ledger keeps of operations (keys.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from .store import Ledger


def operation_ids(ledger: Ledger) -> list[str]:
    """The operations that are kept, newest first."""
    client = cast(Any, ledger.client)
    return [id.decode() for id in client.zrevrange(ledger.key("ops"), 0, -1)]


def operation_fields(ledger: Ledger, ids: Sequence[str]) -> list[dict[str, str]]:
    """The fields of each of these operations; none where there is no such operation."""
    pipe = cast(Any, ledger.client).pipeline(transaction=False)
    for id in ids:
        pipe.hgetall(ledger.key(f"op:{id}"))
    return [{name.decode(): text.decode() for name, text in fields.items()} for fields in pipe.execute()]


def changed_by(ledger: Ledger, id: str, page: int) -> Iterator[list[str]]:
    """The jobs and deliveries that an operation changed, in their order, so many a round trip."""
    client, key, start = cast(Any, ledger.client), ledger.key(f"op_touched:{id}"), 0
    while names := client.lrange(key, start, start + page - 1):
        yield [name.decode() for name in names]
        start += page


#: Fields of an operation that hold text of operators or of vendors, with what stands for it where it must go. Those of
#: the second line are needed until the operation has ended.
_TEXTS = {"why": "{}", "subject": "{}", "reason": "{}", "counts": "[{{}}, {{}}, {{}}]", "refusals": "[]", "tried": "[]"}
_CHOICES = {"filter": "{{}}", "names": "[]", "candidates": "{{}}"}


def scrub_operations(ledger: Ledger, mentions: Callable[[bytes], bool], text: str) -> int:
    """Replace what mentions somebody in the operations that are kept; returns how many changed.

    What an operation chooses by stays until it has ended.

    Args:
        ledger: where.
        mentions: whether a value does.
        text: what stands for it.
    """
    ids, changed = operation_ids(ledger), 0
    for id, fields in zip(ids, operation_fields(ledger, ids), strict=True):
        replaced = _TEXTS | (_CHOICES if "ended" in fields else {})
        found = {name: new.format(text) for name, new in replaced.items() if mentions(fields.get(name, "").encode())}
        if found:
            cast(Any, ledger.client).hset(ledger.key(f"op:{id}"), mapping=found)
            changed += 1
    return changed
