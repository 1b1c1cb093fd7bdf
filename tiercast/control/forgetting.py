"""Forgetting a customer: removal, spool, audit log, files and proof, as one request with its report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from ..ledger.forgetting import Belongings, Forgetter, Rewritten, Step
from ..ledger.identity import Finder, Identity
from ..ledger.model import Forgotten
from ..ledger.spooled import SpoolUnreadable, forget_spooled
from ..ledger.store import Ledger
from .actor import Actor
from .audit import Note, new_request

#: What stands for a text that named somebody who was forgotten.
SCRUBBED = "(removed: it named a customer who was forgotten)"


@dataclass(slots=True, kw_only=True)
class ForgetReport:
    """What became of the request; `problems` are what was not done, in words with the remedy."""

    removed: Forgotten
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


def forget(
    ledger: Ledger,
    forgetter: Forgetter,
    found: Belongings,
    actor: Actor,
    *,
    why: str = "",
    spool: Path | None = None,
    progress: Progress = Progress(),
) -> ForgetReport:
    """Remove what `forgetter` found of a customer, prove it, and leave an audit entry with a digest of theirs.

    Dying on any line leaves the names on record (see `Forgetter`), so that the same request again completes it.

    Args:
        ledger: where.
        forgetter: of that ledger.
        found: by `forgetter.find`.
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
    if spool is not None and spool.is_dir():
        try:
            report.spooled = forget_spooled(spool, found.identity, forgetter.sources)
        except SpoolUnreadable as error:
            report.problems.append(str(error))
    scrub_audit(ledger, found.identity)
    progress.rewriting()
    report.rewritten = forgetter.rewrite()
    report.left = forgetter.prove(found.identity, progress.searching)
    report.problems += _problems(report)
    if not report.problems:
        forgetter.complete(found.identity)
    return report


def scrub_audit(ledger: Ledger, identity: Identity) -> int:
    """Take a customer's names out of what operators wrote in the audit log; returns how many entries changed."""
    finder = Finder(identity)
    texts = {}
    for entry in ledger.audit_entries(500):
        named = {name: SCRUBBED for name, text in entry.items() if name != "id" and finder.mentions(text.encode())}
        if named:
            texts[entry["id"]] = named
    return ledger.scrub_audit(texts)


def _problems(report: ForgetReport) -> Iterator[str]:
    removed = report.removed
    if removed.busy:
        yield f"still being performed: {', '.join(removed.busy)}; forget them again when that has ended"
    if removed.needed:
        deliveries = ", ".join(removed.needed)
        yield f"other customers' deliveries name them, and are not settled: {deliveries}; forget them again after that"
    if not report.rewritten.done:
        yield f"the ledger's files were not written anew ({report.rewritten.why_not}); do it there: BGREWRITEAOF"
    if report.left:
        yield f"{len(report.left)} keys still hold one of their names: {', '.join(report.left[:5])}"
