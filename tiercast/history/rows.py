"""What is filed into the history, as values: one delivery with its body, its jobs and their attempts.

This is all that the ledger's side and the database's side share. The module imports neither Redis nor a database.

The values hold everything that the ledger knows of a settled delivery, so that `tiercast deliveries show` and
`tiercast jobs show` can say the same from the history, and so that `retry` and `replay` can bring a delivery back into
the ledger as it was. All times are integer milliseconds since 1970 unless a line says otherwise.

They are made for every event and job, so they are not frozen: that would triple the cost of making one.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Named:
    """A campaign or a tier, by the sender's id and name; None for a part that the body does not have as a text.

    `--campaign` and `--tier` find it by either, in any case of its letters.
    """

    id: str | None = None
    name: str | None = None


@dataclass(slots=True, kw_only=True)
class FiledAttempt:
    """One try of a job.

    `number` counts from 1. `outcome` is what the ledger notes: a final state, `later`, `lost` and so on. `error` is
    its text; of an attempt that was `done`, what the kind answered.
    """

    number: int
    started_ms: int
    duration_ms: int
    outcome: str
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class FiledJob:
    """A settled job.

    Args:
        key: `<source>:<event id>:<action>`, or with `:r2`, `:r3` behind it where an operator asked for it again.
        action: its name.
        round: how often this job was brought back from the history, 0 for never. A row is written only where its round
            is not older than that of the row there.
        state: a final `JobState`: done, skipped, superseded, dead (or uncertain, where the ledger files such).
        changed_ms: when it reached that state.
        attempts: how many were made, those no longer on record included.
        before: how many of them an operator's last retry left behind (field `b`): `attempts - before` are its tries.
        text: the result of a job that is done, else the error or the reason. The history makes the error pattern.
        maybe_ms: since when an effect is possible (fields `m` and `mt`); None where none is.
        unordered: `order` could not apply.
        order: digest of its order group, None where it has none.
        once: digest of its once group, None where it has none. With `key` it gives the key that the vendor got.
        place: field `us` as the ledger has it: created, and behind it what stands in for the arrival.
        planned: False where its plan skipped it (field `ps`), so that no retry can help.
        failing_ms: when it first failed by itself since the last retry.
        operation: id of the last operation that touched it.
        history: attempts on record, oldest first: the first and the last 20. Empty leaves those that are on record.
    """

    key: str
    action: str
    round: int = 0
    state: str
    changed_ms: int
    attempts: int = 0
    before: int = 0
    text: str | None = None
    maybe_ms: int | None = None
    unordered: bool = False
    order: str | None = None
    once: str | None = None
    place: str | None = None
    planned: bool = True
    failing_ms: int | None = None
    operation: str | None = None
    history: tuple[FiledAttempt, ...] = ()


@dataclass(slots=True, kw_only=True)
class FiledDelivery:
    """A settled delivery with its body, and those of its jobs that are filed with it.

    Args:
        id: UUIDv7 in its text form. Listings are sorted by it, newest first; it tells when the delivery arrived.
        round: how often this delivery was brought back from the history, 0 for never. Same rule as that of a job.
        source: its name.
        state: a final `DeliveryState`: processed, ignored, duplicate, test or quarantined.
        settled_ms: when it was settled (field `z`).
        body: the raw bytes; None where they were removed, since they named a customer who was forgotten.
        event_id, type, at, created_us, form: head of its event, as the ledger keeps it: `at` as ISO 8601, `created_us`
            in microseconds, `form` empty where not known. None (0, empty) for a delivery that was not read.
        project: the Voucherify project within which the event's id counts.
        reason: field `r` as it is stored: why it was quarantined, or a note.
        rules: what became of the rules, as `rule_outcomes.encode` gives it (field `v`): paths and no values.
        first: of a duplicate, the id of the delivery that told the event first.
        customer: keyed digests of the customer's names, the strongest first, as the ledger has them (field `c`).
        campaign: of the event.
        tier: the one that the customer is in after the event, or else the one before it.
        names: all its jobs in the order of its rules, as `<action>` or `<action>:r2` (field `j`); also those that are
            in the history already or still in the ledger.
        operation: id of the last operation that touched it.
        jobs: those that are filed now. Rows of other jobs of this delivery stay as they are.
    """

    id: str
    round: int = 0
    source: str
    state: str
    settled_ms: int
    body: bytes | None = field(repr=False)
    event_id: str | None = None
    type: str | None = None
    at: str | None = None
    created_us: int = 0
    form: str = ""
    project: str | None = None
    reason: str | None = None
    rules: str | None = None
    first: str | None = None
    customer: tuple[str, ...] = ()
    campaign: Named | None = None
    tier: Named | None = None
    names: tuple[str, ...] = ()
    operation: str | None = None
    jobs: tuple[FiledJob, ...] = ()
