"""What an operator asks for may be in the history by now: it is brought back into the ledger before it is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from ..history.rows import FiledDelivery
from ..ledger.filed import Filed, OpenFiled
from ..ledger.filing import bring_back, not_here
from ..ledger.store import Ledger

#: Deliveries that are brought back in one step.
STEP_MAX_DELIVERIES = 50


def bring_back_for(ledger: Ledger, filed: OpenFiled, members: Iterable[Mapping[str, Any]]) -> None:
    """Bring back the deliveries, with all their jobs, of those members that the ledger does not hold.

    One that the history does not have either, or whose customer was forgotten, stays away: the ledger then says that
    there is none. Where the process dies after this, what nobody touches is filed again a minute later.

    Args:
        ledger: where the members are to be changed.
        filed: opens the history.
        members: of an operator's verb; each names a `job`, a `delivery`, or neither (a lane).

    Raises:
        HistoryUnavailable, HistoryRefused: the history is needed and cannot be read.
        LedgerFull: the ledger has no room for what is wanted back.
    """
    asked = list(members)
    jobs, deliveries = not_here(
        ledger,
        [str(member["job"]) for member in asked if "job" in member],
        [str(member["delivery"]) for member in asked if "delivery" in member],
    )
    if not jobs and not deliveries:
        return
    history = filed()
    wanted = dict.fromkeys(chain(deliveries, (each.delivery.id for each in history.jobs_by_key(jobs))))
    left = list(wanted)
    # A row that somebody else had brought back, changed and filed since it was read is read once more.
    for _attempt in range(2):
        left = _bring_back(ledger, history, left)


def _bring_back(ledger: Ledger, history: Filed, deliveries: Sequence[str]) -> list[str]:
    """Returns those of which the history had a newer round by then."""
    stale: list[str] = []
    for start in range(0, len(deliveries), STEP_MAX_DELIVERIES):
        rows: list[FiledDelivery] = []
        for delivery in deliveries[start : start + STEP_MAX_DELIVERIES]:
            row = history.delivery(delivery)
            if row is not None:
                rows.append(row)
        answers = bring_back(ledger, rows) if rows else []
        stale += [row.id for row, answer in zip(rows, answers, strict=True) if answer == "stale"]
    return stale
