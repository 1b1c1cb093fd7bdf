"""The configuration file: what it is read into, and one clear message for each kind of mistake."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from marshmallow import fields

from tiercast.actions import Action, Job, Secret
from tiercast.config import load_config, load_sources
from tiercast.config.model import Config
from tiercast.errors import ConfigError
from tiercast.samples import sample_event
from tiercast.settings import load_settings

Load = Callable[..., Config]

MAIL = """
[actions.mail]
kind = "email"
server = "file:mails"
to = "{{ event.customer.email }}"
subject = "Welcome"
text = "Hello"
"""

RULE = """
[[rules]]
on = "customer.loyalty.tier.joined"
do = ["mail"]
"""

GOOD = MAIL + RULE


class Stars(Action):
    """Gives stars, in tests."""

    kind = "stars"

    class Options(Action.Options):
        token = Secret(required=True)
        card = fields.String(required=True, data_key="card-id")
        many = fields.Integer(load_default=3, strict=True)

    def perform(self, job: Job) -> str | None:
        return None


class Nameless(Action):
    """Has no name."""


class Contradicting(Action):
    """Refuses its options."""

    kind = "contradicting"

    def __init__(self, name: str, options: object, *, timeout: float = 10.0) -> None:
        raise ValueError("left and right: give one, not both")


HERE = "tests.unit.test_config"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setenv("STARS_TOKEN", "hunter-two-of-tests")

    def read(text: str | bytes, **environ: str) -> Config:
        path = tmp_path / "tiercast.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(
            load_settings({"TIERCAST_CONFIG": str(path), "TIERCAST_WEBHOOK_SECRETS": "tea-secret-of-tests", **environ})
        )

    return read


def faults(load: Load, text: str | bytes, **environ: str) -> list[str]:
    """The messages that a file is refused with, without the file's name, which each begins with."""
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    lines = str(caught.value).splitlines()
    for line in lines:
        assert "tiercast.toml: " in line
        assert "Traceback" not in line
        assert "hunter-two-of-tests" not in line
        assert "tea-secret-of-tests" not in line
    return [line.partition("tiercast.toml: ")[2] for line in lines]


def action(extra: str) -> str:
    """The good configuration, with more in its action."""
    return f"{MAIL}{extra}\n{RULE}"


def rule(text: str) -> str:
    """The good configuration, with a second rule."""
    return f"{GOOD}\n[[rules]]\n{text}\n"


# --- what is good


def test_the_whole_of_it(load: Load) -> None:
    config = load(
        """
        [sources.shop]
        secrets = ["env:STARS_TOKEN"]
        event = "customer.loyalty.tier.left"
        [limits.vendor]
        rate = "100/10s"
        [actions.stars]
        kind = "tests.unit.test_config:Stars"
        token = "env:STARS_TOKEN"
        card-id = "{{ event.customer.id }}"
        order = "latest"
        once = ["customer", "tier"]
        rate = "5/min"
        limit = "vendor"
        concurrency = 4
        batch = 7
        timeout = 2.5
        attempts = 3
        backoff = 1
        backoff_max = 60
        queue = "slow"
        [[rules]]
        on = ["customer.loyalty.tier.*", "customer.created"]
        when = "event.customer.email"
        do = ["stars"]
        """
    )
    assert config.warnings == ()
    assert config.sources["shop"].secrets == ("hunter-two-of-tests",)
    assert config.sources["shop"].event == "customer.loyalty.tier.left"
    assert config.sources["voucherify"].secrets == ("tea-secret-of-tests",)
    spec = config.actions["stars"]
    assert (spec.name, spec.kind, spec.cls.__name__) == ("stars", "stars", "Stars")
    assert (spec.order, spec.once, spec.queue) == ("latest", ("customer", "tier"), "slow")
    assert (spec.concurrency, spec.batch, spec.attempts) == (4, 7, 3)
    assert (spec.timeout, spec.backoff, spec.backoff_max) == (2.5, 1.0, 60.0)
    assert [(limit.name, limit.calls, limit.seconds) for limit in spec.limits] == [
        ("vendor", 100, 10.0),
        ("rate:stars", 5, 60.0),
    ]
    assert config.rules[0].on == ("customer.loyalty.tier.*", "customer.created")
    assert config.rules[0].actions == ("stars",)
    assert spec.make().options.token == "hunter-two-of-tests"
    assert spec.render(sample_event(customer_id="cust_1")).card == "cust_1"


