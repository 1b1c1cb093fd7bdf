"""Loading a whole file: what the reading of it must bear, and which mistakes it tells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tiercast.config import load_config, load_sources
from tiercast.config.events import event_fault
from tiercast.config.model import Config
from tiercast.errors import ConfigError
from tiercast.settings import Settings, load_settings

ACTION = '[actions.note]\nkind = "log"\nmessage = "hello"\n'
RULE = '[[rules]]\non = "customer.loyalty.tier.joined"\ndo = ["note"]\n'


def settings(path: Path, content: str | bytes) -> Settings:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_settings({"TIERCAST_CONFIG": str(path), "TIERCAST_WEBHOOK_SECRETS": "a-secret-of-tests"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tiercast.toml"


def load(path: Path, content: str | bytes) -> Config:
    return load_config(settings(path, content))


def lines(path: Path, content: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(path, content)
    return [line.removeprefix(f"{path}: ") for line in str(error.value).splitlines()]


def test_a_byte_order_mark_is_borne(path: Path) -> None:
    assert list(load(path, b"\xef\xbb\xbf" + (ACTION + RULE).encode()).actions) == ["note"]


def test_bytes_that_are_no_text_are_told_by_line_and_not_shown(path: Path) -> None:
    assert lines(path, b'a = 1\nb = "\xfe"\n') == ["line 2 is no UTF-8; save the file in that encoding"]


def test_deep_nesting_is_a_message(path: Path) -> None:
    assert lines(path, "x = " + "[" * 5000 + "]" * 5000) == ["no valid TOML: it is nested too deeply"]


@pytest.mark.parametrize("rate", ["10/0s", "10/0.0min", "0/s", "fast", "10/fortnight", "10", "-1/s"])
def test_a_rate_that_is_none(path: Path, rate: str) -> None:
    (line,) = lines(path, f'{ACTION}limit = "crm"\n{RULE}[limits.crm]\nrate = "{rate}"\n')
    assert line.startswith("limits.crm.rate: expected calls and a time")


@pytest.mark.parametrize(
    ("rate", "calls", "seconds"),
    [("100/10s", 100, 10), ("2000/min", 2000, 60), ("100/h", 100, 3600), ("3/0.5s", 3, 0.5)],
)
def test_rates(path: Path, rate: str, calls: int, seconds: float) -> None:
    (limit,) = load(path, f'{ACTION}rate = "{rate}"\n{RULE}').actions["note"].limits
    assert (limit.calls, limit.seconds) == (calls, seconds)


def test_an_unknown_limit_tells_the_nearest(path: Path) -> None:
    (line,) = lines(path, f'{ACTION}limit = "hubspt"\n{RULE}[limits.hubspot]\nrate = "1/s"\n')
    assert line == "actions.note.limit: there is no [limits.hubspt]. Did you mean hubspot?"


def test_a_first_wait_longer_than_the_longest(path: Path) -> None:
    (line,) = lines(path, f"{ACTION}backoff = 10\nbackoff_max = 1\n{RULE}")
    assert line == "actions.note.backoff: is longer than backoff_max, which is 1 seconds"


def test_a_mistake_tells_what_was_found(path: Path) -> None:
    assert lines(path, f"{ACTION}concurrency = true\n{RULE}") == [
        "actions.note.concurrency: expected a whole number from 1 to 10000; found true"
    ]
    (line,) = lines(path, f'{ACTION}order = "newest"\n{RULE}')
    assert line.endswith("expected latest or none; found newest")


def test_what_was_found_is_not_told_where_it_may_be_a_secret(path: Path) -> None:
    for literal in ("hunter2", "{{ event.id }}"):
        content = f'[actions.crm]\nkind = "hubspot"\ntoken = "{literal}"\nid = "1"\n'
        (line,) = lines(path, content)
        assert line.startswith("actions.crm.token: expected a reference, env:NAME or file:PATH")
        assert literal not in line


def test_a_kind_that_is_no_text_is_one_mistake(path: Path) -> None:
    assert lines(path, "[actions.note]\nkind = 5\n") == ["actions.note.kind: expected text; found 5"]


def test_what_is_allowed_but_odd_is_a_warning(path: Path) -> None:
    assert load(path, f'{ACTION}[limits.crm]\nrate = "1/s"\n').warnings == (
        "actions.note: no rule uses it",
        "limits.crm: no action uses it",
        "rules: there is none, so every event is ignored",
    )


@pytest.mark.parametrize(
    "on",
    ["customer.loyalty.tier.*", "*", "customer.*.joined", "voucher.published", "customer.rewarded.loyalty_points",
     "customer.loyalty.updated", "customer.loyalty_card.*", "customer.loyalty.tier.renewed"],
)  # fmt: skip
def test_any_event_can_be_named(on: str) -> None:
    assert event_fault(on) is None


@pytest.mark.parametrize(
    ("on", "meant"),
    [
        ("customer.loyalty.tier.joind", "customer.loyalty.tier.joined"),
        ("custmer.loyalty.tier.joined", "customer.loyalty.tier.joined"),
        ("Customer.Loyalty.Tier.Left", "customer.loyalty.tier.left"),
        ("customer.loyalty.tier.upgarded", "customer.loyalty.tier.upgraded"),
        ("customer.loyality.tier.*", "customer.loyalty.tier.*"),
    ],
)
def test_a_slip_in_a_tier_event_is_found(path: Path, on: str, meant: str) -> None:
    (line,) = lines(path, ACTION + RULE.replace("customer.loyalty.tier.joined", on))
    assert line == f"rules[0].on: no tier event is called {on}. Did you mean {meant}?"


def test_a_slip_in_what_a_bare_object_means_is_found(path: Path) -> None:
    found = settings(path, '[sources.voucherify]\nevent = "customer.loyalty.tier.joind"\n')
    with pytest.raises(
        ConfigError, match=r"sources\.voucherify\.event: .* Did you mean customer\.loyalty\.tier\.joined"
    ):
        load_sources(found)


KIND = '''
from marshmallow import fields
from tiercast.actions import Action

class Stars(Action):
    """Grant some stars to a customer."""
    kind = "stars"

class Broken(Stars):
    def __init__(self, *_, **__):
        raise TypeError("hunter2")

class Taking(Stars):
    class Options(Action.Options):
        timeout = fields.Integer()

class Odd(Stars):
    Options = int
'''


def check(folder: Path, kind: str) -> str:
    """Load a file whose kind stands beside it, in a process that stands in that folder."""
    (folder / "beside.py").write_text(KIND)
    toml = f'[actions.note]\nkind = "beside:{kind}"\n[[rules]]\non = "*"\ndo = ["note"]\n'
    (folder / "tiercast.toml").write_text(toml)
    code = (
        "from tiercast.config import load_config; from tiercast.settings import load_settings;"
        "print(load_config(load_settings({'TIERCAST_WEBHOOK_SECRETS': 'a-secret-of-tests'})).actions['note'].kind)"
    )
    # -P keeps the folder off the path, as it is for an installed command.
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("Stars", "stars"),
        ("Broken", "its kind stars cannot be made with these options: TypeError"),
        ("Taking", "its Options have timeout, which every action has; rename them there"),
        ("Odd", "its Options are no marshmallow schema; derive them from Action.Options"),
        ("Star", "has no attribute 'Star'"),
    ],
)
def test_a_kind_of_one_s_own_beside_the_file(tmp_path: Path, kind: str, told: str) -> None:
    output = check(tmp_path, kind)
    assert output.endswith(told)
    assert "hunter2" not in output
