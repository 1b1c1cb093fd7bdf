"""The table of states, and what is made from it."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from tiercast.ledger import scripts
from tiercast.ledger.states import DeliveryState, JobState, State, Verb, in_lua, listed


def lua_sets(text: str) -> dict[str, set[str]]:
    """Tables of the form `local NAME = { member = true, ... }`, by name."""
    found = re.findall(r"^local (\w+) = \{ ((?:\w+ = true(?:, )?)+) \}$", text, re.MULTILINE)
    return {name: set(re.findall(r"(\w+) = true", members)) for name, members in found}


@pytest.mark.parametrize("states", [JobState, DeliveryState])
def test_a_state_is_its_value_and_is_found_by_it(states: type[State]) -> None:
    for state in states:
        assert states(str(state)) is state
        assert f"{state}" == state.value


@pytest.mark.parametrize("states", [JobState, DeliveryState])
def test_what_is_filed_or_needs_an_operator_is_final(states: type[State]) -> None:
    for state in states:
        assert state.final or not (state.filed or state.needs_operator), state


@pytest.mark.parametrize("states", [JobState, DeliveryState])
def test_what_needs_an_operator_can_be_found_and_decided(states: type[State]) -> None:
    for state in states:
        if state.needs_operator:
            assert state.indexed, state
            assert state.traits.verbs, state


def test_verbs_are_those_that_there_are() -> None:
    used = {verb for states in (JobState, DeliveryState) for state in states for verb in state.traits.verbs}
    assert used == set(get_args(Verb))


def test_what_nobody_knows_stays_in_the_ledger() -> None:
    assert [state for state in JobState if state.final and not state.filed] == [JobState.UNCERTAIN]


def test_the_scripts_have_the_sets_of_the_table() -> None:
    sets = lua_sets(scripts.source("jobs"))

    assert sets["FINAL"] == {str(state) for state in JobState if state.final}
    assert sets["INDEXED"] == {str(state) for state in JobState if state.indexed}
    assert sets["NEEDS_OPERATOR"] == {str(state) for state in JobState if state.needs_operator}


def test_no_script_has_a_mark_left() -> None:
    for name in scripts.NAMES:
        assert "--STATES" not in scripts.source(name), name


def test_a_verb_in_lua_is_allowed_where_the_table_says_so() -> None:
    assert lua_sets(in_lua("job", "may_redo")) == {"MAY_REDO": {"done"}}
    assert lua_sets(in_lua("delivery", "may_replay"))["DELIVERY_MAY_REPLAY"] == set(DeliveryState.allowing("replay"))


def test_a_mistake_in_a_mark_is_found() -> None:
    with pytest.raises(AttributeError):
        in_lua("job", "finale")
    with pytest.raises(KeyError):
        in_lua("event", "final")


@pytest.mark.parametrize("states", [JobState, DeliveryState])
def test_help_lists_every_state_with_its_meaning(states: type[State]) -> None:
    lines = listed(states).splitlines()

    assert [tuple(line.split(maxsplit=1)) for line in lines] == [(state, state.meaning) for state in states]
