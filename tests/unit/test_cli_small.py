"""Help, names of events, changes to samples, and what is shown of a bug."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from click.testing import CliRunner

from tiercast.cli import main
from tiercast.cli.posting import UnusableChange, read_event, samples
from tiercast.cli.reasons import grouped
from tiercast.config.events import event_fault, event_warning, whole_name
from tiercast.faults import fault_text
from tiercast.samples import envelope, sample_data

JOINED = "customer.loyalty.tier.joined"


@pytest.mark.parametrize("args", [["-h"], ["help"], ["jobs", "redo", "-h"], ["help", "jobs", "redo"]])
def test_help_is_where_one_looks_for_it(args: list[str]) -> None:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_help_of_what_there_is_not() -> None:
    result = CliRunner().invoke(main, ["help", "jobs", "nonsense"])
    assert result.exit_code == 2
    assert "redo" in result.stderr


@pytest.mark.parametrize("text", ["joined", "tier.joined", "loyalty.tier.joined"])
def test_the_last_words_name_a_tier_event(text: str) -> None:
    assert whole_name(text) == JOINED
    assert JOINED in (event_fault(text) or "")


def test_names_that_no_sender_has() -> None:
    assert event_fault("customer.updated") is event_warning("customer.updated") is None
    assert event_warning("customer.*") is None
    assert event_fault("customer.updatd") is None
    assert "customer.updated" in (event_warning("customer.updatd") or "")
    assert "documents no event" in (event_warning("zzz.*") or "")
    assert whole_name("nonsense") is None


def data_of(changes: list[tuple[tuple[str, ...], Any]], **more: Any) -> dict[str, Any]:
    (made,) = samples(JOINED, count=1, changes=changes, **more)
    assert json.loads(made.body)["data"] == made.data
    return made.data


def test_changes_reach_into_objects_and_lists() -> None:
    data = data_of([(("customer", "metadata", "region"), "de"), (("list",), [1, 2]), (("list", "1"), None)])
    assert data["customer"]["metadata"]["region"] == "de"
    assert data["list"] == [1, None]
    assert data_of([(("new", "deep"), 1)])["new"] == {"deep": 1}


@pytest.mark.parametrize("path", [("customer", "id", "x"), ("list", "7"), ("list", "x")])
def test_a_change_that_has_no_place(path: tuple[str, ...]) -> None:
    with pytest.raises(UnusableChange, match="data"):
        data_of([(("list",), [1]), (path, 1)])


def test_a_saved_event_gets_a_new_id_and_stays_as_it_is() -> None:
    saved = envelope(JOINED, sample_data(JOINED, name="Bo"), event_id="evcus_old", title="mine")
    given = read_event(io.BytesIO(json.dumps(saved).encode()))
    (made,) = samples(JOINED, count=1, given=given, customer="cust_x")
    sent = json.loads(made.body)
    assert sent["event"]["id"] == made.id != "evcus_old"
    assert (sent["type"], sent["data"]["customer"]["name"]) == ("mine", "Bo")
    assert sent["data"]["customer"]["id"] == "cust_x"


def test_trigger_says_what_is_wrong_with_a_change() -> None:
    result = CliRunner().invoke(main, ["trigger", "--set", "customer.name=x"])
    assert result.exit_code == 2
    assert "begins with data" in result.stderr


def test_a_bug_shows_its_type_and_place_and_no_value() -> None:
    try:
        dict[str, str]()["ada@example.com"]
    except KeyError as error:
        text = fault_text(error)
    assert text.startswith("KeyError in test_cli_small.py, line ")
    assert "ada" not in text
    assert fault_text(ValueError("ada")) == "ValueError"


def test_reasons_that_differ_in_ids_only_are_one() -> None:
    assert grouped(["HTTP 503, request 1a2b3c4d5e", "HTTP 503, request 9f8e7d6c5b", "HTTP 401", None]) == {
        "HTTP 503, request …": 2,
        "HTTP 401": 1,
        "no reason on record": 1,
    }
