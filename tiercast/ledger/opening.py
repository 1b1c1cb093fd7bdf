"""Opening the ledger: connect, check that the server can keep our promises, agree on layout and hash key."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any, Literal, cast

import redis

from ..errors import LedgerError, LedgerUnsuited
from ..settings import Settings
from . import keys
from .client import connect
from .clock import clock_state
from .digests import Digests
from .rewriting import refusal
from .store import Ledger

Role = Literal["receiver", "worker", "operator"]

#: Seconds to wait for an answer. A receiver would rather answer 503 (or spool) than make the sender wait.
_TIMEOUTS: dict[Role, float] = {"receiver": 0.5, "worker": 5.0, "operator": 10.0}

_OLDEST = {"redis": (7, 2), "valkey": (8, 0)}


@dataclass(frozen=True, slots=True)
class Suitability:
    """What a check of the server found: `errors` make it unusable, `warnings` do not."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def open_ledger(settings: Settings, *, role: Role) -> Ledger:
    """Make the ledger for a process of that role; connects at its first use."""
    replicas = int(settings.durability.partition(":")[2] or 0)
    return Ledger(
        connect(settings.redis_url, timeout=_TIMEOUTS[role]),
        prefix=settings.prefix,
        lease=settings.lease,
        replicas=replicas,
        # Within the time in which the answer itself must come.
        replica_timeout=min(1.0, _TIMEOUTS[role] * 0.8),
        max_owed=settings.max_owed,
        memory_share=settings.memory_share,
        keep=settings.keep_days * 86400,
        keep_dead=settings.keep_dead_days * 86400,
        repeats=0 if role == "receiver" else 3,
    )


def prepare(ledger: Ledger, settings: Settings) -> Digests:
    """Check the server and agree with it on layout and hash key; call it once at the start of a process.

    Raises:
        LedgerUnsuited: the server or what it holds contradicts our promises; the message says what to do.
        LedgerUnavailable: it does not answer.
    """
    found = examine(ledger, settings)
    if found.errors:
        raise LedgerUnsuited("\n".join(found.errors))
    _agree_on_layout(ledger)
    return _agree_on_hash_key(ledger, settings)


def examine(ledger: Ledger, settings: Settings) -> Suitability:
    """Look at the server's version and settings."""
    info = ledger.client.info()
    errors = [*_version_errors(info)]
    warnings: list[str] = []
    policy = _config(ledger, "maxmemory-policy") or info.get("maxmemory_policy")
    if policy and policy != "noeviction":
        errors.append(
            f"The ledger's server evicts keys when memory is short (maxmemory-policy {policy}), which would lose "
            "acknowledged deliveries. Set: maxmemory-policy noeviction"
        )
    elif not policy:
        warnings.append(_UNSEEN.format("maxmemory-policy", "noeviction, or acknowledged deliveries are lost"))
    if settings.durability == "fsync" and (why_not := _why_not_synced(ledger, info)):
        errors.append(why_not)
    elif int(info.get("aof_enabled", 0)) and _config(ledger, "appendfsync") is None:
        warnings.append(_UNSEEN.format("appendfsync", "everysec or always"))
    if not int(info.get("aof_enabled", 0)):
        warnings.append(
            "The ledger's server keeps no append-only file: what was acknowledged is lost when it restarts. "
            "Set: appendonly yes"
        )
    warnings += _replica_faults(settings, info)
    warnings += _clock_faults(ledger)
    if int(info.get("aof_enabled", 0)) and (why := refusal(ledger)):
        warnings.append(
            f"The ledger's server does not let us rewrite its append-only file ({why}): it holds what retention and "
            "forget removed until it grows enough to be rewritten by itself. Allow BGREWRITEAOF, or run it there daily."
        )
    if info.get("cluster_enabled"):
        errors.append("The ledger's server runs in cluster mode. One ledger is one primary: use a server without it.")
    return Suitability(tuple(errors), tuple(warnings))


def durability_faults(ledger: Ledger, settings: Settings) -> list[str]:
    """Say why the server cannot keep TIERCAST_DURABILITY just now; empty where it can.

    Raises:
        LedgerUnavailable: it does not answer.
    """
    if settings.durability == "fsync":
        why_not = _why_not_synced(ledger, ledger.client.info("persistence"))
        return [why_not] if why_not else []
    if settings.durability.startswith("replica:"):
        return _replica_faults(settings, ledger.client.info("replication"))
    return []