@pytest.mark.parametrize(
    ("rate", "calls", "seconds"),
    [
        ("100/10s", 100, 10),
        ("1/s", 1, 1),
        ("2000/min", 2000, 60),
        ("9/m", 9, 60),
        ("100/h", 100, 3600),
        ("5/1.5s", 5, 1.5),
    ],
)
def test_rates(load: Load, rate: str, calls: int, seconds: float) -> None:
    limit = load(GOOD + f'[limits.vendor]\nrate = "{rate}"\n').limits["vendor"]
    assert (limit.calls, limit.seconds) == (calls, seconds)


def test_secrets_from_files_start_at_the_folder_of_the_configuration(load: Load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-a-file-of-tests\n")
    config = load(GOOD + '[sources.shop]\nsecrets = ["file:secret"]\n')
    assert config.sources["shop"].secrets == ("from-a-file-of-tests",)


def test_the_environments_secrets_add_to_those_of_the_file(load: Load) -> None:
    config = load(
        GOOD + '[sources.voucherify]\nsecrets = ["env:STARS_TOKEN"]\n',
        TIERCAST_WEBHOOK_SECRETS="new-secret-of-tests,hunter-two-of-tests",
    )
    assert config.sources["voucherify"].secrets == ("hunter-two-of-tests", "new-secret-of-tests")


def test_an_action_without_a_rule_is_allowed_and_told(load: Load) -> None:
    config = load(GOOD + '[actions.spare]\nkind = "log"\nmessage = "x"\n')
    assert any("actions.spare" in warning for warning in config.warnings)


def test_no_rule_at_all_is_allowed_and_told(load: Load) -> None:
    assert any("rules" in warning for warning in load(MAIL).warnings)


def test_rules_have_names(load: Load) -> None:
    config = load(rule("name = 'VIPs only'\non = 'a.b'\ndo = ['mail']") + "[[rules]]\non = 'c.d'\ndo = ['mail']\n")
    assert [one.name for one in config.rules] == ["rule 1", "VIPs only", "rule 3"]


SHARED = """
[sources.envelopes]
secrets = ["env:STARS_TOKEN"]
PROJECT
[sources.raw-joined]
secrets = ["env:STARS_TOKEN"]
event = "customer.loyalty.tier.joined"
"""


def test_sources_that_share_a_secret_and_name_no_common_project_are_warned_of(load: Load) -> None:
    def warnings(text: str) -> list[str]:
        return [one for one in load(text + GOOD).warnings if "share a secret" in one]

    (warning,) = warnings(SHARED.replace("PROJECT", ""))
    assert warning.startswith("sources.envelopes, sources.raw-joined: ")
    assert "project =" in warning
    assert "hunter-two" not in warning
    assert warnings(SHARED.replace("PROJECT", 'project = "proj_1"'))
    assert not warnings(SHARED.replace("PROJECT", 'project = "proj_1"') + 'project = "proj_1"\n')
    sources = load(SHARED.replace("PROJECT", 'project = "proj_1"') + GOOD).sources
    assert (sources["envelopes"].own_project, sources["raw-joined"].own_project) == ("proj_1", "raw-joined")


def test_sources_with_secrets_of_their_own_are_not_warned_of(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_TOKEN", "another-secret-of-the-tests")
    text = SHARED.replace("PROJECT", "").replace("env:STARS_TOKEN", "env:OTHER_TOKEN", 1)
    assert not [one for one in load(text + GOOD).warnings if "share a secret" in one]


def test_events_that_are_not_tier_events_can_be_named(load: Load) -> None:
    for name in ("customer.created", "voucher.loyalty_card.points_added", "*", "redemption.*"):
        assert load(rule(f'on = "{name}"\ndo = ["mail"]')).rules[1].on == (name,)


def test_reprs_hold_no_secret(load: Load) -> None:
    config = load(GOOD + '[sources.shop]\nsecrets = ["env:STARS_TOKEN"]\n')
    assert "hunter-two-of-tests" not in repr(config)
    assert "tea-secret-of-tests" not in repr(config)


def test_the_receivers_part_loads_no_kind() -> None:
    code = (
        "import sys; import tiercast.config; from tiercast.config import load_sources\n"
        "print([n for n in sys.modules if n in ('jinja2', 'marshmallow', 'aiohttp', 'worker', 'tiercast.actions')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_receivers_part_does_not_mind_a_fault_in_an_action(tmp_path: Path) -> None:
    path = tmp_path / "tiercast.toml"
    path.write_text('[actions.x]\nkind = "nonsense"\n')
    settings = load_settings({"TIERCAST_CONFIG": str(path), "TIERCAST_WEBHOOK_SECRETS": "tea-secret-of-tests"})
    assert list(load_sources(settings)) == ["voucherify"]


# --- mistakes: the text, the dotted key, and what the message says

MISTAKES: list[tuple[str, str, str]] = [
    # the document
    ("actoins = 1\n" + GOOD, "actoins", "Did you mean actions?"),
    ("actions = 3\n", "actions", "expected tables"),
    ("[actions]\nmail = 3\n", "actions.mail", "expected a table"),
    ("[rules]\non = 'x'\n" + MAIL, "rules", "[[rules]]"),
    # sources
    ("sources = 3\n" + GOOD, "sources", "expected tables"),
    (GOOD + "[sources.shop]\n", "sources.shop.secrets", 'secrets = ["env:'),
    (GOOD + "[sources.shop]\nsecrets = ['hunter-two-of-tests']\n", "sources.shop.secrets[0]", "env:NAME or file:PATH"),
    (GOOD + "[sources.shop]\nsecrets = 'env:X'\n", "sources.shop.secrets", "expected a list"),
    (GOOD + "[sources.shop]\nsecrets = ['env:NOT_SET_X']\n", "sources.shop.secrets[0]", "NOT_SET_X is not set"),
    (GOOD + "[sources.shop]\nsecrets = ['file:/no/where']\n", "sources.shop.secrets[0]", "/no/where cannot be read"),
    (GOOD + "[sources.'My shop']\nsecrets = ['env:STARS_TOKEN']\n", "sources.My shop", "lower-case letters"),
    (
        GOOD + "[sources.shop]\nsecrets = ['env:STARS_TOKEN']\nevents = 'x.y'\n",
        "sources.shop.events",
        "Did you mean event?",
    ),
    (
        GOOD + "[sources.shop]\nsecrets = ['env:STARS_TOKEN']\nevent = 3\n",
        "sources.shop.event",
        "customer.loyalty.tier.joined",
    ),
    # limits
    (GOOD + "[limits.vendor]\n", "limits.vendor.rate", "100/10s"),
    (GOOD + "[limits.vendor]\nrate = 5\n", "limits.vendor.rate", "100/10s"),
    (GOOD + "[limits.vendor]\nrate = '5 a second'\n", "limits.vendor.rate", "100/10s"),
    (GOOD + "[limits.vendor]\nrate = '1/s'\nrates = 3\n", "limits.vendor.rates", "Did you mean rate?"),
    # actions: what all take
    (action("order = 'newest'"), "actions.mail.order", "expected latest or none; found newest"),
    (action("once = ['custmer']"), "actions.mail.once[0]", "expected customer, campaign, tier or type; found custmer"),
    (action("once = ['customer', 'customer']"), "actions.mail.once", "names customer more than once"),
    (action("once = 'customer'"), "actions.mail.once", "list"),
    (action("rate = 'fast'"), "actions.mail.rate", "100/10s"),
    (action("rate = '1/0s'"), "actions.mail.rate", "100/10s"),
    (action("limit = 'vendr'\n[limits.vendor]\nrate = '1/s'"), "actions.mail.limit", "Did you mean vendor?"),
    (action("concurrency = 0"), "actions.mail.concurrency", "expected a whole number from 1 to 10000; found 0"),
    (action("concurrency = '4'"), "actions.mail.concurrency", "expected a whole number from 1 to 10000"),
    (action("batch = 100000"), "actions.mail.batch", "1000"),
    (action("timeout = 'soon'"), "actions.mail.timeout", "number"),
    (action("timeout = inf"), "actions.mail.timeout", "found inf"),
    (action("timeout = 0"), "actions.mail.timeout", "0.1"),
    (action("attempts = 1.5"), "actions.mail.attempts", "expected a whole number from 1 to 1000; found 1.5"),
    (action("backoff = -1"), "actions.mail.backoff", "0"),
    (action("backoff = 100\nbackoff_max = 10"), "actions.mail.backoff", "backoff_max"),
    (action("queue = 'My queue'"), "actions.mail.queue", "lower-case letters"),
    # actions: names and kinds
    ("[actions.'My mail']\nkind = 'log'\nmessage = 'x'\n", "actions.My mail", "lower-case letters"),
    (
        "[actions.'My mail']\nkind = 'log'\nmessage = 'x'\n[[rules]]\non = 'a.b'\ndo = ['My mail']\n",
        "actions.My mail",
        "unusable name",
    ),
    ("[actions.r2]\nkind = 'log'\nmessage = 'x'\n", "actions.r2", "replay"),
    ("[actions.mail]\nmessage = 'x'\n" + RULE, "actions.mail.kind", "is missing; expected a kind's name such as email"),
    ("[actions.mail]\nkind = ':'\n" + RULE, "actions.mail.kind", "expected package.module:ClassName; found :"),
    ("[actions.mail]\nkind = ''\n" + RULE, "actions.mail.kind", "is empty; expected one of"),
    ("[actions.mail]\nkind = 'emial'\n" + RULE, "actions.mail.kind", "Did you mean email?"),
    ("[actions.mail]\nkind = 'no.where:Kind'\n" + RULE, "actions.mail.kind", "No module named 'no'"),
    (f"[actions.mail]\nkind = '{HERE}:Nothing'\n" + RULE, "actions.mail.kind", "Nothing"),
    (f"[actions.mail]\nkind = '{HERE}:RULE'\n" + RULE, "actions.mail.kind", "tiercast.actions.Action"),
    (f"[actions.mail]\nkind = '{HERE}:Nameless'\n" + RULE, "actions.mail.kind", "Nameless"),
    (f"[actions.mail]\nkind = '{HERE}:Contradicting'\n" + RULE, "actions.mail", "left and right: give one"),
    # actions: options of the kind
    (action("subjcet = 'x'"), "actions.mail.subjcet", "Did you mean subject?"),
    (action("tokne = 'hunter-two-of-tests'"), "actions.mail.tokne", "unknown key"),
    (action("cc = 3"), "actions.mail.cc", "expected text; found 3"),
    (action("tls = 'maybe'"), "actions.mail.tls", "expected starttls, tls or none"),
    (action("headers = 3"), "actions.mail.headers", "expected a table; found 3"),
    (action("username = 'u'\npassword = 'hunter-two-of-tests'"), "actions.mail.password", "env:NAME or file:PATH"),
    (action("username = 'u'\npassword = '{{ event.id }}'"), "actions.mail.password", "env:NAME or file:PATH"),
    (action("username = 'u'\npassword = 'env:NOT_SET_X'"), "actions.mail.password", "NOT_SET_X is not set"),
    (MAIL.replace("subject =", "reply_to =") + RULE, "actions.mail.subject", "is missing"),
    (MAIL.replace("file:mails", "http://x") + RULE, "actions.mail.server", "smtp://host"),
    # templates
    (action("cc = '{{ event.costumer.email }}'"), "actions.mail.cc", "customer"),
    (action("cc = '{{ event.customer.emial }}'"), "actions.mail.cc", "email"),
    (action("cc = '{{ evnt.id }}'"), "actions.mail.cc", "evnt"),
    (action("cc = '{{ event.id '"), "actions.mail.cc", "template"),
    (action("cc = '{{ event.id | uper }}'"), "actions.mail.cc", "uper"),
    (action("cc = '{% for x in y %}'"), "actions.mail.cc", ""),
    (action("headers.x = [1]"), "actions.mail.headers.x", "expected text"),
    (action("headers.X-Tier = '{{ event.teir.name }}'"), "actions.mail.headers.X-Tier", "tier"),
    (action('html = """\n<p>\n{{ event.tier.nmae }}\n"""'), "actions.mail.html", "line "),
    # rules
    (rule("do = ['mail']"), "rules[1].on", "customer.loyalty.tier.*"),
    (rule("on = 3\ndo = ['mail']"), "rules[1].on", "customer.loyalty.tier.*"),
    (rule("on = []\ndo = ['mail']"), "rules[1].on", "customer.loyalty.tier.*"),
    (rule("on = ''\ndo = ['mail']"), "rules[1].on", "customer.loyalty.tier.*"),
    (
        rule("on = 'customer.loyalty.tier.joind'\ndo = ['mail']"),
        "rules[1].on",
        "Did you mean customer.loyalty.tier.joined?",
    ),
    (rule("on = 'a.b'"), "rules[1].do", "list of actions"),
    (rule("on = 'a.b'\ndo = 'mail'"), "rules[1].do", "list of actions"),
    (rule("on = 'a.b'\ndo = []"), "rules[1].do", "list of actions"),
    (rule("on = 'a.b'\ndo = ['mial']"), "rules[1].do", "Did you mean mail? (The rule on a.b.)"),
    (rule("name = ''\non = 'a.b'\ndo = ['mail']"), "rules[1].name", "expected a name of 1 to 64 characters"),
    (rule("name = 'a\\tb'\non = 'a.b'\ndo = ['mail']").replace("'a\\tb'", '"a\\tb"'), "rules[1].name", "in one line"),
    (rule("name = 3\non = 'a.b'\ndo = ['mail']"), "rules[1].name", "expected a name"),
    (rule("name = 'rule 1'\non = 'a.b'\ndo = ['mail']"), "rules[1].name", "another rule is called rule 1"),
    (
        rule("name = 'x'\non = 'a.b'\ndo = ['mail']\n[[rules]]\nname = 'x'\non = 'a.b'\ndo = ['mail']"),
        "rules[2].name",
        "another rule is called x",
    ),
    ("[sources.a]\nsecrets = ['env:STARS_TOKEN']\nproject = 'two words'\n" + GOOD, "sources.a.project", "proj_"),
    ("[sources.a]\nsecrets = ['env:STARS_TOKEN']\nproject = 7\n" + GOOD, "sources.a.project", "proj_"),
    (rule("on = 'a.b'\nif = 'x'\ndo = ['mail']"), "rules[1].if", "do, name, on, when"),
    (rule("on = 'a.b'\nwhen = ''\ndo = ['mail']"), "rules[1].when", "is empty; give an expression"),
    (rule("on = 'a.b'\nwhen = 3\ndo = ['mail']"), "rules[1].when", "expression"),
    (rule("on = 'a.b'\nwhen = '{{ event.id }}'\ndo = ['mail']"), "rules[1].when", "without {{ }}"),
    (rule("on = 'a.b'\nwhen = 'event.id = 1'\ndo = ['mail']"), "rules[1].when", "expression"),
    (rule("on = 'a.b'\nwhen = 'event.tier.point > 1'\ndo = ['mail']"), "rules[1].when", "points"),
    (rule("on = 'a.b'\nwhen = 'evnt.id'\ndo = ['mail']"), "rules[1].when", "evnt"),
]


@pytest.mark.parametrize(
    ("text", "key", "says"), MISTAKES, ids=[f"{key}-{i}" for i, (_, key, _) in enumerate(MISTAKES)]
)
def test_a_mistake_has_one_message_with_its_key(load: Load, text: str, key: str, says: str) -> None:
    (told,) = faults(load, text)
    assert told.startswith(f"{key}: ")
    assert says in told


def test_a_name_with_a_line_break_or_a_terminals_code_stays_one_plain_line(load: Load) -> None:
    (told,) = faults(load, action('"a\\nb\\u001b[2J" = "x"'))
    assert told.startswith(r"actions.mail.a\nb\x1b[2J: unknown key.")


def test_all_mistakes_are_told_at_once(load: Load) -> None:
    text = action("timeout = 'soon'\nsubjcet = 'x'") + "[limits.vendor]\nrate = 5\n[[rules]]\ndo = ['mial']\n"
    assert {fault.partition(": ")[0] for fault in faults(load, text)} == {
        "actions.mail.timeout",
        "actions.mail.subjcet",
        "limits.vendor.rate",
        "rules[1].on",
        "rules[1].do",
    }


def test_a_rule_that_names_an_action_with_a_fault_is_not_wrong_as_well(load: Load) -> None:
    assert len(faults(load, action("timeout = 'soon'"))) == 1


def test_an_option_goes_by_the_files_name_for_it(load: Load) -> None:
    text = f"[actions.mail]\nkind = '{HERE}:Stars'\ntoken = 'env:STARS_TOKEN'\n{RULE}"
    assert faults(load, text) == ["actions.mail.card-id: is missing"]


def test_an_option_of_the_wrong_type_is_found_at_start(load: Load) -> None:
    text = f"[actions.mail]\nkind = '{HERE}:Stars'\ntoken = 'env:STARS_TOKEN'\ncard-id = 'x'\nmany = 'lots'\n{RULE}"
    (told,) = faults(load, text)
    assert told.startswith("actions.mail.many: ")


def test_a_kinds_own_option_is_never_shown_as_text(load: Load) -> None:
    # Given a secret that was pasted beside the place where it belongs
    (told,) = faults(load, action("tls = 'hunter-two-of-tests'"))
    # Then the message says what belongs there, and not what stands there
    assert told == "actions.mail.tls: expected starttls, tls or none"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[actions\n", "line 1"),
        ("[actions.mail]\nkind = 'a'\nkind = 'b'\n", "line 3"),
        (b"# \xff\xfe\n", "tiercast.toml"),
    ],
)
def test_what_is_no_toml(load: Load, text: str | bytes, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    (line,) = str(caught.value).splitlines()
    assert "tiercast.toml" in line
    assert says in line


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(load_settings({"TIERCAST_CONFIG": str(tmp_path)}))


def test_a_named_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml .*TIERCAST_CONFIG"):
        load_config(load_settings({"TIERCAST_CONFIG": str(tmp_path / "none.toml")}))


def test_no_source_at_all_says_how_to_have_one(load: Load) -> None:
    with pytest.raises(ConfigError, match="TIERCAST_WEBHOOK_SECRETS"):
        load(GOOD, TIERCAST_WEBHOOK_SECRETS="")


def test_a_comma_in_a_secret_of_a_file_is_part_of_it(load: Load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter-two-of-tests,and-more")
    config = load(GOOD + '[sources.shop]\nsecrets = ["file:secret"]\n')
    assert config.sources["shop"].secrets == ("hunter-two-of-tests,and-more",)


def test_a_short_secret_is_refused_by_its_reference(load: Load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("short")
    (told,) = faults(load, GOOD + '[sources.shop]\nsecrets = ["file:secret"]\n')
    assert "sources.shop.secrets[0]: the secret behind file:secret has 5 characters" in told
