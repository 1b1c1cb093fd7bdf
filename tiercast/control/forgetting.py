"""Forgetting a customer: removal, spool, audit log, files and proof, as one request with its report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ledger.forgetting import Belongings, Forgetter, Rewritten, Step
from ..ledger.identity import Finder, Identity
from ..ledger.model import Forgotten
from ..ledger.operations import scrub_operations
from ..ledger.spooled import SpoolUnreadable, forget_spooled
from ..ledger.store import Ledger
from ..queries.forgetting import FiledBelongings, HistoryForgetter
from .actor import Actor
from .audit import Note, new_request

if TYPE_CHECKING:
    from ..history.removing import Erased

#: What stands for a text that named somebody who was forgotten.
SCRUBBED = "(removed: it named a customer who was forgotten)"


@dataclass(slots=True, kw_only=True)
class ForgetReport:
    """What became of the request; `problems` are what was not done, in words with the remedy.

    `removed` is of the ledger, `filed` of the history; None where there is none. `left` are keys and rows that still
    hold one of their names.
    """

    removed: Forgotten
    filed: Erased | None = None
    spooled: int = 0
    rewritten: Rewritten = field(default_factory=lambda: Rewritten(done=False))
    left: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _nothing(_: Any) -> None:
    """Whom it concerns is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Who is told how far it is: of jobs under way that are waited for, of files, of keys that were searched."""

    waiting: Callable[[list[str]], None] = _nothing
    rewriting: Callable[[], None] = lambda: None
    searching: Step = _nothing


def find(
    forgetter: Forgetter, history: HistoryForgetter | None, customer: str, step: Step
) -> tuple[Belongings, FiledBelongings]:
    """Find all that is a customer's in ledger and history; what one of them tells of their names leads on in the other.

    Args:
        forgetter: of the ledger.
        history: of the history; None where there is none.
        customer: id, source id or email.
        step: told how many bodies were looked at.
    """
    found, filed = forgetter.find(customer, step), FiledBelongings()
    while history is not None:
        before = set(found.identity.names())
        filed = history.find(found.identity, step)
        if before == set(found.identity.names()):
            break
        forgetter.extend(found, step)
    return found, filed


def forget(
    ledger: Ledger,
    forgetter: Forgetter,
    found: Belongings,
    actor: Actor,
    *,
    history: HistoryForgetter | None = None,
    filed: FiledBelongings | None = None,
    why: str = "",
    spool: Path | None = None,
    progress: Progress = Progress(),
) -> ForgetReport:
    """Remove what `forgetter` found of a customer, prove it, and leave an audit entry with a digest of theirs.

    Dying on any line leaves the names on record (see `Forgetter`), so that the same request again completes it.

    Args:
        ledger: where.
        forgetter: of that ledger.
        found, filed: by `find`.
        history: of the history; None where there is none.
        actor: who asks.
        why: the reason.
        spool: the folder of this machine's spool; None where there is none.
        progress: who is told how far it is.
    """
    note, parts = (
        Note(actor=actor, subject=f"#{forgetter.digest(found.identity)}", why=why, request=new_request()),
        count(1),
    )

    def audit() -> dict[str, Any]:
        return note.as_request("forget") | {"part": next(parts)}

    report = ForgetReport(removed=forgetter.remove(found, waiting=progress.waiting, audit=audit))
    # After the ledger, so that nothing of theirs is left to be filed. What a filer holds is refused from the first step
    # on.
    if history is not None:
        report.filed = history.remove(found.identity, filed or FiledBelongings())
    if spool is not None and spool.is_dir():
        try:
            report.spooled = forget_spooled(spool, found.identity, forgetter.sources)
        except SpoolUnreadable as error:
            report.problems.append(str(error))
    scrub(ledger, found.identity)
    progress.rewriting()
    report.rewritten = forgetter.rewrite()
    report.left = forgetter.prove(found.identity, progress.searching)
    if history is not None:
        report.left += history.prove(found.identity, progress.searching)
    report.problems += _problems(report)
    if not report.problems:
        forgetter.complete(found.identity)
    return report


def scrub(ledger: Ledger, identity: Identity) -> None:
    """Take a customer's names out of what operators wrote, in the audit log and in operations."""
    finder = Finder(identity)
    texts = {}
    for entry in ledger.audit_entries(500):
        named = {name: SCRUBBED for name, text in entry.items() if name != "id" and finder.mentions(text.encode())}
        if named:
            texts[entry["id"]] = named
    ledger.scrub_audit(texts)
    scrub_operations(ledger, finder.mentions, SCRUBBED)


def _problems(report: ForgetReport) -> Iterator[str]:
    removed = report.removed
    if removed.busy:
        yield f"still being performed: {', '.join(removed.busy)}; forget them again when that has ended"
    if removed.needed:
        deliveries = ", ".join(removed.needed)
        yield f"other customers' deliveries name them, and are not settled: {deliveries}; forget them again after that"
    if not report.rewritten.done:
        yield f"the ledger's files were not written anew ({report.rewritten.why_not}); do it there: BGREWRITEAOF"
    if report.filed and report.filed.why_not:
        yield f"the history's files may still hold what was removed ({report.filed.why_not}); forget them again"
    if report.left:
        yield f"{len(report.left)} keys or rows still hold one of their names: {', '.join(report.left[:5])}"
