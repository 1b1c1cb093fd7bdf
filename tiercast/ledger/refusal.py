"""Why the ledger's server refuses to write, as its error code and as words that anybody may read."""

from __future__ import annotations

import re
from collections.abc import Mapping

import redis

from ..errors import LedgerError

_CODE = re.compile(r"[A-Z][A-Z0-9]{2,19}")

#: What the server's error codes mean, and what to do. The server's own text may name users, keys and hosts.
REMEDIES: Mapping[str, str] = {
    "MISCONF": "its last snapshot or append failed, so it takes no writes; look at its disk and its log",
    "NOREPLICAS": "fewer replicas follow than its min-replicas-to-write asks for; look at its replicas",
    "NOPERM": "its user may not do what Tiercast needs; give it the rights in docs/operating.md",
    "READONLY": "it is a replica and takes no writes; point TIERCAST_REDIS_URL at the primary",
    "OOM": "it is at its maxmemory; raise that, or let workers catch up",
    "WRONGPASS": "it knows no such user and password; look at TIERCAST_REDIS_URL",
    "NOAUTH": "it wants a password; give one in TIERCAST_REDIS_URL",
    "LOADING": "it is reading its data from disk after a start; wait",
    "MASTERDOWN": "it is a replica that has lost its primary; point TIERCAST_REDIS_URL at the primary",
    "BUSY": "it is running a script that does not end; look at what else uses it",
}


def error_code(error: BaseException | None) -> str | None:
    """The code of the server's answer behind an error, such as `NOREPLICAS`; None where no answer is behind it."""
    while error is not None:
        if isinstance(error, redis.RedisError):
            return _code_of(error)
        error = error.__cause__
    return None


def reason_of(error: LedgerError) -> str:
    """Say in words for a public page why something cannot be stored, with the server's error code if there is one.

    A plain LedgerError quotes the server, which may name users and keys; its subclasses hold words of ours only.
    """
    code = error_code(error)
    if code is None:
        return str(error) if type(error) is not LedgerError else "the ledger refuses a command; see the log"
    known = REMEDIES.get(code)
    if known is None:
        return f"the ledger's server refuses ({code}); see its log"
    return f"the ledger's server refuses ({code}): {known}"


def _code_of(error: redis.RedisError) -> str | None:
    code = getattr(error, "status_code", None)
    text = str(error)
    if "ACL failure in script" in text:
        return "NOPERM"
    if isinstance(code, str) and code != "ERR" and _CODE.fullmatch(code):
        return code
    # redis-py leaves a code that it does not know in the text.
    first = text.partition(" ")[0]
    if isinstance(error, redis.exceptions.ResponseError) and _CODE.fullmatch(first):
        return first
    return code if code == "ERR" else None
