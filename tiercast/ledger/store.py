"""The ledger as receivers and workers use it: record, claim, plan, settle."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import redis

from ..errors import LedgerError, LedgerFull, LedgerUnavailable
from . import keys, rows, scripts
from .client import LedgerClient, translate
from .model import (
    Answer,
    Claim,
    Due,
    Exchange,
    Forgotten,
    HeldDelivery,
    HeldJob,
    HeldOperation,
    OperationStep,
    Outcome,
    Plan,
    Recorded,
    Shifted,
)
from .rewriting import look_after_files
from .wire import ask

_FULL = {
    "owed": "the limit of owed deliveries is reached (TIERCAST_MAX_OWED)",
    "memory": "the configured share of the ledger's memory is used, and with it what this source may store beyond "
    "(TIERCAST_MEMORY_SHARE)",
}

#: WAIT asks for what its own connection wrote last, and a repeated script writes nothing, though its first try may not
#: have reached the replicas. This write stands for all before it; it passes where memory is used up, as settling must.
_MARK = "#!lua flags=allow-oom\nreturn redis.call('HSET', KEYS[1], 'waited', 1)"

#: A write like those of `record`, refused where they are. A server that is a replica, has failed to save, has too few
#: replicas or too little memory answers what only reads.
_PROBE = "#!lua\nreturn redis.call('SET', KEYS[1], '1', 'PX', 60000)"

#: How many times a worker repeats a call whose answer was lost; every call can be repeated without harm.
_REPEATS = 3


def new_token() -> str:
    """Make a claim's token."""
    return secrets.token_urlsafe(9)