def _clock_faults(ledger: Ledger) -> list[str]:
    state = clock_state(ledger)
    if state.behind:
        return [
            f"The ledger's clock is {state.behind:.0f} seconds behind what it showed before: what is owed waits that "
            "long, unless a worker runs, which moves it. Look at the clock of its machine."
        ]
    if state.moving or (state.moved_ms is not None and 0 <= ledger.now_ms() - state.moved_ms < _DAY_MS):
        how = "is being moved" if state.moving else "was moved"
        return [f"The ledger's clock went back by {state.moved:.0f} seconds; what is due and held {how} by as much."]
    return []


_DAY_MS = 86_400_000

_NOT_SYNCED = (
    "TIERCAST_DURABILITY is fsync, but the ledger's server does not sync every write. "
    "Set: appendonly yes, appendfsync always"
)

_SYNC_UNSEEN = (
    "TIERCAST_DURABILITY is fsync, but the ledger's server does not let us see whether it syncs every write: it "
    "refuses CONFIG GET. Allow that (ACL: +config|get), or set TIERCAST_DURABILITY to written or replica:N"
)

#: What a server that refuses CONFIG GET, as managed ones do, does not show: a setting, and what it has to be.
_UNSEEN = "The ledger's server refuses CONFIG GET, so its {} could not be seen. See to it that it is {}."


def _replica_faults(settings: Settings, info: dict[str, Any]) -> list[str]:
    """Whether fewer replicas follow than must confirm; one that is still reading its first copy does not count."""
    needed = int(settings.durability.partition(":")[2] or 0)
    replicas = [value for name, value in info.items() if re.fullmatch(r"slave\d+", name) and isinstance(value, dict)]
    found = sum(1 for one in replicas if one.get("state") == "online")
    if found >= needed:
        return []
    return [
        f"TIERCAST_DURABILITY is {settings.durability}, but {found} replicas are "
        "connected; nothing is acknowledged until they are."
    ]


def _version_errors(info: dict[str, Any]) -> list[str]:
    name = "valkey" if "valkey_version" in info else "redis"
    text = str(info.get(f"{name}_version", "0.0"))
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if version >= _OLDEST[name]:
        return []
    oldest = ".".join(map(str, _OLDEST[name]))
    return [f"The ledger's server is {name.capitalize()} {text}; Tiercast needs Redis 7.2 or Valkey 8 ({oldest})."]


def _why_not_synced(ledger: Ledger, info: dict[str, Any]) -> str | None:
    """Why the server does not sync every write, as far as it lets us see; None where it does."""
    if not int(info.get("aof_enabled", 0)):
        return _NOT_SYNCED
    found = _config(ledger, "appendfsync")
    return _SYNC_UNSEEN if found is None else None if found == "always" else _NOT_SYNCED


def _config(ledger: Ledger, name: str) -> str | None:
    """Read a setting; None where the server does not let us (managed services, ACL)."""
    try:
        values = cast(dict[Any, Any], ledger.client.config_get(name))
    except LedgerError as error:
        if isinstance(error.__cause__, redis.exceptions.ResponseError):
            return None
        raise
    value = values.get(name, values.get(name.encode()))
    return value.decode() if isinstance(value, bytes) else value


def _agree_on_layout(ledger: Ledger) -> None:
    found = _agreed(ledger, "layout", keys.LAYOUT)
    if found != keys.LAYOUT:
        raise LedgerUnsuited(
            f"The ledger's layout is version {found}; this Tiercast knows version {keys.LAYOUT}. Run the version of "
            "Tiercast that wrote it, or let that version empty its lanes and start with another TIERCAST_PREFIX."
        )


def _agree_on_hash_key(ledger: Ledger, settings: Settings) -> Digests:
    digests = Digests(settings.hash_key or _agreed(ledger, "hash_key", secrets.token_urlsafe(32)))
    if _agreed(ledger, "hash_check", digests.check()) != digests.check():
        raise LedgerUnsuited(
            "TIERCAST_HASH_KEY is not the key that this ledger was begun with. Set the one it was begun with (or "
            "unset it if there was none); with another, once places and customers would no longer be found."
        )
    return digests


def ledger_id(ledger: Ledger) -> str:
    """The ledger's own id, made at its first use: a history that belongs to another ledger is told by it."""
    return _agreed(ledger, "id", secrets.token_urlsafe(12))


def _agreed(ledger: Ledger, name: str, ours: str) -> str:
    """What the ledger was begun with; `ours` where it begins now.

    It is written only then: a ledger at its memory limit refuses the write, and must be opened to be emptied.
    """
    meta = ledger.key("meta")
    found = cast("bytes | None", ledger.client.hget(meta, name))
    if found is None:
        ledger.client.hsetnx(meta, name, ours)
        found = cast(bytes, ledger.client.hget(meta, name))
    return found.decode()
