"""Names of jobs and heads of events come apart again as they were put together."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercast.ledger import keys


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("shop:ev_1:email", ("shop", "ev_1", "email")),
        ("shop:urn:uuid:7:email", ("shop", "urn:uuid:7", "email")),
        ("shop:ev_1:email:r2", ("shop", "ev_1", "email")),
        ("shop:urn:r3:email:r12", ("shop", "urn:r3", "email")),
        ("shop:ev_1:rewards", ("shop", "ev_1", "rewards")),
    ],
)
def test_a_job_tells_source_event_and_action(key: str, parts: tuple[str, str, str]) -> None:
    assert keys.parts_of(key) == parts


@given(st.integers(), st.sampled_from(["", "envelope"]), st.text())
def test_a_head_gives_back_what_went_in(created_us: int, form: str, type: str) -> None:
    assert keys.parts_of_head(keys.event_head(created_us, form, type)) == (created_us, form, type)


def test_no_head_is_an_empty_one() -> None:
    assert keys.parts_of_head(None) == (0, "", "")


@pytest.mark.parametrize(
    ("key", "round"), [("shop:ev_1:email", 1), ("shop:ev_1:email:r2", 2), ("shop:r3:email:r12", 12)]
)
def test_a_job_tells_its_round(key: str, round: int) -> None:
    assert keys.round_of(key) == round


def test_the_key_that_a_vendor_gets_is_the_jobs_own_or_that_of_its_once_group() -> None:
    assert keys.sent_key("shop:urn:7:points", None) == "shop:urn:7:points"
    assert keys.sent_key("shop:urn:7:points", "abc") == keys.sent_key("shop:ev_8:points", "abc")
    assert keys.sent_key("shop:ev_8:points", "abc") == "shop:once-abc:points"
    assert keys.sent_key("shop:ev_8:points", "xyz") != keys.sent_key("shop:ev_8:points", "abc")


def test_a_sent_key_tells_action_and_group() -> None:
    assert keys.parts_of_sent_key(keys.sent_key("shop:ev_8:points", "abc")) == ("points", "abc")
    assert keys.parts_of_sent_key("shop:ev_8:points") is None
    assert keys.parts_of_sent_key("points") is None


_LUA = {
    file.name: re.sub(r"--.*", "", file.read_text(encoding="utf-8"))
    for file in (files("tiercast.ledger") / "lua").iterdir()
}
_SCRIPTS = "\n".join(_LUA.values())
_DOCUMENTED = keys.__doc__ or ""


def _section(name: str) -> str:
    """What the documentation says of one key."""
    found = re.search(rf"^    {name}(?=[:< ]).*?(?=^    \w|\Z)", _DOCUMENTED, re.MULTILINE | re.DOTALL)
    assert found, f"{name} is not documented"
    return found[0]


def test_every_key_of_a_script_is_documented() -> None:
    used = set(re.findall(r"P \.\. '([a-z_]+(?::[jd](?=:))?)", _SCRIPTS)) - {"ix"}
    assert used >= {"lane", "due", "rate", "answered", "claim", "trim"}
    for name in used:
        _section(name)


def test_every_documented_field_of_a_lane_is_used_and_every_used_one_documented() -> None:
    documented = _section("lane")
    commands = re.findall(
        r"call\('H(?:SET|SETNX|GET|MGET|DEL|INCRBY|EXISTS)', (?:lane_key|P \.\. 'lane:' \.\. [\w.]+), ([^)]*)", _SCRIPTS
    )
    used = {field for command in commands for field in re.findall(r"'([a-z_]+)'", command)}
    assert used >= {"hold_until", "paused", "bell", "drained", "extra_bell", "probe", "hold_total"}
    for field in used:
        assert re.search(rf"\b{field}\b", documented), f"{field} of a lane is not documented"
    assert not re.search(r"\b(ticket|second|answered)\b", documented)


@pytest.mark.parametrize("field", ["ff", "fh", "m", "mt", "n", "b", "og", "cg", "us", "ps", "u", "r", "z", "s", "d"])
def test_the_fields_of_a_job_are_documented(field: str) -> None:
    assert re.search(rf"\b{field}\b", _section("j"))
