"""The configurations that we ship: the example, as it stands and with everything switched on, and the demo."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tiercast.actions import Skip
from tiercast.config import load_config, load_sources
from tiercast.config.kinds import load_kind
from tiercast.config.load import Common
from tiercast.config.model import ActionSpec, Config
from tiercast.config.rules import match
from tiercast.errors import ConfigError
from tiercast.event import TIER_EVENTS, Event
from tiercast.samples import sample_data, sample_event, variants
from tiercast.settings import load_settings

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "tiercast.example.toml").read_text(encoding="utf-8")

#: The example with every line switched on that is a key.
ALL_ON = re.sub(r"(?m)^#(?=\S)", "", EXAMPLE)

BUILT_IN = ("email", "hubspot", "webhook", "log")


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"env:([A-Z_]+)", EXAMPLE.replace("env:NAME", "")):
        monkeypatch.setenv(name, f"the value of {name}")


def load(text: str, folder: Path, *, webhook_secrets: str = "tea-secret-of-tests") -> Config:
    path = folder / "tiercast.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(load_settings({"TIERCAST_CONFIG": str(path), "TIERCAST_WEBHOOK_SECRETS": webhook_secrets}))


def renders(config: Config, name: str, event: Event) -> bool:
    """Whether an action's options render, or are skipped; anything else fails the test."""
    try:
        config.actions[name].render(event)
    except Skip:
        return False
    return True


def test_the_example_loads_without_a_warning(tmp_path: Path) -> None:
    config = load(EXAMPLE, tmp_path)
    assert config.warnings == ()
    assert {spec.kind for spec in config.actions.values()} == set(BUILT_IN)
    assert config.actions["crm-tier"].order == "latest"
    assert config.actions["crm-tier"].limits[0].calls == 100
    assert config.actions["welcome-email"].once == ("customer", "tier")


def test_the_example_says_which_variables_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given an environment with none of the secrets
    named = set(re.findall(r"env:([A-Z_]+)", "".join(line for line in EXAMPLE.splitlines() if line[:1] != "#")))
    for name in named:
        monkeypatch.delenv(name)
    # Then each is named by a message, and all of them in the head of the example
    with pytest.raises(ConfigError) as caught:
        load(EXAMPLE, tmp_path)
    assert len(str(caught.value).splitlines()) == len(named)
    for name in named:
        assert name in str(caught.value)
        assert name in EXAMPLE.partition("# --- Sources")[0]


def test_the_example_loads_with_everything_switched_on(tmp_path: Path) -> None:
    config = load(ALL_ON, tmp_path)
    assert config.warnings == ()
    assert config.sources["voucherify"].event == "customer.loyalty.tier.joined"
    assert len(config.sources["voucherify"].secrets) == 3


def test_the_example_shows_every_key_there_is() -> None:
    shown = tomllib.loads(ALL_ON)
    assert set(shown) == {"sources", "limits", "actions", "rules"}
    assert set(shown["sources"]["voucherify"]) == {"event", "project", "secrets"}
    assert {key for rule in shown["rules"] for key in rule} == {"name", "on", "when", "do"}
    actions = shown["actions"].values()
    assert {key for action in actions for key in action} >= set(Common().fields)
    for action in actions:
        options = load_kind(action["kind"]).Options().fields
        assert {field.data_key or name for name, field in options.items()} <= set(action), action["kind"]


def test_what_the_example_switches_off_shows_the_defaults(tmp_path: Path) -> None:
    off, on = load(EXAMPLE, tmp_path).actions["crm-tier"], load(ALL_ON, tmp_path).actions["crm-tier"]
    for name in ActionSpec.__slots__:
        if name not in {"options", "limits", "queue", "concurrency", "attempts"}:  # these have none
            assert getattr(off, name) == getattr(on, name), name
    assert dict(off.options.raw) == dict(on.options.raw)


@pytest.mark.parametrize("type_", TIER_EVENTS)
@pytest.mark.parametrize("text", [EXAMPLE, ALL_ON], ids=["example", "all on"])
def test_the_example_bears_every_sample(text: str, type_: str, tmp_path: Path) -> None:
    config = load(text, tmp_path)
    for variant in variants(type_):
        event = sample_event(type_, data=variant.data)
        skipped = [name for name in match(config, event).actions if not renders(config, name, event)]
        assert variant.name != "an ordinary event" or skipped == []


def test_what_the_example_writes(tmp_path: Path) -> None:
    config = load(EXAMPLE, tmp_path)
    event = sample_event(tier="Silver leaf", name="Ada")
    mail = config.actions["welcome-email"].render(event)
    assert mail.subject == "Welcome to Silver leaf"
    assert mail.text.endswith("you are now in Silver leaf. From 500 points on, the next tier is yours.\n")
    top = config.actions["welcome-email"].render(sample_event(top=True))
    assert top.text.endswith("you are now in Gold leaf.\n")


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The demo, as processes of `tiercast up` load it where there is no file."""
    monkeypatch.chdir(tmp_path)
    return load_config(
        load_settings({"TIERCAST_DEMO_DIR": str(tmp_path), "TIERCAST_WEBHOOK_SECRETS": "tea-secret-of-tests"})
    )


def test_the_demo_needs_no_account(demo: Config, tmp_path: Path) -> None:
    assert demo.path is None
    assert demo.warnings == ()
    assert not any(spec.make().outside for spec in demo.actions.values())
    assert demo.actions["welcome-email"].options.raw.server == f"file:{tmp_path / 'mail'}"


@pytest.mark.parametrize("type_", TIER_EVENTS)
def test_the_demo_bears_every_sample(demo: Config, type_: str) -> None:
    for variant in variants(type_):
        event = sample_event(type_, data=variant.data)
        matched = match(demo, event).actions
        assert ("welcome-email" in matched) == type_.endswith(("joined", "upgraded"))
        assert matched[0] == "announce"
        demo.actions["announce"].render(event)


def test_the_demo_skips_a_null_email(demo: Config) -> None:
    with pytest.raises(Skip, match="option to is empty"):
        demo.actions["welcome-email"].render(sample_event(email=None))


def test_the_demo_says_nothing_odd_without_a_campaign(demo: Config) -> None:
    data = sample_data() | {"campaign": None}
    assert "Silver leaf." in demo.actions["welcome-email"].render(sample_event(data=data)).text


def test_a_file_goes_before_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiercast.toml").write_text('[actions.only]\nkind = "log"\nmessage = "x"\n')
    environ = {"TIERCAST_DEMO_DIR": str(tmp_path), "TIERCAST_WEBHOOK_SECRETS": "tea-secret-of-tests"}
    assert list(load_config(load_settings(environ)).actions) == ["only"]


def test_a_named_file_that_is_missing_is_no_reason_for_the_demo(tmp_path: Path) -> None:
    settings = load_settings({"TIERCAST_DEMO_DIR": str(tmp_path), "TIERCAST_CONFIG": str(tmp_path / "none.toml")})
    for read in (load_config, load_sources):
        with pytest.raises(ConfigError, match=r"none\.toml"):
            read(settings)


def test_without_a_file_the_receiver_has_the_source_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({"TIERCAST_WEBHOOK_SECRETS": "new-secret-of-tests,old-secret-of-tests"})
    assert load_sources(settings)["voucherify"].secrets == ("new-secret-of-tests", "old-secret-of-tests")
    with pytest.raises(ConfigError, match=r"tiercast\.example\.toml"):
        load_config(settings)
