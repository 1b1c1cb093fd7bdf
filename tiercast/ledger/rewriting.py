"""Rewriting the append-only file by age, so that what left the ledger leaves the server's files, too.

Valkey and Redis rewrite the file when it has grown by a share of its size and beyond 64 MB. At low traffic that takes
months, and until then it holds every body that retention or `tiercast forget` removed. So scripts note in the hash
`rewrite` when something left (see keys.py), and the trimmer asks for a rewrite: within an hour after a customer was
forgotten, and a day after something left by retention (sooner where the retention is shorter).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import redis
import structlog

from ..errors import LedgerError

if TYPE_CHECKING:
    from .store import Ledger

log = structlog.get_logger()

#: What the server answers while it writes a file; the rewrite is asked for again.
_BUSY = ("already in progress", "in progress", "background save")


def look_after_files(ledger: Ledger, now_ms: int) -> None:
    """Begin a rewrite, or see what became of the one that was begun; call it when `trim.lua` says that it is time.

    Nothing is waited for, and nothing is raised: where the server refuses, that is noted for `refusal`.
    """
    try:
        _look(ledger, now_ms)
    except (LedgerError, OSError) as error:
        log.info("rewrite.postponed", error=type(error.__cause__ or error).__name__)


def begin(ledger: Ledger, now_ms: int, run_id: str = "", rewrites: int = 0) -> None:
    """Note that a rewrite begins: what left before is gone once it has ended well."""
    client, key = cast(Any, ledger.client), ledger.key("rewrite")
    left, forgot = client.hmget(key, "left", "forgot")
    pipe = client.pipeline(transaction=True)
    marks = f"{(left or b'-').decode()} {(forgot or b'-').decode()}"
    pipe.hset(key, "begun", f"{now_ms} {run_id or '-'} {rewrites} {marks}")
    pipe.hdel(key, "left", "forgot")
    pipe.execute()


def end(ledger: Ledger, *, done: bool) -> None:
    """Note how the rewrite ended: one that failed is asked for again."""
    client, key = cast(Any, ledger.client), ledger.key("rewrite")
    begun = client.hget(key, "begun")
    pipe = client.pipeline(transaction=True)
    if begun and not done:
        at, _, _, left, forgot = begun.decode().split(" ")
        if forgot != "-":
            pipe.hset(key, "forgot", forgot)
        pipe.hset(key, "left", left if left != "-" else at)
    pipe.hdel(key, "begun", *(("refused",) if done else ()))
    pipe.execute()


def refusal(ledger: Ledger) -> str | None:
    """Why the server does not rewrite its append-only file for us; None where it does, or was not asked.

    Raises:
        LedgerError: it does not answer.
    """
    found = cast("bytes | None", ledger.client.hget(ledger.key("rewrite"), "refused"))
    return found.decode().partition(" ")[2] if found else None


def _look(ledger: Ledger, now_ms: int) -> None:
    client, key = cast(Any, ledger.client), ledger.key("rewrite")
    info = client.info("persistence")
    if not int(info.get("aof_enabled", 0)):
        # Snapshots are written anew as a whole, at their own times.
        client.hdel(key, "left", "forgot", "begun", "refused")
        return
    if any(int(info.get(name, 0)) for name in _UNDER_WAY):
        return
    run_id = str(client.info("server").get("run_id", "-"))
    rewrites = int(info.get("aof_rewrites", 0))
    if begun := client.hget(key, "begun"):
        _, of, before, _, _ = begun.decode().split(" ")
        # The count starts anew with the server, and a restart ends a rewrite.
        done = of == run_id and rewrites > int(before) and info.get("aof_last_bgrewrite_status") == "ok"
        end(ledger, done=done)
        if done:
            log.info("rewrite.done")
            return
    begin(ledger, now_ms, run_id, rewrites)
    try:
        client.bgrewriteaof()
        log.info("rewrite.begun")
    except LedgerError as error:
        answer = error.__cause__
        if not isinstance(answer, redis.exceptions.ResponseError):
            raise
        end(ledger, done=False)
        if not any(word in str(answer).lower() for word in _BUSY):
            news = client.hset(key, "refused", f"{now_ms} {str(answer)[:200]}")
            if news:
                log.warning("rewrite.refused", remedy="allow BGREWRITEAOF, or rewrite the append-only file yourself")


_UNDER_WAY = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")
