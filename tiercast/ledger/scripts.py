"""The ledger's Lua scripts, put together from their parts."""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha1
from importlib.resources import files

from .states import in_lua

#: Every script, one file each, with its keys and arguments in its head.
NAMES = (
    "record",
    "deliveries",
    "jobs",
    "renew",
    "due",
    "operate",
    "operations",
    "operation",
    "audit",
    "trim",
    "forget",
    "shift",
    "start_filing",
    "filing",
    "bring_back",
)

_PARTS = {
    "--COMMON": "_common.lua",
    "--PARKING": "_parking.lua",
    "--FILING": "_filing.lua",
    "--NAMES": "_names.lua",
    "--MARKS": "_marks.lua",
    "--CLAIM": "_claim.lua",
    "--LEAVING": "_leaving.lua",
    "--AUDIT": "_audit.lua",
    "--VERBS": "_verbs.lua",
    "--OPERATIONS": "_operations.lua",
}

#: `--STATES job: final indexed` in a part: the tables of states that it needs, made from states.py.
_STATES = re.compile(r"^--STATES (\w+): (.+)$", re.MULTILINE)

#: In tests the clock can be set, and how much one script visits of a large group; in production neither.
_TEST_BUDGET = "budget = tonumber(call('GET', P .. 'budget') or budget)"
_TEST_CLOCK = "local set = redis.call('GET', P .. 'clock')\n  if set then return tonumber(set) * 1000 end"


@cache
def source(name: str, *, test_clock: bool = False) -> str:
    """Put a script together."""
    folder = files(__package__) / "lua"
    text = (folder / f"{name}.lua").read_text(encoding="utf-8")
    for mark, part in _PARTS.items():
        if mark in text:
            text = text.replace(mark, (folder / part).read_text(encoding="utf-8"))
    text = _STATES.sub(_state_tables, text)
    text = text.replace("--BUDGET", _TEST_BUDGET if test_clock else "")
    return text.replace("--CLOCK", _TEST_CLOCK if test_clock else "")


def _state_tables(mark: re.Match[str]) -> str:
    return "\n".join(in_lua(mark[1], name) for name in mark[2].split())


@cache
def digest(name: str, *, test_clock: bool = False) -> str:
    """Name a script as `EVALSHA` wants it."""
    return sha1(source(name, test_clock=test_clock).encode(), usedforsecurity=False).hexdigest()
