"""`tiercast init`, and options that come from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tiercast.cli import main
from tiercast.config import load_config
from tiercast.errors import ConfigError
from tiercast.settings import load_settings, unknown_variables

ENV = {"TIERCAST_WEBHOOK_SECRETS": "a-secret-of-the-test"}


def test_what_it_writes_can_be_loaded_and_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "tiercast.toml"
    done = CliRunner().invoke(main, ["init", str(path)])
    assert done.exit_code == 0
    config = load_config(load_settings(ENV | {"TIERCAST_CONFIG": str(path)}))
    assert set(config.actions) == {"announce", "welcome-email"}
    assert config.warnings == ()

    path.write_text("mine")
    again = CliRunner().invoke(main, ["init", str(path)])
    assert again.exit_code == 1
    assert "exists and is left as it is" in again.output
    assert path.read_text() == "mine"


def test_what_it_shows_can_be_switched_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiercast.toml"
    CliRunner().invoke(main, ["init", str(path)])
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line[1:] if line[:1] == "#" and line[1:2] not in ("", " ") else line for line in lines))
    monkeypatch.setenv("HUBSPOT_TOKEN", "token")
    assert "crm-tier" in load_config(load_settings(ENV | {"TIERCAST_CONFIG": str(path)})).actions


def test_an_address_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiercast.toml"
    path.write_text(
        '[actions.mail]\nkind = "email"\nserver = "env:MAIL_SERVER"\nfrom = "env:MAIL_FROM"\n'
        'to = "{{ event.customer.email }}"\nsubject = "env: no reference"\ntext = "hello"\n'
    )
    monkeypatch.setenv("MAIL_SERVER", "file:mails")
    monkeypatch.setenv("MAIL_FROM", "rewards@shop.example")
    settings = load_settings(ENV | {"TIERCAST_CONFIG": str(path)})
    options = load_config(settings).actions["mail"].options
    assert options.raw["server"] == "file:mails"

    monkeypatch.delenv("MAIL_SERVER")
    with pytest.raises(ConfigError, match=r"actions\.mail\.server: the environment variable MAIL_SERVER is not set"):
        load_config(settings)


def test_unknown_variables_are_named_with_the_nearest() -> None:
    (text,) = unknown_variables({"TIERCAST_REDIS_URI": "x", "TIERCAST_LEASE": "3", "OTHER": "y"})
    assert text == (
        "TIERCAST_REDIS_URI is no variable of Tiercast, so it changes nothing. Did you mean TIERCAST_REDIS_URL?"
    )


def test_variables_that_the_configuration_or_another_variable_refers_to_are_known(tmp_path: Path) -> None:
    config = tmp_path / "own.toml"
    config.write_text(
        '[actions.a]\ntoken = "env:TIERCAST_TOKEN"\nurl = "https://x/{{ 1 }}?k=env:TIERCAST_KEY"\n[[broken'
    )
    environ = {
        "TIERCAST_CONFIG": str(config),
        "TIERCAST_TOKEN": "x",
        "TIERCAST_KEY": "x",
        "TIERCAST_EXTRA_HEADER": "x-key: env:TIERCAST_DOOR_KEY",
        "TIERCAST_DOOR_KEY": "x",
        "TIERCAST_OTHER": "env:TIERCAST_UNUSED",
        "TIERCAST_UNUSED": "x",
    }
    named = [text.partition(" ")[0] for text in unknown_variables(environ)]
    assert named == ["TIERCAST_OTHER", "TIERCAST_UNUSED"]
    # A file that cannot be read hides nothing.
    config.unlink()
    assert "TIERCAST_TOKEN" in [text.partition(" ")[0] for text in unknown_variables(environ)]
