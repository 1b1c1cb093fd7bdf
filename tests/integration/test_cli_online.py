"""`tiercast check --online`: each vendor proves that it takes the credential."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tiercast.cli import main
from tiercast.testing.vendors import Answer
from tiercast.testing.vendors.hubspot import FakeHubSpot

CONFIGURATION = """
[actions.crm]
kind = "hubspot"
token = "env:HUBSPOT_TOKEN"
id = "{{ event.customer.email }}"
base_url = "%s"

[actions.hook]
kind = "webhook"
url = "https://hooks.example.com/x"
secret = "env:HOOK_SECRET"

[actions.note]
kind = "log"
message = "x"

[[rules]]
on = "customer.loyalty.tier.joined"
do = ["crm", "hook", "note"]
"""


@pytest.fixture
def hubspot() -> Iterator[FakeHubSpot]:
    with FakeHubSpot() as server:
        yield server


def check(tmp_path: Path, hubspot: FakeHubSpot, *, token: str = "pat-s3cr3t") -> dict[str, tuple[str, str]]:  # noqa: S107
    """What is said of each action's credential: its level and text."""
    path = tmp_path / "tiercast.toml"
    path.write_text(CONFIGURATION % hubspot.url, encoding="utf-8")
    env = {"TIERCAST_CONFIG": str(path), "HUBSPOT_TOKEN": token, "HOOK_SECRET": "a-secret-of-tests"}
    env |= {"TIERCAST_WEBHOOK_SECRETS": "a-secret-of-tests", "TIERCAST_REDIS_URL": "redis://127.0.0.1:1/0"}
    result = CliRunner(env=env).invoke(main, ["check", "--online", "--json", "--fail-on", "never"])
    assert "pat-" not in result.stdout
    found = json.loads(result.stdout)["findings"]
    # Templates are told of under the same name; the credential comes last.
    return {one["about"]: (one["level"], one["text"]) for one in found if one["about"].startswith("actions.")}


def test_a_good_credential_is_proved_without_an_effect(tmp_path: Path, hubspot: FakeHubSpot) -> None:
    found = check(tmp_path, hubspot)
    assert found["actions.crm"] == ("ok", "the token belongs to account 4242")
    assert found["actions.hook"][0] == "ok"
    assert "no harmless call" in found["actions.hook"][1]
    assert "credential" not in found["actions.note"][1]
    assert [request.method for request in hubspot.requests] == ["GET"]


def test_a_refused_credential_is_an_error(tmp_path: Path, hubspot: FakeHubSpot) -> None:
    level, text = check(tmp_path, hubspot, token="pat-wrong")["actions.crm"]
    assert level == "error"
    assert "401" in text


def test_a_vendor_that_is_away_proves_nothing(tmp_path: Path, hubspot: FakeHubSpot) -> None:
    hubspot.queue.append(Answer(status=503))
    level, text = check(tmp_path, hubspot)["actions.crm"]
    assert level == "warning"
    assert "could not be checked" in text


def test_offline_and_online_exclude_each_other() -> None:
    assert CliRunner().invoke(main, ["check", "--offline", "--online"]).exit_code == 2