class Ledger:
    """One ledger. Safe to use from several threads. Durations are seconds.

    Every method raises LedgerUnavailable when the server does not answer in time, LedgerError when it answers
    with an error.
    """

    def __init__(
        self,
        client: LedgerClient,
        *,
        prefix: str = "tc",
        lease: float = 30.0,
        replicas: int = 0,
        replica_timeout: float = 1.0,
        max_owed: int = 5_000_000,
        memory_share: float = 0.8,
        keep: float = 7 * 86400,
        keep_dead: float = 30 * 86400,
        repeats: int = _REPEATS,
        test_clock: bool = False,
    ) -> None:
        self.client = client
        self.prefix = prefix + ":"
        self.lease = lease
        self._replicas = replicas
        self._replica_ms = int(replica_timeout * 1000)
        self._max_owed = max_owed
        self._memory_share = memory_share
        self._keep_ms = int(keep * 1000)
        self._keep_dead_ms = int(keep_dead * 1000)
        self._repeats = repeats
        self._test_clock = test_clock

    def key(self, name: str) -> str:
        """Put the prefix before a key's name (see keys.py)."""
        return self.prefix + name

    def close(self) -> None:
        """Close its connections."""
        self.client.close()

    def is_begun(self) -> bool:
        """Whether anybody has used this ledger yet."""
        return bool(self.client.exists(self.key("meta")))

    def memory(self) -> tuple[int, int]:
        """Bytes that the server uses, and its limit (0 for none)."""
        info = cast("dict[str, int]", self.client.info("memory"))
        return int(info["used_memory"]), int(info.get("maxmemory", 0))

    # --- receivers

    def record(self, deliveries: Sequence[tuple[str, str, bytes]], *, due_ms: Sequence[int] | None = None) -> Recorded:
        """Store (source, delivery id, body) triples as owed; all or none. Repeating it stores nothing twice.

        Raises:
            LedgerFull: a limit is reached.
        """
        args: list[Any] = [self._max_owed, self._memory_share]
        for i, (source, delivery, body) in enumerate(deliveries):
            args += (source, delivery, body, due_ms[i] if due_ms else "")
        answer = self.run("record", args, durable=True, repeats=0)
        if answer[0] != b"OK":
            raise LedgerFull(_FULL[answer[0].decode().removeprefix("FULL ")])
        return Recorded(_texts(answer[1]))

    def ping(self) -> None:
        """Raise unless the ledger answers and could record: it writes a key that expires (`probe` in keys.py)."""
        used, limit = self.memory()
        role = self.client.role()
        self.client.eval(_PROBE, 1, self.key("probe"))
        if role[0] not in (b"master", "master"):
            raise LedgerUnavailable("the ledger's server is a replica and takes no writes")
        # Half of what is beyond the share is kept for sources that stored little (see record.lua).
        if limit and used >= limit * (1 + self._memory_share) / 2:
            raise LedgerFull(_FULL["memory"])

    # --- workers

    def exchange_deliveries(
        self, source: str, plans: Sequence[Plan] = (), claim: Claim | None = None
    ) -> Exchange[HeldDelivery]:
        """Settle held deliveries with what was read in them, and claim the next, in one step.

        `Exchange.settled` holds (delivery, state, first delivery of a duplicate).
        """
        request = self.request(keys.deliveries_lane(source), claim)
        request |= {"source": source, "plans": [rows.plan(plan) for plan in plans]}
        settled, bells, claimed, more, isolated = self.run("deliveries", [_json(request)], durable=bool(plans))
        token = claim.token if claim else ""
        return Exchange(
            [(_text(d), _text(state), _text(first)) for d, state, first in settled],
            _texts(bells),
            [
                HeldDelivery(id=_text(d), token=token, body=body, again=int(again), expiries=int(expiries))
                for d, body, again, expiries in claimed
            ],
            bool(more),
            bool(isolated),
        )

    def exchange_jobs(
        self,
        lane: str,
        outcomes: Sequence[Outcome] = (),
        claim: Claim | None = None,
        *,
        learn: str = "",
    ) -> Exchange[HeldJob]:
        """Settle held jobs of one lane and claim the next, in one step.

        Jobs are handed out only where replicas have to confirm and have confirmed the claim: after a fail-over to one
        that does not know of it, another worker would claim them as if nobody had.

        `learn` names the limit or action for which a rate is learnt where the vendor refuses too many calls.
        `Exchange.settled` holds (job, "", "").
        """
        request = self.request(lane, claim) | {"settle": [rows.outcome(outcome) for outcome in outcomes]}
        if learn:
            request["learn"] = learn
        claims = claim is not None and claim.n > 0
        try:
            answer = self.run("jobs", [_json(request)], durable=bool(outcomes) or claims)
        except NotReplicated as error:
            if claim is not None:
                self._release(lane, claim.token, error.answer[2])
            raise
        settled, bells, claimed, more, isolated, now, hold = answer
        token = claim.token if claim else ""
        return Exchange(
            [(_text(job), "", "") for job in settled],
            _texts(bells),
            [rows.held_job(row, token, int(now)) for row in claimed],
            bool(more),
            bool(isolated),
            int(hold) / 1000,
        )

    def renew(self, lane: str, held: Sequence[tuple[str, str]]) -> list[bool]:
        """Lengthen the leases of (member, token) pairs; says of each whether it is still ours."""
        args: list[Any] = [lane, round(self.lease * 1000)]
        for pair in held:
            args += pair
        # A primary that was cut off, and replaced, would go on renewing what others have taken over by now.
        return [bool(kept) for kept in self.run("renew", args, durable=True)]

    def due(self, lanes: Sequence[str]) -> Due:
        """Which of these lanes have work that may start now? Their bells count as under way: the caller rings."""
        bells, waiting, next_ms, isolated, now = self.run("due", list(lanes))
        return Due(_texts(bells), _texts(waiting), next_ms / 1000, _texts(isolated), int(now))

    def trim(self, most: int = 200) -> tuple[int, list[str]]:
        """Let go of up to `most` deliveries whose retention is over, and go on with large groups.

        Returns how many went, and lanes to ring for. While more is left to do now, the number is at least `most`, so
        a caller that stops below it has done all.
        """
        count, more, bells, look = self.run("trim", [most, self._keep_ms, self._keep_dead_ms])
        if int(look):
            look_after_files(self, int(look))
        return max(int(count), most) if more else int(count), _texts(bells)

    def now_ms(self) -> int:
        """The ledger's clock."""
        if self._test_clock and (shown := self.client.get(self.key("clock"))):
            return int(cast(bytes, shown))
        seconds, us = self.client.time()
        return seconds * 1000 + us // 1000

    def shift(self, by: float = 0.0, *, known_ms: int = 0, limits: Sequence[str] = ()) -> Shifted:
        """Move back what is due and held, one bounded step, after the ledger's clock went back (see clock.py).

        Args:
            by: seconds by which the caller saw it go back; 0 where it saw nothing: then the ledger's own notes are
                looked at, and a move that somebody began goes on.
            known_ms: the total that the caller knew before; what others have moved since is not moved again.
            limits: names of limits, whose next starts are moved, too.
        """
        args = [round(by * 1000), known_ms, round(self.lease * 1000), *limits]
        total, more, found, bells = self.run("shift", args)
        return Shifted(int(total), bool(more), int(found) / 1000, _texts(bells))

    def operate(self, verb: str, **member: Any) -> tuple[bool, str, list[str]]:
        """Run an operator's verb (see lua/_verbs.lua): done or not, the new state or why not, lanes to ring for.

        It is not repeated by itself: some verbs mean more the second time.
        """
        (answer,), bells = self.operate_many(verb, [member])
        return answer.done, answer.text, bells

    def operate_many(
        self, verb: str, members: Sequence[Mapping[str, Any]], *, audit: Mapping[str, Any] | None = None
    ) -> tuple[list[Answer], list[str]]:
        """Run an operator's verb for up to 100 members in one step, with its audit entry; not repeated by itself.

        Returns an answer for each member, and lanes to ring for.
        """
        request: dict[str, Any] = {"verb": verb, "keep": self._keep_ms, "keep_dead": self._keep_dead_ms}
        request["members"] = list(members)
        if audit:
            request["audit"] = dict(audit)
        answers, bells = self.run("operate", [_json(request)], repeats=0)
        return [Answer(done == b"ok", _text(text)) for done, text in answers], _texts(bells)

    # --- operations

    def claim_operations(self, claim: Claim) -> Exchange[HeldOperation]:
        """Claim operations of their lane."""
        rows_, bells, more, isolated = self.run("operations", [_json(self.request(keys.OPERATIONS, claim))])
        claimed = [
            HeldOperation(id=_text(op), token=claim.token, expiries=int(expiries), fields=_fields(fields))
            for op, expiries, fields in rows_
        ]
        return Exchange([], _texts(bells), claimed, bool(more), bool(isolated))

    def step_operation(self, op: str, token: str, **step: Any) -> OperationStep:
        """Take one step of a held operation (see lua/operation.lua). Repeating it changes nothing."""
        request = {"op": op, "token": token, "lease": round(self.lease * 1000)}
        request |= {"keep": self._keep_ms, "keep_dead": self._keep_dead_ms} | step
        what, fields, held, bells = self.run("operation", [_json(request)])
        return OperationStep(_text(what), _fields(fields), int(held), _texts(bells))

    # --- audit

    def note_audit(self, entry: Mapping[str, Any], *, count: int, refused: int, result: str) -> None:
        """Write an audit entry of a change that is made elsewhere; not repeated by itself."""
        request = {"entry": dict(entry), "count": count, "refused": refused, "result": result}
        self.run("audit", [_json(request)], repeats=0)

    def audit_entries(self, page: int) -> Iterator[dict[str, str]]:
        """The fields of all audit entries (see keys.py), newest first, so many a round trip; `id` is the stream's."""
        last = "+"
        while True:
            found = cast(Any, self.client).xrevrange(self.key("audit"), max=last, count=page)
            for id, fields in found:
                yield {"id": _text(id)} | {_text(name): _text(value) for name, value in fields.items()}
            if len(found) < page:
                return
            last = "(" + _text(found[-1][0])

    def scrub_audit(self, texts: Mapping[str, Mapping[str, str]]) -> int:
        """Give fields of audit entries other texts, by the entry's id and the field's name; how many changed."""
        return int(self.run("audit", [_json({"scrub": texts})])) if texts else 0

    def forget(
        self,
        names: Sequence[str],
        deliveries: Sequence[tuple[str, str]] = (),
        *,
        bodies: Sequence[str] = (),
        audit: Mapping[str, Any] | None = None,
    ) -> Forgotten:
        """Leave tombstones for a customer's names, and remove (delivery, source) pairs with everything about them.

        `names` are digests; of `bodies` only the raw body goes, where nothing needs it any more; `audit` is the entry
        of this part of the request.
        """
        request: dict[str, Any] = {"keep": self._keep_ms, "keep_dead": self._keep_dead_ms, "names": list(names)}
        request |= {"deliveries": [list(pair) for pair in deliveries], "bodies": list(bodies)}
        if audit:
            request["audit"] = dict(audit)
        removed, jobs, busy, needed, bells = self.run("forget", [_json(request)], durable=True)
        return Forgotten(int(removed), int(jobs), _texts(busy), _texts(needed), _texts(bells))

    # --- inside

    def request(self, lane: str, claim: Claim | None) -> dict[str, Any]:
        request: dict[str, Any] = {"lane": lane, "keep": self._keep_ms, "keep_dead": self._keep_dead_ms}
        if claim:
            request["claim"] = {
                "token": claim.token,
                "n": claim.n,
                "cap": claim.cap,
                "lease": round(self.lease * 1000),
                "per_call": claim.per_call,
                "claims_again": claim.claims_again_ms,
                "redelivered": claim.redelivered,
            }
            if claim.isolated:
                request["claim"]["isolated"] = True
            if claim.heard:
                request["claim"]["heard"] = True
            if claim.learn:
                request["claim"]["learn"] = claim.learn
            if claim.limits:
                request["claim"]["limits"] = [{"name": n, "interval": us} for n, us in claim.limits]
            if claim.cap is None:
                del request["claim"]["cap"]
        return request

    def run(self, name: str, args: list[Any], *, durable: bool = False, repeats: int | None = None) -> Any:
        """Run a script; every script can be repeated without harm, so a lost answer is asked for again."""
        left = self._repeats if repeats is None else repeats
        while True:
            try:
                return self._run_once(name, args, wait=durable and self._replicas > 0)
            except LedgerUnavailable:
                if left <= 0:
                    raise
                left -= 1

    def _run_once(self, name: str, args: list[Any], *, wait: bool) -> Any:
        digest = scripts.digest(name, test_clock=self._test_clock)
        try:
            try:
                return self._evaluate(digest, args, wait=wait)
            except redis.exceptions.NoScriptError:
                for each in scripts.NAMES:
                    self.client.script_load(scripts.source(each, test_clock=self._test_clock))
                return self._evaluate(digest, args, wait=wait)
        except redis.RedisError as error:
            raise translate(error) from error

    def _evaluate(self, digest: str, args: list[Any], *, wait: bool) -> Any:
        script = ("EVALSHA", digest, 1, self.prefix, *args)
        if not wait:
            return ask(self.client, script)[0]
        mark = ("EVAL", _MARK, 1, self.key("meta"))
        answer, _, reached = ask(self.client, script, mark, ("WAIT", self._replicas, self._replica_ms))
        if reached < self._replicas:
            raise NotReplicated(reached, self._replicas, answer)
        return answer

    def _release(self, lane: str, token: str, claimed: Sequence[Sequence[Any]]) -> None:
        """Give back what was claimed and is not handed out, so that its lease does not expire."""
        outcomes = [rows.outcome(Outcome(job=_text(row[0]), token=token, verdict="released")) for row in claimed]
        if outcomes:
            with contextlib.suppress(LedgerError):
                self.run("jobs", [_json(self.request(lane, None) | {"settle": outcomes})], repeats=0)


class NotReplicated(LedgerUnavailable):
    """The server did it, and fewer replicas than are asked for have confirmed it. `answer` is what it answered."""

    def __init__(self, reached: int, asked: int, answer: Any) -> None:
        super().__init__(f"{reached} of {asked} replicas confirmed in time (TIERCAST_DURABILITY)")
        self.answer = answer


def _json(value: Any) -> str:
    """A script's request. One half surrogate, which cjson does not take, would have it refused as a whole."""
    text = json.dumps(value, separators=(",", ":"))
    return json.dumps(_whole(value), separators=(",", ":")) if "\\ud" in text else text


def _whole(value: Any) -> Any:
    """The same without half surrogates: U+FFFD in place of each."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {_whole(name): _whole(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_whole(inner) for inner in value]
    return value


def _fields(flat: Sequence[bytes]) -> dict[str, str]:
    """The fields of a hash, as a script gives them."""
    return {_text(flat[i]): _text(flat[i + 1]) for i in range(0, len(flat), 2)}


def _text(value: bytes) -> str:
    return value.decode()


def _texts(values: Iterable[bytes]) -> list[str]:
    return [value.decode() for value in values]
