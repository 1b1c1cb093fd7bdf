"""The check of the Lua scripts finds what it is for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.luacheck import check

CONFIG = Path(__file__).parents[2] / ".luacheckrc"

PART = "local function used() return redis.call('PING') end\nlocal function unused() return 1 end\n"


def test_it_finds_globals_and_what_no_script_uses_and_nothing_else() -> None:
    luacheck = shutil.which("luacheck")
    if luacheck is None:
        pytest.skip("luacheck is not installed (Debian: lua-check)")

    found = check({"one": f"#!lua\n{PART}return used()\n", "two": f"#!lua\n{PART}return missing\n"}, luacheck, CONFIG)

    assert [text.partition(":")[0] for text in found] == ["two", "no script uses it"]
    assert "missing" in found[0]
    assert "unused" in found[1]
