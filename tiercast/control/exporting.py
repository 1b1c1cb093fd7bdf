"""Everything of one customer as JSON Lines in a zip file (GDPR articles 15 and 20).

What is theirs is found as `forget` finds it: by the indexes, and by a scan of every raw body. So an export holds what
forgetting the same customer would remove.
"""

from __future__ import annotations

import base64
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import TiercastError
from ..event import iso_from_us
from ..history.rows import FiledDelivery, FiledJob
from ..ids import received_ms
from ..ledger import keys
from ..ledger.forgetting import Belongings, Forgetter
from ..ledger.identity import About, Finder, refs_of
from ..ledger.model import DeliveryInfo, JobInfo
from ..ledger.reading import Reader
from ..ledger.spooled import find_spooled
from ..ledger.states import DeliveryState, JobState
from ..ledger.store import Ledger
from ..rule_outcomes import decode, described
from .actor import Actor
from .audit import AuditEntry, AuditLog, Note

if TYPE_CHECKING:
    from ..history.reading import Reading

#: How many records are held at a time.
_PAGE = 200

_README = """\
Everything that Tiercast keeps of one customer
==============================================

Made at {at} for {actor}. The customer was named as: {given}
Known as: {names}

Each .jsonl file holds one JSON document a line, in UTF-8. Times are ISO 8601 in UTC; what does not apply is null.

deliveries.jsonl  {deliveries} webhooks of Voucherify that tell of this customer. `body` is what arrived, as JSON;
                  where it cannot be read as JSON, `body_base64` has its bytes. `state` says what became of it:
                  `processed`, `ignored` (no rule for it), `duplicate` (its event was known), `test`, `quarantined`
                  (not readable) or `queued` (not read yet); `reason` says why.
jobs.jsonl        {jobs} actions that such an event led to, such as an email or a CRM update: `action` is its name
                  in the configuration, `state` what became of it, `history` the attempts, `sent_as` the key by
                  which the system that was called knows it.
places.jsonl      {places} rewards and other actions that are done once only: which job has taken the place.
spooled.jsonl     {spooled} webhooks that wait on this machine's disk and are not in the ledger yet.
audit.jsonl       {audit} changes that operators made to single ones of the above.

Not in here
-----------
- {mentions} webhooks of other customers that name this one: they are the others' data. `tiercast forget` wipes their
  bodies.
- Backups, spools of receivers on other machines, and logs.
- What the systems hold that the actions called (mail, CRM and others), and Voucherify itself.
- Keyed digests, by which this customer is found and late copies of a forgotten one are recognised. They tell nothing
  without the key.
"""


class ExportRefused(TiercastError):
    """The file cannot be written; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export holds: numbers of records, by file."""

    path: Path
    deliveries: int
    jobs: int
    places: int
    spooled: int
    audit: int
    mentions: int


def export(
    ledger: Ledger,
    reader: Reader,
    forgetter: Forgetter,
    found: Belongings,
    actor: Actor,
    path: Path,
    *,
    why: str = "",
    spool: Path | None = None,
    history: Reading | None = None,
) -> Exported:
    """Write everything of a customer to a new file that only its owner can read.

    The audit log has an entry of it before the file is there. A file that is there stays as it is.

    Args:
        ledger: where.
        reader: of that ledger.
        forgetter: of that ledger.
        found: by `forgetter.find`.
        actor: who asks.
        path: the zip file to write.
        why: the reason.
        spool: the folder of this machine's spool; None where there is none.
        history: where what was settled is filed; None where nothing was.

    Raises:
        HistoryUnavailable: the history does not answer, so the export would not be whole.
        ExportRefused: the file is there already, or cannot be written.
    """
    filed = _filed(history, forgetter, found) if history else {}
    digest = forgetter.digest(found.identity)
    with _new_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        log = AuditLog(ledger)
        count = len({*found.deliveries, *filed})
        log.note(Note(actor=actor, subject=f"#{digest}", why=why), "export", count=count, result="exported")
        keys_of_jobs: list[str] = []
        deliveries = _write(archive, "deliveries.jsonl", _deliveries(reader, found, filed, keys_of_jobs))
        jobs = _write(archive, "jobs.jsonl", _jobs(reader, keys_of_jobs, filed))
        keys_of_jobs += [job.key for one in filed.values() for job in one.jobs]
        places = _write(archive, "places.jsonl", _places(reader, keys_of_jobs, filed))
        spooled = _write(archive, "spooled.jsonl", _spooled(spool, forgetter, found))
        about = {*found.deliveries, *filed, *keys_of_jobs}
        audit = _write(archive, "audit.jsonl", (_audit(entry) for entry in log.entries() if entry.subject in about))
        done = Exported(
            path=path, deliveries=deliveries, jobs=jobs, places=places, spooled=spooled, audit=audit,
            mentions=len(found.mentions),
        )  # fmt: skip
        archive.writestr("README.txt", _readme(done, found, actor, ledger.now_ms()))
    return done


def _filed(history: Reading, forgetter: Forgetter, found: Belongings) -> dict[str, FiledDelivery]:
    """What was filed of a customer, by delivery. Names that it tells lead to more, in the ledger, too."""
    filed: dict[str, FiledDelivery] = {}
    known = 0
    while known < len(names := set(found.identity.names())):
        known = len(names)
        finder = Finder(found.identity)
        digests = set(forgetter.digests(found.identity))
        for one in history.of_customer(digests):
            # Others can go by one of their names, such as a source id that both have.
            is_theirs = one.customer[:1] and one.customer[0] in digests
            if one.source in forgetter.sources and (is_theirs or finder.about(one.body or b"")[0] is About.THEIRS):
                filed[one.id] = one
                found.identity.learn(refs_of(one.body or b""))
        if len(set(found.identity.names())) > known:
            forgetter.extend(found, _no_step)
    return filed


def _no_step(_: int) -> None:
    """How far it is is not told."""


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that is not there yet, for its owner only; where writing fails it goes again."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ExportRefused(f"{path} is there already. Name another file with --out.") from None
    except OSError as error:
        raise ExportRefused(f"{path} cannot be written ({error.strerror}). Name another file with --out.") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write(archive: zipfile.ZipFile, name: str, documents: Iterable[dict[str, Any]]) -> int:
    count = 0
    with archive.open(name, "w") as file:
        for document in documents:
            file.write(json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
            count += 1
    return count


def _deliveries(
    reader: Reader, found: Belongings, filed: Mapping[str, FiledDelivery], jobs: list[str]
) -> Iterator[dict[str, Any]]:
    """Deliveries in the order of their arrival; what is in the ledger is told as it is there."""
    ids = sorted({*found.deliveries, *filed})
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        infos = {info.id: info for info in reader.by_id(page)}
        bodies = dict(zip(infos, reader.bodies(infos), strict=True))
        for id in page:
            if info := infos.get(id):
                jobs += info.jobs
                yield _delivery(info) | _body(bodies[id])
            elif one := filed.get(id):
                yield _filed_delivery(one) | _body(one.body)


def _jobs(reader: Reader, names: list[str], filed: Mapping[str, FiledDelivery]) -> Iterator[dict[str, Any]]:
    """Jobs of the ledger, then those that only the history has."""
    seen: set[str] = set()
    for info in reader.jobs_by_key(names):
        seen.add(info.key)
        yield _job(info)
    for _, one in sorted(filed.items()):
        yield from (_filed_job(one, job) for job in one.jobs if job.key not in seen)


def _body(body: bytes | None) -> dict[str, Any]:
    """A raw body as JSON, or as bytes where it is none."""
    if body is None:
        return {"body": None}
    try:
        return {"body": json.loads(body)}
    except (ValueError, RecursionError):
        return {"body": None, "body_base64": base64.b64encode(body).decode()}


def _delivery(info: DeliveryInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "source": info.source,
        "state": str(info.state),
        "event_id": info.event_id,
        "type": info.type,
        "at": info.at,
        "received_at": _iso(info.received_ms),
        "settled_at": _iso(info.settled_ms),
        "reason": info.reason,
        "first": info.first,
        "jobs": list(info.jobs),
    }


def _job(info: JobInfo) -> dict[str, Any]:
    done = info.state is JobState.DONE
    return {
        "key": info.key,
        "action": info.action,
        "state": str(info.state),
        "delivery": info.delivery,
        "event_id": info.event_id,
        "attempts": info.attempts,
        "result": info.text if done else None,
        "error": None if done else info.text,
        "sent_as": info.sent_as,
        "changed_at": _iso(info.changed_ms),
        "due_at": _iso(info.due_ms),
        "effect_possible": info.effect_possible,
        "history": [
            {
                "number": attempt.number,
                "started_at": _iso(attempt.started_ms),
                "duration_ms": attempt.duration_ms,
                "outcome": attempt.outcome,
                "text": attempt.error,
            }
            for attempt in info.history
        ],
    }


def _filed_delivery(one: FiledDelivery) -> dict[str, Any]:
    names = [keys.job_key(one.source, one.event_id or "", name) for name in one.names]
    return {
        "id": one.id,
        "source": one.source,
        "state": one.state,
        "event_id": one.event_id,
        "type": one.type,
        "at": one.at,
        "received_at": _iso(received_ms(one.id)),
        "settled_at": _iso(one.settled_ms),
        "reason": described(one.reason, decode(one.rules), ignored=one.state == DeliveryState.IGNORED),
        "first": one.first,
        "jobs": names,
    }


def _filed_job(of: FiledDelivery, job: FiledJob) -> dict[str, Any]:
    done = job.state == JobState.DONE
    return {
        "key": job.key,
        "action": job.action,
        "state": job.state,
        "delivery": of.id,
        "event_id": of.event_id,
        "attempts": job.attempts,
        "result": job.text if done else None,
        "error": None if done else job.text,
        "sent_as": keys.sent_key(job.key, job.once),
        "changed_at": _iso(job.changed_ms),
        "due_at": None,
        "effect_possible": job.maybe_ms is not None,
        "history": [
            {
                "number": attempt.number,
                "started_at": _iso(attempt.started_ms),
                "duration_ms": attempt.duration_ms,
                "outcome": attempt.outcome,
                "text": attempt.error,
            }
            for attempt in job.history
        ],
    }


def _places(reader: Reader, names: list[str], filed: Mapping[str, FiledDelivery]) -> Iterator[dict[str, Any]]:
    """The places that their jobs hold or compete for, each once."""
    digests = {(job.action, job.once): job.key for one in filed.values() for job in one.jobs if job.once}
    digests |= {(info.action, info.once): info.key for info in reader.jobs_by_key(names) if info.once}
    for (action, once), key in digests.items():
        sent_as = keys.sent_key(key, once)
        holders = reader.jobs_like(sent_as, 1)
        yield {"action": action, "sent_as": sent_as, "taken_by": holders[0] if holders else None}


def _spooled(folder: Path | None, forgetter: Forgetter, found: Belongings) -> Iterator[dict[str, Any]]:
    if folder is None or not folder.is_dir():
        return
    for id, source, arrived_ms, body in find_spooled(folder, found.identity, forgetter.sources):
        yield {"id": id, "source": source, "received_at": _iso(arrived_ms)} | _body(body)


def _audit(entry: AuditEntry) -> dict[str, Any]:
    return {"at": _iso(entry.at_ms), "verb": entry.verb, "subject": entry.subject, "result": entry.result or None}


def _readme(done: Exported, found: Belongings, actor: Actor, now_ms: int) -> str:
    identity = found.identity
    names = [*sorted(identity.ids), *sorted(identity.source_ids), *sorted(identity.emails)]
    return _README.format(
        at=_iso(now_ms), actor=actor, given=identity.given, names=", ".join(names) or "nothing else",
        deliveries=done.deliveries, jobs=done.jobs, places=done.places, spooled=done.spooled, audit=done.audit,
        mentions=done.mentions,
    )  # fmt: skip


def _iso(ms: int | None) -> str | None:
    return None if ms is None else iso_from_us(ms * 1000)
